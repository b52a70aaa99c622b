"""A person is present from a match to the end of the visit, where the owner publishes presence."""

from __future__ import annotations

from edge.events.messages import Presence
from edge.events.presence import PresenceBoard

ANNA, BEN = "p-aaaaaaaa", "p-bbbbbbbb"


def test_a_person_is_here_until_the_last_open_visit_ends() -> None:
    board = PresenceBoard([ANNA], {})
    assert board.state() == {ANNA: Presence(here=False)}
    assert board.note("match", ANNA, 1, 100, picture=False)
    assert board.note("match", ANNA, 2, 110, picture=False)
    assert board.note("end", ANNA, 1, 120, picture=False)
    assert board.state() == {ANNA: Presence(here=True, seen_s=120)}
    assert board.note("end", ANNA, 2, 130, picture=False)
    assert board.state() == {ANNA: Presence(here=False, seen_s=130)}


def test_pictures_strangers_and_people_not_named_change_nothing() -> None:
    board = PresenceBoard([ANNA], {})
    assert not board.note("match", ANNA, 1, 100, picture=True)
    assert not board.note("end", ANNA, 1, 110, picture=False)
    assert not board.note("match", BEN, 2, 120, picture=False)
    assert not board.note("unknown", None, 3, 130, picture=False)
    assert board.state() == {ANNA: Presence(here=False)}


def test_a_new_run_knows_the_time_but_finds_nobody_here() -> None:
    before = {ANNA: Presence(here=True, seen_s=100), BEN: Presence(here=True, seen_s=90)}
    assert PresenceBoard([ANNA], before).state() == {ANNA: Presence(here=False, seen_s=100)}
