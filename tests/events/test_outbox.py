"""The durable queue: order, trimming, limits, and a wall clock that jumps."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import EventError, OutboxError
from edge.events.event import MAX_BYTES
from edge.events.messages import Ack, Settings
from edge.events.outbox import Outbox
from tests.events.samples import BOOT, NOON_MS, match, moment
from tools.rig.publishing import vision_state

WEEK_S = 7 * 86_400.0
Opener = Callable[..., Outbox]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "outbox" / "outbox.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    """Return a function that opens the outbox like another process; all are closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def open_one(max_events: int = 1000, timeout_s: float = 1.0) -> Outbox:
            outbox = Outbox(path, max_events=max_events, max_age_s=WEEK_S, timeout_s=timeout_s)
            stack.callback(outbox.close)
            return outbox

        yield open_one


@pytest.fixture
def outbox(opened: Opener) -> Outbox:
    return opened()


def seqs(outbox: Outbox) -> list[int]:
    return [row.event.seq for row in outbox.pending(10_000)]


def fill(outbox: Outbox, count: int, *, start: int = 1, boot: str = BOOT) -> None:
    for seq in range(start, start + count):
        outbox.append(match(seq, boot=boot), moment())


def test_the_folder_is_made_for_its_owner_alone(path: Path, outbox: Outbox) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert outbox.counts().depth == 0


def test_events_come_back_whole_and_in_order(outbox: Outbox) -> None:
    events = [match(seq, encounter=seq, name="Jane") for seq in range(1, 8)]
    for event in events:
        outbox.append(event, moment(uptime_s=event.seq))
    rows = outbox.pending(100)
    assert [row.event for row in rows] == events
    assert [row.born for row in rows] == [moment(uptime_s=event.seq) for event in events]
    assert [row.event.seq for row in outbox.pending(2, after=rows[2].row)] == [4, 5]


def test_an_event_appended_again_is_one_event(outbox: Outbox) -> None:
    fill(outbox, 2)
    fill(outbox, 2)
    assert seqs(outbox) == [1, 2]


def test_delivered_events_are_gone_after_reopening(path: Path, outbox: Outbox, opened: Opener) -> None:
    fill(outbox, 5)
    outbox.delivered([match(2), match(4)])
    outbox.close()
    again = opened()
    assert seqs(again) == [1, 3, 5]


def test_an_ack_is_cumulative_within_its_boot(outbox: Outbox) -> None:
    other = "f" * 16
    fill(outbox, 4)
    fill(outbox, 4, boot=other)
    assert outbox.acknowledge(BOOT, 3) == 3
    assert [(row.event.boot, row.event.seq) for row in outbox.pending(9)][:2] == [(BOOT, 4), (other, 1)]
    assert outbox.acknowledge(other, 99) == 4
    assert outbox.acknowledge("e" * 16, 99) == 0


def test_overflow_drops_the_oldest_and_counts_them(path: Path, opened: Opener) -> None:
    outbox = opened(max_events=10)
    fill(outbox, 25)
    assert seqs(outbox) == list(range(16, 26))
    assert (outbox.counts().depth, outbox.counts().dropped_full, outbox.counts().dropped) == (10, 15, 15)


def test_overflow_counts_rows_and_not_their_numbers(path: Path, opened: Opener) -> None:
    outbox = opened(max_events=10)
    fill(outbox, 9)
    outbox.delivered(match(seq) for seq in range(2, 9))
    fill(outbox, 8, start=10)
    assert seqs(outbox) == [1, *range(9, 18)]
    assert outbox.counts().dropped == 0


def test_old_events_are_dropped_from_the_head_and_counted(outbox: Outbox) -> None:
    for seq, uptime_s in ((1, 0), (2, 10), (3, WEEK_S), (4, 20)):
        outbox.append(match(seq), moment(uptime_s=uptime_s))
    assert outbox.drop_expired(moment(uptime_s=WEEK_S + 100)) == 2
    assert seqs(outbox) == [3, 4]  # 4 is old too, but it is not at the head
    assert (outbox.counts().dropped_old, outbox.oldest()) == (2, Ack(boot=BOOT, seq=3))


@pytest.mark.parametrize("years", [-50, -1, 1, 50])
def test_a_clock_that_jumps_by_years_drops_nothing_fresh(outbox: Outbox, years: int) -> None:
    jump_ms = years * 365 * 86_400_000
    outbox.append(match(1), moment(NOON_MS, uptime_s=50, kernel_boot="kernel-1"))
    outbox.append(match(2), moment(NOON_MS, uptime_s=900, kernel_boot="kernel-1"))
    assert outbox.drop_expired(moment(NOON_MS + jump_ms, uptime_s=960, kernel_boot="kernel-1")) == 0
    assert outbox.drop_expired(moment(NOON_MS + jump_ms, uptime_s=30, kernel_boot="kernel-2")) == 0
    assert seqs(outbox) == [1, 2]


