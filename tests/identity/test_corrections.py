"""Visits stay in memory for minutes and are corrected once; a corrected mistake is not repeated meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import EnrolmentError
from edge.identity.corrections import CorrectedMatcher, Visits
from edge.records import Decision, EventType, Match

ANNA, BEN = "p-aaaaaaaa", "p-bbbbbbbb"


def direction(*values: float) -> NDArray[np.float32]:
    vector = np.zeros(8, np.float32)
    vector[: len(values)] = values
    return vector / np.float32(np.linalg.norm(vector))


def decision(person: str | None, t_s: float, evidence: NDArray[np.float32] | None) -> Decision:
    kind: EventType = "unknown" if person is None else "match"
    return Decision(kind, 1, person, None if person is None else "likely", t_s, True, evidence)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


class AlwaysAnna:
    def match(self, probe: NDArray[np.float32]) -> Match:
        return Match(ANNA, "likely", score=cosine(probe, direction(1)), threshold=0.3, margin=1.0)


def test_the_last_visit_of_each_kind_is_found_until_it_is_corrected_or_too_old() -> None:
    visits = Visits(keep_s=60)
    for t_s, person in enumerate((None, ANNA, None, BEN)):
        visits.note(decision(person, float(t_s), direction(1, t_s)))
    last = visits.last(None)
    assert last.t_s == 2
    visits.forget(last)
    assert visits.last(None).t_s == 0
    visits.expire(60.5)
    with pytest.raises(EnrolmentError, match="no unknown is remembered"):
        visits.last(None)
    assert visits.last(ANNA).t_s == 1
    visits.forget_all()
    with pytest.raises(EnrolmentError, match=f"no match of {ANNA} is remembered"):
        visits.last(ANNA)


def test_by_default_nothing_is_kept_and_the_error_names_the_key() -> None:
    visits = Visits(keep_s=0)
    visits.note(decision(None, 0.0, direction(1)))
    with pytest.raises(EnrolmentError) as refused:
        visits.last(None)
    assert "[people] correct_min" in refused.value.remedy


def test_a_visit_is_a_unit_template_in_private_memory() -> None:
    visits = Visits(keep_s=60)
    evidence = direction(1, 2) * np.float32(0.7)
    visits.note(decision(None, 0.0, evidence))
    evidence[:] = 0
    assert visits.last(None).direction == pytest.approx(direction(1, 2)[None])


def test_a_corrected_face_is_not_taken_for_anna_again_and_anna_still_matches() -> None:
    visits = Visits(keep_s=60)
    matcher = CorrectedMatcher(AlwaysAnna(), visits, cosine)
    stranger, anna = direction(0.5, 1), direction(1, 0.1)
    assert matcher.match(stranger).person == ANNA
    visits.note(decision(ANNA, 0.0, stranger))
    visits.deny(visits.last(ANNA))
    assert matcher.match(direction(0.5, 1, 0.2)).person is None
    assert matcher.match(anna).person == ANNA
    visits.expire(61.0)
    assert matcher.match(stranger).person == ANNA
