"""The durable queue between vision and publisher, and the only thing they share.

Vision appends events, writes its state and reads the settings. The publisher reads and deletes events, and writes the
settings. SQLite uses a write-ahead log and `synchronous = FULL`: when `append` returns, the event is on the disk. Each
dropped event is counted by its cause.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

import msgspec

from edge.config import DataFolder, OutboxConfig
from edge.errors import EventError, OutboxError
from edge.events import database, salvage
from edge.events.event import Event, encode
from edge.events.messages import Ack, Settings, VisionState, decode_state, encode_state
from edge.events.moments import moment
from edge.events.waiting import Moment, Row, event_of, expired

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FORGET_AT_ONCE = 20_000  # events

_STAMP = ".unix_s"  # suffix of a report's name for the time at which it was written

Report = Literal["publisher", "problem", "retained", "announced"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Waiting events, and events dropped since the outbox was created."""

    depth: int
    dropped_full: int  # more than `max_events` waited
    dropped_old: int  # waited longer than `max_age_s`
    dropped_memory: int  # the disk failed and the backlog in memory overflowed
    dropped_damaged: int  # damaged when it was read
    damaged_files: int

    @property
    def dropped(self) -> int:
        """Events that will never be sent, without those lost in the unreadable part of a damaged file."""
        return self.dropped_full + self.dropped_old + self.dropped_memory + self.dropped_damaged


class _Counted(NamedTuple):
    """The number of events in one version of the file; valid until the other process changes the file."""

    version: tuple[int, int]
    events: int


