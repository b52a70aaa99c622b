"""The record of met people: encrypted, limited in days, deleted with the person."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import StoreError, StoreKeyError
from edge.identity.keys import StoreKey
from edge.identity.seen import SeenFile, SeenLog, Sighting
from edge.records import Decision, EventType

ANNA, BEN = "p-aaaaaaaa", "p-bbbbbbbb"
DAY_S = 86_400
NOW_S = 1_800_000_000


def visit(log: SeenLog, person: str | None, encounter: int, from_s: int, until_s: int) -> None:
    kind: EventType = "unknown" if person is None else "match"
    log.note(Decision(kind, encounter, person, None, 0.0), from_s)
    log.note(Decision("end", encounter, person, None, 0.0), until_s)


@pytest.fixture
def file(tmp_path: Path) -> SeenFile:
    return SeenFile(tmp_path / "seen.edge", StoreKey(bytes(range(32))))


def test_visits_are_kept_sealed_and_in_order_and_strangers_are_not(file: SeenFile) -> None:
    log = SeenLog(days=7)
    visit(log, ANNA, 1, NOW_S - 100, NOW_S - 50)
    visit(log, None, 2, NOW_S - 90, NOW_S - 80)
    log.write(file, {ANNA, BEN}, 0.0, NOW_S)
    visit(log, BEN, 3, NOW_S - 200, NOW_S - 150)
    log.write(file, {ANNA, BEN}, 60.0, NOW_S)
    assert file.read() == [Sighting(BEN, NOW_S - 200, NOW_S - 150), Sighting(ANNA, NOW_S - 100, NOW_S - 50)]
    raw = file.path.read_bytes()
    assert ANNA.encode() not in raw
    assert file.path.stat().st_mode & 0o077 == 0
    with pytest.raises(StoreKeyError):
        SeenFile(file.path, StoreKey(bytes(range(1, 33)))).read()


def test_removed_people_and_old_visits_are_deleted(file: SeenFile) -> None:
    log = SeenLog(days=7)
    visit(log, ANNA, 1, NOW_S - 8 * DAY_S, NOW_S - 8 * DAY_S + 60)
    visit(log, ANNA, 2, NOW_S - 6 * DAY_S, NOW_S - 6 * DAY_S + 60)
    visit(log, BEN, 3, NOW_S - 60, NOW_S)
    log.write(file, {ANNA, BEN}, 0.0, NOW_S)
    assert [v.person for v in file.read()] == [ANNA, BEN]
    log.write(file, {ANNA}, 0.0, NOW_S)
    assert [v.person for v in file.read()] == [ANNA]
    log.write(file, {ANNA}, 0.0, NOW_S + 2 * DAY_S)
    assert file.read() == []
    assert not file.path.exists()


def test_with_zero_days_nothing_is_recorded(file: SeenFile) -> None:
    log = SeenLog(days=0)
    visit(log, ANNA, 1, NOW_S - 100, NOW_S)
    log.write(file, {ANNA}, 0.0, NOW_S)
    assert not file.path.exists()


def test_a_damaged_file_is_named_with_a_remedy(file: SeenFile) -> None:
    log = SeenLog(days=7)
    visit(log, ANNA, 1, NOW_S - 100, NOW_S)
    log.write(file, {ANNA}, 0.0, NOW_S)
    raw = bytearray(file.path.read_bytes())
    raw[-1] ^= 1
    file.path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"seen\.edge") as refused:
        file.read()
    assert "remove it" in refused.value.remedy
