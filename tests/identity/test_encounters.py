"""Encounters: one decision and one end per visit, over many frames, tracks and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from edge.records import Match
from tests.identity.visits import ANNA, IGNORED, NOBODY, Visit, face, reasons, together, view


def test_a_long_visit_gives_one_match_and_one_end() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=200)
    visit.wait(5.0)
    assert visit.told == [("match", 1, "p-anna"), ("end", 1, "p-anna")]


def test_the_end_carries_the_time_the_person_was_last_seen() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=10, step_s=0.2)
    visit.wait(30.0)
    assert visit.decisions[-1].t_s == pytest.approx(2.0)


def test_a_match_waits_for_the_least_number_of_embeddings() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=2)
    assert visit.told == []
    visit.show(1, 0, ANNA, times=1)
    assert visit.told == [("match", 1, "p-anna")]


def test_a_stranger_is_unknown_only_after_the_most_embeddings() -> None:
    visit = Visit()
    visit.show(1, 0, NOBODY, times=4)
    assert visit.told == []
    visit.show(1, 0, NOBODY, times=1)
    assert visit.told == [("unknown", 1, None)]


def test_a_visit_that_ends_early_is_decided_on_its_embeddings() -> None:
    visit = Visit()
    visit.show(1, 0, NOBODY, times=3)
    visit.wait(5.0)
    assert visit.told == [("unknown", 1, None), ("end", 1, None)]


def test_every_second_embedding_of_a_visit_is_of_the_mirrored_face() -> None:
    visit = Visit()
    asked = [visit.encounters.mirrors(1)]
    for _ in range(3):
        visit.show(1, 0, NOBODY, times=1)
        asked.append(visit.encounters.mirrors(1))
    assert asked == [False, True, False, True]
    assert not visit.encounters.mirrors(2)


@pytest.mark.parametrize("match", [ANNA, NOBODY])
def test_too_few_embeddings_give_no_decision(match: Match) -> None:
    visit = Visit()
    visit.show(1, 0, match, times=2)
    visit.wait(5.0)
    assert visit.told == []


def test_an_ignored_person_gives_no_event() -> None:
    visit = Visit()
    visit.show(1, 0, IGNORED, times=20)
    visit.wait(5.0)
    assert visit.told == []


def test_a_person_lost_and_found_within_the_timeout_is_the_same_visit() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=5)
    visit.wait(2.0)
    visit.show(2, 0, ANNA, times=20)
    visit.wait(5.0)
    assert visit.told == [("match", 1, "p-anna"), ("end", 1, "p-anna")]


def test_a_stranger_lost_and_found_within_the_timeout_is_the_same_visit() -> None:
    visit = Visit()
    visit.show(1, 0, NOBODY, times=6)
    visit.wait(2.0)
    visit.show(2, 0, NOBODY, times=20)
    visit.wait(5.0)
    assert visit.told == [("unknown", 1, None), ("end", 1, None)]


def test_a_person_who_comes_back_later_is_a_new_visit() -> None:
    visit = Visit()
    for track in (1, 2):
        visit.show(track, 0, ANNA, times=5)
        visit.wait(5.0)
    assert visit.told == [
        ("match", 1, "p-anna"),
        ("end", 1, "p-anna"),
        ("match", 2, "p-anna"),
        ("end", 2, "p-anna"),
    ]


def test_two_strangers_at_once_are_two_visits() -> None:
    visit = Visit()
    for _ in range(6):
        visit.show(1, 0, NOBODY, times=1)
        visit.show(2, 1, NOBODY, times=1)
    assert visit.told == [("unknown", 1, None), ("unknown", 2, None)]


def test_a_decided_face_is_embedded_only_from_time_to_time() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=3)
    assert not visit.encounters.wants(1, visit.t_s + 1.0)
    assert visit.encounters.wants(1, visit.t_s + 3.0)


def test_a_track_that_changes_to_another_face_starts_new_evidence() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=5)
    visit.show(1, 1, NOBODY, times=40)
    visit.wait(5.0)
    assert visit.told == [
        ("match", 1, "p-anna"),
        ("unknown", 2, None),
        ("end", 1, "p-anna"),
        ("end", 2, None),
    ]


def test_evidence_is_the_mean_of_the_embeddings_without_normalization() -> None:
    visit = Visit()
    visit.show(1, 0, NOBODY, times=1)
    evidence = visit.show(1, 1, NOBODY, times=1)
    np.testing.assert_allclose(evidence[:2], [0.5, 0.5])


def test_finish_ends_what_is_open() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=5)
    assert [d.event_type for d in visit.encounters.finish()] == ["end"]
    assert visit.encounters.finish() == []


EITHER = Match("p-anna", "likely", 0.8, 0.5, 0.01, rivals=("p-ann",))
UNCLEAR = Match(None, None, 0.8, 0.5, 0.01, rivals=("p-anna", "p-bob"))


def test_two_strangers_in_one_look_are_two_people_even_if_similar() -> None:
    visit = Visit()
    together(visit, [(1, 0, NOBODY), (2, 0, NOBODY)], times=40)
    visit.wait(5.0)
    assert [d.event_type for d in visit.decisions] == ["unknown", "unknown", "end", "end"]


def test_a_similar_stranger_beside_a_recognised_person_is_reported() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=10)
    together(visit, [(1, 0, ANNA), (2, 0, NOBODY)], times=40)
    assert visit.told == [("match", 1, "p-anna"), ("unknown", 2, None)]


def test_a_stranger_seen_beside_somebody_continues_as_another_track() -> None:
    visit = Visit()
    together(visit, [(1, 0, NOBODY), (2, 1, NOBODY)], times=6)
    visit.wait(2.0)
    together(visit, [(3, 1, NOBODY), (4, 0, NOBODY)], times=20)
    assert visit.told == [("unknown", 1, None), ("unknown", 2, None)]


def test_two_tracks_that_change_places_are_reported_once_each() -> None:
    visit = Visit()
    together(visit, [(1, 0, ANNA), (2, 1, NOBODY)], times=30)
    together(visit, [(1, 1, NOBODY), (2, 0, ANNA)], times=60)
    visit.wait(5.0)
    assert sorted(visit.told) == [("end", 1, "p-anna"), ("end", 2, None), ("match", 1, "p-anna"), ("unknown", 2, None)]


def test_the_face_of_somebody_in_view_seen_once_more_is_a_picture_of_them() -> None:
    visit = Visit()
    together(visit, [(1, 0, ANNA), (2, 0, ANNA)], times=40)
    assert visit.told == [("match", 1, "p-anna")]
    assert reasons(visit) == ["twice in view"]


def test_another_face_taken_for_somebody_in_view_is_a_stranger() -> None:
    visit = Visit()
    together(visit, [(1, 0, ANNA), (2, 1, ANNA)], times=40)
    assert visit.told == [("match", 1, "p-anna"), ("unknown", 2, None)]


def test_twins_in_view_are_both_reported() -> None:
    visit = Visit()
    together(visit, [(1, 0, EITHER), (2, 1, EITHER)], times=40)
    assert visit.told == [("match", 1, "p-anna"), ("match", 2, "p-ann")]


def test_a_visit_continues_under_either_of_two_names() -> None:
    visit = Visit()
    visit.show(1, 0, EITHER, times=5)
    visit.wait(2.0)
    visit.show(2, 1, Match("p-ann", "likely", 0.8, 0.5, 0.01, rivals=("p-anna",)), times=20)
    assert visit.told == [("match", 1, "p-anna")]


def test_an_ambiguous_match_is_no_stranger() -> None:
    visit = Visit()
    visit.show(1, 0, UNCLEAR, times=40)
    visit.wait(5.0)
    assert visit.told == []
    assert reasons(visit) == ["margin"]


def test_interrupted_evidence_continues() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=2)
    visit.wait(1.5)
    visit.show(2, 0, ANNA, times=1)
    assert visit.told == [("match", 1, "p-anna")]


def test_a_visit_without_a_decision_has_a_reason() -> None:
    visit = Visit()
    visit.show(1, 0, ANNA, times=2)
    for _ in range(3):
        visit.encounters.refuse(1, ("too dark",))
    visit.wait(5.0)
    (silence,) = visit.encounters.silences()
    assert (silence.reason, silence.looks, silence.embeddings) == ("undecided", 2, 2)
    assert silence.refused == (("too dark", 3),)
    assert visit.encounters.silences() == []


def test_an_ignored_person_is_not_counted_as_a_visit_without_event() -> None:
    visit = Visit()
    visit.show(1, 0, IGNORED, times=20)
    visit.wait(5.0)
    assert visit.encounters.silences() == []


def test_what_a_decision_still_needs_is_counted() -> None:
    visit = Visit()
    needed = [visit.encounters.missing(1)]
    for _ in range(4):
        visit.show(1, 0, NOBODY, times=1)
        needed.append(visit.encounters.missing(1))
    assert needed == [3, 2, 1, 0, 0]


def test_each_face_of_a_picture_is_decided_with_it() -> None:
    visit = Visit()
    visit.show(1, 2, ANNA, times=5)
    matches = [(0, NOBODY), (1, ANNA), (0, NOBODY), (3, IGNORED)]
    faces = [(face(axis).vector, match, view(live=True)) for axis, match in matches]
    visit.decisions += visit.encounters.judge(faces, visit.t_s + 1.0)
    assert [(kind, person) for kind, _, person in visit.told] == [
        ("match", "p-anna"),
        ("end", "p-anna"),
        ("match", "p-anna"),
        ("unknown", None),
        ("unknown", None),
        ("end", "p-anna"),
        ("end", None),
        ("end", None),
    ]
    assert visit.encounters.finish() == []
