"""Recovery of a damaged outbox: each page is read by itself, independent of the pointers between pages.

SQLite follows pointers from the first page down, so one flipped bit near the top hides all pages below. Here each leaf
page is appended to the first page of a file with one table, and SQLite reads the two as a complete database. A damaged
page therefore loses its own rows and no others. The columns show the kind of a row. A row counts only if the outbox
could have written exactly this row.
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
_COUNT_MAX = 2**50  # more than a device counts in its life; the sum of the counters is still exact in JSON
_TABLE_LEAF = b"\x0d"  # first byte of a page that holds rows
_LOOSE = "CREATE TABLE loose (first, boot, seq, payload, wall_ms, uptime_ms, kernel_boot)"  # fits a row of every table
_SELECT = "SELECT rowid, first, boot, seq, CAST(payload AS BLOB), wall_ms, uptime_ms, kernel_boot FROM loose"

_SETTINGS = {field.name for field in SETTABLE}


class Found(NamedTuple):
    """A row with the values for its table; `refused`: a row of an event that is damaged."""

    table: Literal["events", "tail", "settings", "counters", "refused"]
    values: tuple[object, ...] = ()


def lenient(text: bytes) -> str:
    """Decode text with invalid bytes. The row is checked later; an error here would block the rows after it."""
    return text.decode("utf-8", "replace")


def counter(name: object, value: object) -> bool:
    """Whether these two columns form a counter."""
    return name in COUNTERS and isinstance(value, int) and 0 <= value <= _COUNT_MAX


def ack(boot: object, seq: object) -> Ack | None:
    """Return the ack in these two columns; None where there is none."""
    try:
        return msgspec.convert({"boot": boot, "seq": seq}, Ack)
    except msgspec.ValidationError:
        return None


def read(damaged: Path) -> Iterator[Found]:
    """Yield the readable rows, events in the order in which they were appended. Raises OSError."""
    _apply_log(damaged)
    with contextlib.closing(sqlite3.connect(":memory:")) as db, damaged.open("rb") as file:
        db.text_factory = lenient
        db.execute(_LOOSE)
        empty = db.serialize()
        size_bytes = len(empty) // 2  # two pages: the schema, and a table without a row
        first = empty[:28] + bytes(4) + empty[32:size_bytes]  # bytes 28 to 31: as many pages as the file is long
        places = range(size_bytes, os.fstat(file.fileno()).st_size, size_bytes)

        def rows(place: int) -> dict[int, tuple[object, ...]]:
            return _rows(db, first, _page(file, place, size_bytes))

        starts = sorted((min(found), place) for place in places if (found := rows(place)))
        for _, place in starts:
            for number, columns in sorted(rows(place).items()):
                if (row := _classified(number, *columns)) is not None:
                    yield row


def _apply_log(damaged: Path) -> None:
    """Write the write-ahead log to the file."""
    with (
        contextlib.suppress(sqlite3.DatabaseError, UnicodeDecodeError),  # closing tries again
        contextlib.closing(sqlite3.connect(damaged)) as db,
    ):
        db.execute("PRAGMA writable_schema = ON")  # the tables' definitions may be damaged
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _page(file: BinaryIO, place: int, size_bytes: int) -> bytes:
    """Return a page, filled with zeros where the file is truncated; empty where the disk cannot read it."""
    with contextlib.suppress(OSError):
        file.seek(place)
        return file.read(size_bytes).ljust(size_bytes, b"\0")
    return b""


def _rows(db: sqlite3.Connection, first: bytes, page: bytes) -> dict[int, tuple[object, ...]]:
    """Return a page's rows by their numbers, read from both ends up to the first unreadable row."""
    found: dict[int, tuple[object, ...]] = {}
    if page[:1] == _TABLE_LEAF:
        db.deserialize(first + page)
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.DatabaseError):
                for number, *columns in db.execute(f"{_SELECT} ORDER BY rowid {order}"):
                    found[number] = tuple(columns)
    return found


def _classified(number: int, key: object, boot: object, seq: object, *event: object) -> Found | None:
    """Return the row with its table, None where it belongs to no table or is not needed any more."""
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
