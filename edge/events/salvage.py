"""What can still be read of a damaged outbox: each page by itself, whatever has become of what links them.

SQLite follows pointers from the first page down, so one flipped bit near the top hides all that hangs below. Here each
leaf page is put behind the first page of a file that holds one table, and SQLite reads the two as a whole database.
So a damaged page costs its own rows and no others. What is read is told apart by its form, and believed only where
it is exactly what the outbox would have written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from edge.errors import EventError
from edge.events.messages import SETTABLE, Ack
from edge.events.waiting import UNKNOWN, Moment, event_of

COUNTERS = ("dropped_full", "dropped_old", "dropped_memory", "dropped_damaged", "damaged_files")
_COUNT_MAX = 2**50  # beyond what a device lives to count, and their sum is still exact in JSON
_TABLE_LEAF = b"\x0d"  # first byte of a page that holds rows
_LOOSE = "CREATE TABLE loose (first, boot, seq, payload, wall_ms, uptime_ms, kernel_boot)"  # takes any row of ours
_SELECT = "SELECT rowid, first, boot, seq, CAST(payload AS BLOB), wall_ms, uptime_ms, kernel_boot FROM loose"

_SETTINGS = {field.name for field in SETTABLE}


class Found(NamedTuple):
    """A row as its table takes it; `refused`: it was an event, and is none any more."""

    table: Literal["events", "tail", "settings", "counters", "refused"]
    values: tuple[object, ...] = ()


def lenient(text: bytes) -> str:
    """Read text whose bytes may be broken: the row is judged by what it says, and must not block those behind it."""
    return text.decode("utf-8", "replace")


def counter(name: object, value: object) -> bool:
    """Whether these two columns are a counter."""
    return name in COUNTERS and isinstance(value, int) and 0 <= value <= _COUNT_MAX


def ack(boot: object, seq: object) -> Ack | None:
    """Return the event that these two columns name; None where they name none."""
    try:
        return msgspec.convert({"boot": boot, "seq": seq}, Ack)
    except msgspec.ValidationError:
        return None


def read(damaged: Path) -> Iterator[Found]:
    """Yield the rows that can be read, events in the order in which they were appended. Raises OSError."""
    _settle(damaged)
    with contextlib.closing(sqlite3.connect(":memory:")) as db, damaged.open("rb") as file:
        db.text_factory = lenient
        db.execute(_LOOSE)
        empty = db.serialize()
        size_bytes = len(empty) // 2  # two pages: the schema, and a table without a row
        first = empty[:28] + bytes(4) + empty[32:size_bytes]  # bytes 28 to 31: as many pages as the file is long
        places = range(size_bytes, os.fstat(file.fileno()).st_size, size_bytes)

        def rows(place: int) -> dict[int, tuple[object, ...]]:
            return _rows(db, first, _page(file, place, size_bytes))

        begin = sorted((min(found), place) for place in places if (found := rows(place)))
        for _, place in begin:
            for number, columns in sorted(rows(place).items()):
                if (row := _told_apart(number, *columns)) is not None:
                    yield row


def _settle(damaged: Path) -> None:
    """Bring what the write-ahead log holds into the file."""
    with (
        contextlib.suppress(sqlite3.DatabaseError, UnicodeDecodeError),  # it is done at closing all the same
        contextlib.closing(sqlite3.connect(damaged)) as db,
    ):
        db.execute("PRAGMA writable_schema = ON")  # the tables' definitions may be broken
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _page(file: BinaryIO, place: int, size_bytes: int) -> bytes:
    """Return a page, zeros where the file was cut short; a page that the disk does not read is empty."""
    with contextlib.suppress(OSError):
        file.seek(place)
        return file.read(size_bytes).ljust(size_bytes, b"\0")
    return b""


def _rows(db: sqlite3.Connection, first: bytes, page: bytes) -> dict[int, tuple[object, ...]]:
    """Return a page's rows by their numbers: from both ends, as far as they can be read."""
    found: dict[int, tuple[object, ...]] = {}
    if page[:1] == _TABLE_LEAF:
        db.deserialize(first + page)
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.DatabaseError):
                for number, *columns in db.execute(f"{_SELECT} ORDER BY rowid {order}"):
                    found[number] = tuple(columns)
    return found


def _told_apart(number: int, key: object, boot: object, seq: object, *event: object) -> Found | None:
    """Return what a row is, None where it is nothing of ours or of no use any more."""
    if any(column is not None for column in event):
        payload, *born = event
        try:
            event_of(boot, seq, payload)
        except EventError:
            return Found("refused")
        try:
            at = Moment.of(*born)
        except EventError:
            at = UNKNOWN
        return Found("events", (boot, seq, payload, at.wall_ms, at.uptime_ms, at.kernel_boot))
    if key is None and number == 1 and ack(boot, seq) is not None:
        return Found("tail", (1, boot, seq))
    if key in _SETTINGS and boot in (0, 1):
        return Found("settings", (key, boot))
    return Found("counters", (key, boot)) if counter(key, boot) else None
