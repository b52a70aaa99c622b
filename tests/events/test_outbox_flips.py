"""One flipped bit anywhere in the outbox: delivery continues, and events on other pages survive."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.events.announcements import retained_topics
from edge.events.backlog import Backlog
from edge.events.event import Event
from edge.events.messages import Settings
from edge.events.outbox import Outbox
from edge.events.publisher_status import Status
from tests.events.samples import BOOT, match, moment
from tools.rig.publishing import vision_state

PAGE_BYTES = 4096
EVENTS = 120
WEEK_S = 7 * 86_400.0
KERNEL = "416e06fc-1111-2222-3333-444455556666"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Outbox]:
    with contextlib.closing(Outbox.open(path, max_events=1000, max_age_s=WEEK_S)) as outbox:
        yield outbox


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an outbox with rows in every table."""
    path = tmp_path_factory.mktemp("whole") / "outbox.db"
    with opened(path) as outbox:
        for seq in range(1, EVENTS + 1):
            outbox.append(match(seq), moment(kernel_boot=KERNEL))
        outbox.put_state(vision_state())
        outbox.put_report("retained", b"[]")
        outbox.put_setting("recognition", False)
        outbox.note_lost(3)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")  # noqa: S108 (a folder of its own in it): each of hundreds of files is synced many times
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        logging.disable(logging.CRITICAL)  # there would be thousands of lines about damage
        yield Path(folder) / "outbox" / "outbox.db"
        logging.disable(logging.NOTSET)


def flipped(path: Path, whole: bytes, place: int, bit: int) -> set[int]:
    """Write the file with one bit flipped; returns the events on the damaged page."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    broken = bytearray(whole)
    broken[place] ^= 1 << bit
    path.write_bytes(broken)
    page = whole[place // PAGE_BYTES * PAGE_BYTES :][:PAGE_BYTES]
    return {int(seq) for seq in re.findall(rb'"seq":(\d+),', page)}


def carries_on(path: Path) -> dict[int, Event]:
    """Do all operations of vision and publisher twice; returns the events that the first pass found."""
    with opened(path) as outbox:
        found = {row.event.seq: row.event for row in outbox.pending(1000)}
        outbox.drop_expired(moment(kernel_boot="another"))
        outbox.append(match(1001), moment())
        status = Status(outbox, "glasses-7", 30.0)
        assert status.message(0.0, 0, settled=True) is not None
        outbox.get_report("retained")
    with contextlib.closing(Backlog(path, device="glasses-7", boot=BOOT, max_events=1000, max_age_s=WEEK_S)) as backlog:
        backlog.settings()
        assert backlog.problem is None
    with opened(path) as outbox:
        rows = outbox.pending(1000)
        assert match(1001) in [row.event for row in rows]
        outbox.acknowledge(BOOT, 50)
        outbox.delivered(row.event for row in rows)
        assert outbox.pending(1000) == []
    return found


def check(path: Path, whole: bytes, place: int, bit: int) -> None:
    hit = flipped(path, whole, place, bit)
    found = carries_on(path)
    for seq in set(range(1, EVENTS + 1)) - hit:
        assert found.get(seq) == match(seq), f"event {seq} is lost, bit {bit} at {place} flipped"


def test_a_flipped_bit_loses_at_most_the_events_of_its_page(path: Path, whole: bytes) -> None:
    dice = random.Random(20)
    for _ in range(300):
        check(path, whole, dice.randrange(len(whole)), dice.randrange(8))


def test_a_flipped_bit_in_header_or_definitions_loses_no_event(path: Path, whole: bytes) -> None:
    dice = random.Random(21)
    for place in [*range(100), *(dice.randrange(100, PAGE_BYTES) for _ in range(100))]:
        check(path, whole, place, dice.randrange(8))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET boot = CAST(x'b0' || substr(boot, 2) AS TEXT) WHERE seq = 2",
        "UPDATE events SET boot = 'fedcba9876543210' WHERE seq = 2",
        "UPDATE events SET seq = 900 WHERE seq = 2",
        "UPDATE events SET payload = 5 WHERE seq = 2",
        "UPDATE events SET payload = CAST(replace(CAST(payload AS TEXT), 'match', 'patch') AS BLOB) WHERE seq = 2",
    ],
)
def test_a_row_that_becomes_invalid_in_use_is_counted_and_later_rows_are_sent(path: Path, sql: str) -> None:
    with opened(path) as outbox:
        for seq in (1, 2, 3):
            outbox.append(match(seq), moment())
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(sql)
        assert [row.event for row in outbox.pending(10)] == [match(1), match(3)]
        assert (outbox.counts().dropped_damaged, outbox.counts().damaged_files) == (1, 1)


def test_an_event_with_an_invalid_birth_is_sent_and_never_expires(path: Path) -> None:
    with opened(path) as outbox:
        outbox.append(match(1), moment())
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE events SET uptime_ms = x'00'")
        assert outbox.drop_expired(moment(uptime_s=10**9)) == 0
        assert [row.event for row in outbox.pending(10)] == [match(1)]


def test_invalid_counters_and_reports_do_not_stop_delivery(path: Path) -> None:
    with opened(path) as outbox:
        outbox.append(match(1), moment())
        outbox.put_report("retained", b"[]")
        outbox.note_lost(3)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("INSERT INTO counters VALUES ('dropped_mEmory', 1), ('dropped_full', -1), ('dropped_old', 'x')")
            db.execute("UPDATE reports SET payload = 5")
            db.execute("UPDATE tail SET boot = 'x'")
        outbox.delivered([match(1)])
        assert (outbox.counts().dropped, outbox.get_report("retained"), outbox.oldest()) == (3, b"5", None)


@pytest.mark.parametrize("report", [b'["edge/glasses-7/st#te", "", "a+b"]', b'["\xff"]', b"5", b""])
def test_retained_topics_that_cannot_be_read_are_not_published_to(report: bytes) -> None:
    assert retained_topics(report) == []


def test_rows_that_violate_the_constraints_are_not_salvaged(path: Path) -> None:
    """The tables of this file have no constraints, as a damaged page could look."""
    loose = """
        CREATE TABLE events (row INTEGER PRIMARY KEY, boot, seq, payload, wall_ms, uptime_ms, kernel_boot);
        CREATE TABLE tail (one INTEGER PRIMARY KEY, boot, seq);
        CREATE TABLE settings (key, value);
        CREATE TABLE counters (name, value);
        INSERT INTO events VALUES (1, NULL, 2, CAST('{}' AS BLOB), 1, 1, 'k'), (2, 'x', 3, NULL, 1, 1, 'k');
        INSERT INTO settings VALUES ('recognition', 2);
        INSERT INTO tail VALUES (1, 'x', NULL);
        INSERT INTO counters VALUES ('dropped_old', 'zz');
    """
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path.with_name("outbox.db.damaged-1"))) as db:
        db.executescript(loose)
    with opened(path) as outbox:
        assert (outbox.pending(10), outbox.settings(), outbox.oldest()) == ([], Settings(), None)
        assert (outbox.counts().dropped_damaged, outbox.counts().dropped_old) == (2, 0)


def test_with_a_broken_version_number_it_is_still_the_same_outbox(path: Path, whole: bytes) -> None:
    for bit in range(8):
        check(path, whole, 63, bit)
    assert path.with_name("outbox.db.salvaged-1").exists()
