"""Faults of the outbox: killed during a write, damaged, truncated, full, read-only; and events held in memory."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import EventError, OutboxError
from edge.events.backlog import Backlog, new_boot
from edge.events.messages import Settings
from edge.events.outbox import Outbox
from tests.events.samples import BOOT, MODEL, match, moment
from tools.rig.publishing import vision_state

WEEK_S = 7 * 86_400.0
_APPEND_FOREVER = """
import sys
from pathlib import Path
from edge.events.backlog import Backlog
from edge.events.moments import moment
backlog = Backlog(Path(sys.argv[1]), device="glasses", boot=sys.argv[2], max_events=100000, max_age_s=1e6)
while True:
    seq = backlog.append(
        event_type="unknown", encounter=1, person=None, band=None, model="a" * 16, born=moment()
    )
    assert backlog.held == 0
    print(seq, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "outbox.db"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Outbox]:
    outbox = Outbox.open(path, max_events=100_000, max_age_s=WEEK_S)
    try:
        yield outbox
    finally:
        outbox.close()


@contextlib.contextmanager
def backlog_at(path: Path, capacity: int = 1000) -> Iterator[Backlog]:
    backlog = Backlog(path, device="glasses", boot=BOOT, max_events=1000, max_age_s=WEEK_S, capacity=capacity)
    try:
        yield backlog
    finally:
        backlog.close()


def append_many(outbox: Outbox, count: int) -> None:
    for seq in range(1, count + 1):
        outbox.append(match(seq), moment())


def fill(path: Path, count: int) -> None:
    with opened(path) as outbox:
        append_many(outbox, count)


def seqs(outbox: Outbox) -> list[int]:
    return [row.event.seq for row in outbox.pending(100_000)]


def add(backlog: Backlog, count: int = 1, person: str = "p-aaaaaaaa") -> None:
    for _ in range(count):
        backlog.append(event_type="match", encounter=1, person=person, band="likely", model=MODEL, born=moment())


def test_killed_at_any_moment_nothing_acknowledged_is_lost(path: Path) -> None:
    dice = random.Random(7)
    told: dict[str, int] = {}
    for _ in range(5):
        boot = new_boot()
        child = subprocess.Popen(
            [sys.executable, "-c", _APPEND_FOREVER, str(path), boot], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(dice.randrange(1, 60)):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines(keepends=True)
        told[boot] = max([int(line) for line in rest if line.endswith("\n")], default=1)
        child.stdout.close()
        child.wait()
    with opened(path) as outbox:
        rows = outbox.pending(100_000)
        assert outbox.counts().damaged_files == 0
    assert list(dict.fromkeys(row.event.boot for row in rows)) == list(told)
    for boot, last in told.items():
        kept = [row.event.seq for row in rows if row.event.boot == boot]
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) >= last


def intact(backlog: Backlog) -> bool:
    return backlog.held == 0 and backlog.problem is None