class Outbox:
    """One process's view of the outbox file. All methods raise OutboxError naming the file and the remedy.

    A file found damaged at any moment is moved aside, replaced and counted, and the call is carried out on the new
    one. A file replaced by the other process is noticed before and after each write, so no write is lost with it.
    """

    def __init__(self, path: Path, *, max_events: int, max_age_s: float, timeout_s: float = 1.0) -> None:
        self.path = path
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self.generation = 0  # rises with each new file: row numbers of the old one are not valid any more
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._version = (0, 0)
        self._counted: _Counted | None = None  # None: to be counted again
        self._forgotten = True  # whether deleted events may still be in the write-ahead log
        self._open()

    @classmethod
    def open(cls, path: Path, *, max_events: int, max_age_s: float) -> Self:
        """Open the outbox, or create it with its folder (mode 0700)."""
        return cls(path, max_events=max_events, max_age_s=max_age_s)

    @classmethod
    def of(cls, data: DataFolder, limits: OutboxConfig) -> Self:
        """Open or create the outbox of a data folder."""
        return cls.open(data.outbox, max_events=limits.max_events, max_age_s=limits.max_age_h * 3600)

    def close(self) -> None:
        """Close the file; nothing is pending in memory. Another call opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def append(self, event: Event, born: Moment) -> None:
        """Store an event durably, after all others; the same `(boot, seq)` again changes nothing. Raises EventError.

        Beyond `max_events` the oldest are dropped and counted.
        """
        payload = encode(event)
        values = (event.boot, event.seq, payload, born.wall_ms, born.uptime_ms, born.kernel_boot)

        def work(db: sqlite3.Connection) -> _Counted | None:
            inserted = db.execute(database.APPEND, values).rowcount
            db.execute("INSERT OR REPLACE INTO tail VALUES (1, ?, ?)", (event.boot, event.seq))
            return self._drop_overflow(db, inserted)

        counted = self._write(work)  # `work` may run twice; only the result of the successful run is kept
        self._counted = counted

    def _drop_overflow(self, db: sqlite3.Connection, inserted: int) -> _Counted | None:
        """Drop the oldest events beyond the limit; return the number left, None if no count was needed."""
        # In two queries: for both ends in one, SQLite reads the whole table.
        ends = "SELECT (SELECT max(row) FROM events), (SELECT min(row) FROM events)"
        last, first = db.execute(ends).fetchone()
        if last is None or last - first < self._max_events:
            return None  # the span bounds the count from above and costs no scan
        version, known = self._version_of(db), self._counted
        if known is not None and known.version == version:
            count = known.events + inserted
        else:
            count = db.execute("SELECT count(*) FROM events").fetchone()[0]
        excess = max(0, count - self._max_events)
        if excess:
            db.execute("DELETE FROM events WHERE row IN (SELECT row FROM events ORDER BY row LIMIT ?)", (excess,))
            database.count(db, "dropped_full", excess)
            _log.error("outbox: %d oldest events dropped, more than %d wait", excess, self._max_events)
        return _Counted(version, count - excess)

    def _version_of(self, db: sqlite3.Connection) -> tuple[int, int]:
        """Return a value that changes when the other process writes, or when the file is replaced."""
        return self.generation, db.execute("PRAGMA data_version").fetchone()[0]

    def pending(self, limit: int, after: int = 0) -> list[Row]:
        """Return up to `limit` waiting events after row `after`, oldest first; an invalid row counts as damage."""
        sql = (
            "SELECT row, boot, seq, CAST(payload AS BLOB), wall_ms, uptime_ms, kernel_boot FROM events"
            " WHERE row > ? ORDER BY row LIMIT ?"
        )

        def work(db: sqlite3.Connection) -> list[Row]:
            with _damage_where_none():
                return [
                    Row(row, event_of(boot, seq, payload), Moment.of(*born))
                    for row, boot, seq, payload, *born in db.execute(sql, (after, limit)).fetchall()
                ]

        return self._read(work)

    def delivered(self, events: Iterable[Event]) -> None:
        """Delete delivered events."""
        names = [(event.boot, event.seq) for event in events]
        self._forget(lambda db: _delete(db, names))

    def acknowledge(self, boot: str, seq: int) -> int:
        """Delete every event of `boot` up to and including `seq`; return their number."""
        sql = "DELETE FROM events WHERE boot = ? AND seq <= ?"
        return self._forget(lambda db: db.execute(sql, (boot, seq)).rowcount)

    def drop_expired(self, now: Moment) -> int:
        """Drop and count the oldest events that are certainly too old; return their number.

        It stops at the first event that is not, so the remaining events have no gap in their numbers.
        """
        head = "SELECT boot, seq, wall_ms, uptime_ms, kernel_boot FROM events ORDER BY row LIMIT 1000"

        def work(db: sqlite3.Connection) -> list[tuple[str, int]]:
            with _damage_where_none():
                born = [((boot, seq), Moment.of(*columns)) for boot, seq, *columns in db.execute(head).fetchall()]
            too_old = itertools.takewhile(lambda row: expired(row[1], now, self._max_age_s), born)
            return [name for name, _ in too_old]

        old = self._read(work)
        if old:
            self._forget(lambda db: _delete(db, old, "dropped_old"))
            _log.error("outbox: %d events dropped, older than %.0f h", len(old), self._max_age_s / 3600)
        return len(old)

    def tidy(self) -> None:
        """Wipe the events deleted since the last call from the files; cheap where there were none."""
        if self._forgotten:
            self._forgotten = not self._read(database.empty_log)

    def forget_all(self) -> None:
        """Empty the outbox, its earlier files and the remains of deleted rows, for a new owner of the device."""

        def some(db: sqlite3.Connection) -> int:
            sql = "DELETE FROM events WHERE row IN (SELECT row FROM events LIMIT ?)"
            return db.execute(sql, (_FORGET_AT_ONCE,)).rowcount

        def rest(db: sqlite3.Connection) -> None:
            for table in database.TABLES:
                db.execute(f"DELETE FROM {table}")  # noqa: S608 (names from there)

        while self._forget(some) == _FORGET_AT_ONCE:
            pass  # in pieces: a process that is ended meanwhile does not begin at the first event again
        self._forget(rest)
        database.discard_damaged(self.path, self._timeout_s)
        if not self._read(database.empty_log):
            what = f"{self.path}: is empty, but its log still holds the events: another process reads it"
            raise OutboxError(what, "try again, or end the publisher first")

    def counts(self) -> Counts:
        """Return the numbers of waiting and of dropped events."""

        def work(db: sqlite3.Connection) -> Counts:
            depth: int = db.execute("SELECT count(*) FROM events").fetchone()[0]
            rows = db.execute("SELECT name, value FROM counters").fetchall()
            known = {name: value for name, value in rows if salvage.counter(name, value)}
            return Counts(depth=depth, **dict.fromkeys(salvage.COUNTERS, 0) | known)

        return self._read(work)

    def note_lost(self, count: int) -> None:
        """Count events that were dropped in memory, before they reached the disk."""
        self._write(lambda db: database.count(db, "dropped_memory", count))

    def oldest(self) -> Ack | None:
        """Return the first event that may still be sent; earlier ones of its boot will not. None before any event."""
        head = "SELECT boot, seq FROM events ORDER BY row LIMIT 1"
        after_tail = "SELECT boot, seq + 1 FROM tail"
        found = self._read(lambda db: db.execute(head).fetchone() or db.execute(after_tail).fetchone())
        return salvage.ack(*found) if found else None

    def put_state(self, state: VisionState) -> None:
        """Store the vision process's state and replace the last one. Raises EventError."""
        self._put("vision", encode_state(state))

    def get_state(self) -> VisionState | None:
        """Return the vision process's last state, or None; raises EventError if it cannot be read."""
        payload = self._get("vision")
        return None if payload is None else decode_state(payload, VisionState)

    def put_report(self, name: Report, payload: bytes) -> None:
        """Store a report of the publisher for this device only: state, description of a problem, retained topics."""
        self._put(name, payload)

    def get_report(self, name: Report) -> bytes | None:
        """Return the publisher's last report of this name, or None."""
        return self._get(name)

    def put_setting(self, key: str, value: bool) -> None:
        """Store a setting of `…/<key>/set` for the vision process; an unchanged one costs no write."""
        if msgspec.structs.asdict(self.settings()).get(key) != value:
            sql = "INSERT OR REPLACE INTO settings VALUES (?, ?)"
            self._write(lambda db: db.execute(sql, (key, int(value))))

    def settings(self) -> Settings:
        """Return the settings, defaults where none was stored."""
        rows = self._read(lambda db: db.execute("SELECT key, value FROM settings").fetchall())
        known = set(Settings.__struct_fields__)
        return Settings(**{key: bool(value) for key, value in rows if key in known})

    def changed(self) -> bool:
        """Whether the other process has written since the last call; cheap, for polling."""
        version = self._read(self._version_of)
        seen, self._version = self._version, version
        return version != seen

    def _forget(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a write that deletes events."""
        self._forgotten, self._counted = True, None
        return self._write(work)

    def said_s(self, name: Literal["vision", "publisher"]) -> int | None:
        """Return the Unix time of a process's last report, by the wall clock of that moment; None: never."""
        stamp = self._get(name + _STAMP)
        return int(stamp) if stamp and stamp.isdigit() else None

    def _put(self, name: str, payload: bytes) -> None:
        rows = ((name, payload), (name + _STAMP, str(moment().wall_ms // 1000).encode()))
        self._write(lambda db: db.executemany("INSERT OR REPLACE INTO reports VALUES (?, ?)", rows))

    def _get(self, name: str) -> bytes | None:
        sql = "SELECT CAST(payload AS BLOB) FROM reports WHERE name = ?"
        row = self._read(lambda db: db.execute(sql, (name,)).fetchone())
        return None if row is None else row[0] or b""

    def _connection(self) -> sqlite3.Connection:
        """Return the connection to the file that lies at `path` now."""
        if self._db is None or database.inode(self.path) != self._inode:
            self._open()
        assert self._db is not None  # noqa: S101 (for the type checker: `_open` sets it or raises)
        return self._db

    def _open(self, distrusted: int = 0) -> None:
        self.close()
        self._db = database.open_database(self.path, self._timeout_s, distrusted)
        self._inode = database.inode(self.path)
        self.generation += 1

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._connection())
        except database.ERRORS as e:
            if database.is_damage(e):
                _log.error("outbox: found damaged in use: %s", e)
                self._open(distrusted=self._inode)
            elif not database.made_room(self._connection(), e):
                raise database.explain(self.path, e) from e
        try:
            return work(self._connection())
        except database.ERRORS as e:
            raise database.explain(self.path, e) from e

    def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def whole(db: sqlite3.Connection) -> _T:
            with database.transaction(db):
                return work(db)

        result = self._read(whole)
        if database.inode(self.path) != self._inode:  # the other process moved the file aside meanwhile
            result = self._read(whole)
        return result


@contextlib.contextmanager
def _damage_where_none() -> Iterator[None]:
    """Treat a row without a valid event or moment as damage: the outbox does not write such rows.

    Fetch all rows first: an unfinished query would keep the damaged file open.
    """
    try:
        yield
    except EventError as e:
        raise database.damage(e.what) from None


def _delete(db: sqlite3.Connection, names: list[tuple[str, int]], counter: str = "") -> None:
    """Delete events by `(boot, seq)`: row numbers change when a damaged file is replaced, `(boot, seq)` never."""
    gone = db.executemany("DELETE FROM events WHERE boot = ? AND seq = ?", names).rowcount
    if counter:
        database.count(db, counter, gone)