def test_the_oldest_that_may_still_come_is_known_when_nothing_waits(outbox: Outbox) -> None:
    assert outbox.oldest() is None
    fill(outbox, 3)
    assert outbox.oldest() == Ack(boot=BOOT, seq=1)
    outbox.acknowledge(BOOT, 3)
    assert outbox.oldest() == Ack(boot=BOOT, seq=4)


def test_the_table_itself_refuses_a_large_payload(path: Path, outbox: Outbox) -> None:
    insert = "INSERT INTO events (boot, seq, payload, wall_ms, uptime_ms, kernel_boot) VALUES ('b', 1, ?, 0, 0, '')"
    with sqlite3.connect(path) as db:
        db.execute(insert, (b"x" * MAX_BYTES,))
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(insert.replace("1", "2", 1), (b"x" * (MAX_BYTES + 1),))
    db.close()


def test_an_event_outside_the_schema_never_reaches_the_disk(outbox: Outbox) -> None:
    with pytest.raises(EventError, match="model"):
        outbox.append(match(model="lightcnn9"), moment())
    assert outbox.counts().depth == 0


def test_a_row_that_is_no_event_is_dropped_and_counted_and_blocks_nothing(path: Path, outbox: Outbox) -> None:
    fill(outbox, 3)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET payload = CAST('{\"v\":1}' AS BLOB) WHERE seq = 2")
    db.close()
    assert [row.event.seq for row in outbox.pending(2)] == [1, 3]
    assert (outbox.counts().dropped_damaged, outbox.counts().depth) == (1, 2)


def test_state_reports_and_settings_are_kept(path: Path, outbox: Outbox, opened: Opener) -> None:
    assert (outbox.get_state(), outbox.get_report("problem"), outbox.settings()) == (None, None, Settings())
    outbox.put_state(vision_state())
    outbox.put_state(vision_state(mode="saver", reason="budget"))
    outbox.put_report("problem", b"the broker is away")
    outbox.put_setting("recognition", False)
    again = opened()
    assert again.get_state() == vision_state(mode="saver", reason="budget")
    assert again.get_report("problem") == b"the broker is away"
    assert again.settings() == Settings(recognition=False)


def test_the_other_process_notices_each_write_once(path: Path, outbox: Outbox, opened: Opener) -> None:
    reader = opened()
    reader.changed()
    for seq in itertools.islice(itertools.count(1), 3):
        assert not reader.changed()
        outbox.append(match(seq), moment())
        assert reader.changed()


def test_an_unchanged_setting_is_not_written(path: Path, outbox: Outbox, opened: Opener) -> None:
    reader = opened()
    outbox.put_setting("recognition", False)
    reader.changed()
    outbox.put_setting("recognition", False)
    assert not reader.changed()


def test_a_locked_outbox_is_an_error_that_names_it(path: Path, opened: Opener) -> None:
    opened().close()
    outbox = opened(timeout_s=0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutboxError, match=rf"{path}: another process holds it locked"):
        outbox.append(match(), moment())
    holder.execute("ROLLBACK")
    holder.close()
    outbox.append(match(), moment())
    assert seqs(outbox) == [1]


def test_an_outbox_of_another_version_is_left_alone(path: Path, outbox: Outbox, opened: Opener) -> None:
    outbox.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
        db.execute("ALTER TABLE events ADD COLUMN camera TEXT")
    db.close()
    before = path.read_bytes()
    with pytest.raises(OutboxError, match="another version"):
        opened()
    assert path.read_bytes() == before


def test_a_full_outbox_drops_one_event_for_each_new_one_whoever_else_writes(tmp_path: Path) -> None:
    ours = Outbox.open(tmp_path / "outbox.db", max_events=10, max_age_s=1e9)
    other = Outbox.open(tmp_path / "outbox.db", max_events=10, max_age_s=1e9)
    for seq in range(1, 16):
        ours.append(match(seq), moment())
        ours.append(match(seq), moment())  # again: changes nothing
    assert [row.event.seq for row in ours.pending(20)] == list(range(6, 16))
    other.delivered([match(7), match(8)])
    for seq in (16, 17):
        ours.append(match(seq), moment())
    assert [row.event.seq for row in ours.pending(20)] == [6, *range(9, 18)]
    ours.append(match(18), moment())
    ours.delivered([match(12)])
    ours.append(match(19), moment())
    assert [row.event.seq for row in ours.pending(20)] == [9, 10, 11, *range(13, 20)]
    assert ours.counts().dropped_full == 6


def test_a_full_outbox_is_neither_scanned_at_an_append_nor_checked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox.open(tmp_path / "outbox.db", max_events=100, max_age_s=1e9)
    for seq in range(1, 110):
        outbox.append(match(seq), moment())
    assert outbox._db is not None
    statements: list[str] = []
    outbox._db.set_trace_callback(statements.append)
    for seq in range(110, 120):
        outbox.append(match(seq), moment())
    assert not [statement for statement in statements if "count(*)" in statement]
    outbox.close()
    monkeypatch.setattr("edge.events.database._CHECK_S", 0.0)
    monkeypatch.setattr("edge.events.database._CHECK_STEPS", 10)
    assert len(outbox.pending(200)) == 100
    assert "too large for a complete check" in caplog.text