def checkpointed(path: Path) -> bytearray:
    """Checkpoint the write-ahead log into the main file; returns the file."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return bytearray(path.read_bytes())


@pytest.mark.parametrize(
    "content",
    [b"", b"SQL", b"not a database at all, but long enough to have a header" * 100],
    ids=["empty", "short", "no database"],
)
def test_a_file_that_is_no_database_is_moved_aside_and_reported(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with opened(path) as outbox:
        outbox.append(match(1), moment())
        assert seqs(outbox) == [1]
        assert outbox.counts().damaged_files == 1
    assert path.with_name("outbox.db.salvaged-1").read_bytes() == content
    assert "damaged" in caplog.text


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_readable_part_of_a_truncated_file_is_kept(path: Path, share: float) -> None:
    fill(path, 150)
    whole = checkpointed(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with opened(path) as outbox:
        kept = seqs(outbox)
        assert outbox.counts().damaged_files == 1
        assert set(kept) <= set(range(1, 151))
        outbox.append(match(151), moment())
        assert seqs(outbox) == [*kept, 151]
    assert path.with_name("outbox.db.salvaged-1").exists()


def test_a_damaged_page_loses_only_its_events_and_keeps_the_settings(path: Path) -> None:
    fill(path, 150)
    with opened(path) as outbox:
        outbox.put_setting("recognition", False)
        outbox.note_lost(3)
    whole = checkpointed(path)
    place = whole.index(b'"seq":75,') // 4096 * 4096
    whole[place : place + 4096] = os.urandom(4096)
    path.write_bytes(whole)
    with opened(path) as outbox:
        kept = seqs(outbox)
        assert 120 <= len(kept) < 150
        assert kept == sorted(kept)
        assert {1, 2, 149, 150} <= set(kept)
        assert outbox.settings() == Settings(recognition=False)
        assert (outbox.counts().damaged_files, outbox.counts().dropped_memory) == (1, 3)


def test_damage_found_in_use_is_repaired_without_a_restart(path: Path) -> None:
    fill(path, 60)
    checkpointed(path)
    with opened(path) as outbox:
        assert len(seqs(outbox)) == 60
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        generation = outbox.generation
        assert outbox._db is not None
        outbox._db.execute("PRAGMA shrink_memory")  # without this the pages come from the cache
        outbox.append(match(61), moment())
        assert seqs(outbox)[-1] == 61
        assert outbox.generation > generation
        assert outbox.counts().damaged_files == 1


def test_both_processes_go_on_with_the_new_file(path: Path) -> None:
    fill(path, 3)
    with opened(path) as vision:
        checkpointed(path)
        path.write_bytes(b"overwritten" * 2000)
        with opened(path) as publisher:
            vision.append(match(4), moment())
            assert seqs(publisher)[-1] == 4
            publisher.delivered([match(4)])
            assert 4 not in seqs(vision)


def test_only_the_newest_damaged_files_are_kept(path: Path) -> None:
    path.parent.mkdir()
    for number in range(5):
        path.write_bytes(b"broken %d" % number)
        with opened(path):
            pass
        path.unlink()
    kept = sorted(p.name for p in path.parent.glob("*.salvaged-?"))
    assert kept == ["outbox.db.salvaged-3", "outbox.db.salvaged-4", "outbox.db.salvaged-5"]


def outbox_of(backlog: Backlog) -> Outbox:
    """Return the open outbox of a backlog, to set limits of its connection."""
    assert backlog._outbox is not None
    return backlog._outbox


def page_limit(outbox: Outbox, extra: int | None) -> None:
    """Make SQLite return SQLITE_FULL after this number of pages, as on a full disk."""
    assert outbox._db is not None
    pages: int = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages + extra if extra is not None else 2**30}")


def test_a_full_disk_is_an_error_with_a_remedy_and_damages_nothing(path: Path) -> None:
    with opened(path) as outbox:
        outbox.append(match(1), moment())
        page_limit(outbox, 2)
        with pytest.raises(OutboxError, match=f"{path}: the disk is full") as caught:
            append_many(outbox, 200)
        assert "free space" in caught.value.remedy
        kept = seqs(outbox)
        assert kept == list(range(1, len(kept) + 1))
        page_limit(outbox, None)
        outbox.append(match(len(kept) + 1), moment())
        assert seqs(outbox) == [*kept, len(kept) + 1]


def test_a_full_file_system_holds_events_in_memory_and_then_stores_them_all(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: no right to mount a small tmpfs")
    try:
        ballast = mounted / "ballast"
        with backlog_at(mounted / "outbox" / "outbox.db") as backlog:
            add(backlog)
            with contextlib.suppress(OSError):
                ballast.write_bytes(b"x" * 16_000_000)
            add(backlog, 300)
            assert backlog.held > 0
            assert "the disk is full" in str(backlog.problem)
            ballast.unlink()
            assert backlog.retry()
            assert intact(backlog)
            assert seqs(outbox_of(backlog)) == list(range(1, 302))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_memory_keeps_order_ids_and_numbers_until_the_disk_has_room(path: Path) -> None:
    with backlog_at(path) as backlog:
        add(backlog, 3)
        page_limit(outbox_of(backlog), 0)
        add(backlog, 40)
        held = [event for event, _ in backlog._held]
        assert held
        assert backlog.problem is not None
        page_limit(outbox_of(backlog), None)
        add(backlog)
        assert intact(backlog)
        rows = outbox_of(backlog).pending(100)
        assert [row.event.seq for row in rows] == list(range(1, 45))
        assert [row.event for row in rows][-1 - len(held) : -1] == held


def test_a_backlog_that_overflows_drops_the_oldest_and_counts_them(path: Path) -> None:
    with backlog_at(path, capacity=5) as backlog:
        page_limit(outbox_of(backlog), 0)
        add(backlog, 60)
        assert backlog.held == 5
        page_limit(outbox_of(backlog), None)
        assert backlog.retry()
        kept = seqs(outbox_of(backlog))
        assert kept[-5:] == [56, 57, 58, 59, 60]
        assert len(kept) + outbox_of(backlog).counts().dropped_memory == 60


def test_an_outbox_that_cannot_be_opened_does_not_stop_recognition(tmp_path: Path) -> None:
    blocked = tmp_path / "outbox"
    blocked.write_text("a file where the folder should be")
    with backlog_at(blocked / "outbox.db") as backlog:
        add(backlog, 3)
        assert (backlog.held, backlog.appended, backlog.settings()) == (3, 3, Settings())
        assert not backlog.put_state(vision_state())
        assert str(blocked) in str(backlog.problem)
        blocked.unlink()
        add(backlog)
        assert intact(backlog)
        assert backlog.put_state(vision_state())


def test_a_read_only_folder_is_an_error_that_says_so(path: Path) -> None:
    fill(path, 1)
    script = (
        "import os, sys; from pathlib import Path; from edge.events.outbox import Outbox; os.setuid(65534)\n"
        "Outbox.open(Path(sys.argv[1]), max_events=10, max_age_s=1)"
    )
    if os.geteuid() != 0:
        pytest.skip("skipped: only root can become a user without rights")
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert f"{path}: Permission denied" in run.stderr
    assert "writable for this user" in run.stderr


def test_an_invalid_event_raises_in_the_caller_and_blocks_no_later_event(path: Path) -> None:
    with backlog_at(path) as backlog:
        with pytest.raises(EventError, match="person"):
            backlog.append(
                event_type="match", encounter=1, person="Jane Doe", band="likely", model=MODEL, born=moment()
            )
        add(backlog)
        assert seqs(outbox_of(backlog)) == [1]
