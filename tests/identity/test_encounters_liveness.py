"""Encounters and liveness: a picture of a person is marked or denied."""

from __future__ import annotations

import pytest

from edge.records import Match
from tests.identity.visits import ANNA, IGNORED, NOBODY, Visit, face, reasons, view

MARK: frozenset[bool | None] = frozenset()
DENY: frozenset[bool | None] = frozenset({False})
DENY_UNKNOWN: frozenset[bool | None] = frozenset({False, None})


@pytest.mark.parametrize("live", [True, False, None])
@pytest.mark.parametrize("match", [ANNA, NOBODY])
def test_a_decision_says_whether_the_face_was_live_and_its_end_does_not(live: bool | None, match: Match) -> None:
    visit = Visit(MARK)
    visit.live = live
    visit.show(1, 0, match, times=5)
    visit.wait(5.0)
    assert [d.live for d in visit.decisions] == [live, None]
    assert (visit.encounters.live_checks, visit.encounters.pictures) == (1, int(live is False))


@pytest.mark.parametrize("match", [ANNA, NOBODY])
def test_a_denied_picture_is_one_encounter_without_events_for_any_duration(match: Match) -> None:
    visit = Visit(DENY)
    visit.live = False
    visit.show(1, 0, match, times=2000)
    visit.show(2, 0, match, times=2000)
    visit.wait(5.0)
    assert visit.told == []
    assert reasons(visit) == ["picture"]
    assert visit.encounters.pictures == 1
    assert visit.encounters.live_checks == 2  # once per track


@pytest.mark.parametrize("denied", [MARK, DENY])
@pytest.mark.parametrize("match", [ANNA, NOBODY])
def test_a_person_does_not_join_the_encounter_of_a_picture_of_them(
    denied: frozenset[bool | None], match: Match
) -> None:
    visit = Visit(denied)
    visit.live = False
    visit.show(1, 0, match, times=10)
    visit.live = True
    visit.show(2, 0, match, times=10)
    assert [d.live for d in visit.decisions] == ([True] if denied else [False, True])


def test_a_picture_does_not_prolong_the_visit_of_its_person() -> None:
    visit = Visit(DENY)
    visit.show(1, 0, ANNA, times=10)
    visit.live = False
    visit.show(2, 0, ANNA, times=100)
    assert visit.told == [("match", 1, "p-anna"), ("end", 1, "p-anna")]


def test_a_person_beside_a_picture_of_them_is_reported_once() -> None:
    visit = Visit(DENY)
    for _ in range(20):
        visit.t_s += 0.2
        visit.encounters.see([1, 2], visit.t_s)
        for track, live in ((1, False), (2, True)):
            visit.encounters.add(track, face(0), visit.t_s, view(live))
            visit.decisions += visit.encounters.decide(track, ANNA, visit.t_s)
    assert visit.told == [("match", 1, "p-anna")]


def test_unknown_liveness_is_denied_only_where_configured() -> None:
    for denied, told in ((DENY, [("match", 1, "p-anna")]), (DENY_UNKNOWN, [])):
        visit = Visit(denied)
        visit.live = None
        visit.show(1, 0, ANNA, times=5)
        assert visit.told == told
    visit.live = True  # the same person on another track
    visit.show(2, 0, ANNA, times=5)
    assert visit.told == [("match", 1, "p-anna")]


def test_an_ignored_person_is_not_judged() -> None:
    visit = Visit(DENY)
    visit.live = False
    visit.show(1, 0, IGNORED, times=20)
    assert (visit.told, visit.encounters.live_checks, visit.encounters.pictures) == ([], 0, 0)
