"""The outbox's file: opening it, what SQLite's errors mean, and what happens to a damaged file.

A damaged file is never deleted. It is moved aside, a new one is begun so that recognition goes on, and what can still
be read of the old one is carried over:

    outbox.db ──damaged──▶ outbox.db.damaged-N ──carried over in one transaction──▶ outbox.db.salvaged-N

Each step may be cut off by a power failure and is taken up again at the next opening. Carrying a row over twice does
no harm: `(boot, seq)` is unique.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from edge import files
from edge.errors import OutboxError
from edge.events import salvage

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_CHECK_S = 3.0  # for the check of a file at its opening; 100,000 events take 0.7 s on a desktop processor
_CHECK_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_KEPT_SALVAGED = 3  # damaged files kept for diagnosis; the oldest beyond that goes
# The file keeps this text as it stands: a change of so much as a space makes it another version's.
_SCHEMA = """
CREATE TABLE events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    seq INTEGER NOT NULL,
    payload BLOB NOT NULL CHECK (length(payload) <= 512),
    wall_ms INTEGER NOT NULL,
    uptime_ms INTEGER NOT NULL,
    kernel_boot TEXT NOT NULL,
    UNIQUE (boot, seq)
);
CREATE TABLE tail (one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE reports (name TEXT PRIMARY KEY, payload BLOB NOT NULL CHECK (length(payload) <= 2048));
CREATE TABLE settings (key TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (value IN (0, 1)));
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
PRAGMA user_version = 1;
"""
APPEND = (
    "INSERT INTO events (boot, seq, payload, wall_ms, uptime_ms, kernel_boot) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
TABLES = ("events", "tail", "reports", "settings", "counters")
_TAKE = {  # table → how a row of a damaged file gets into the new one
    "events": APPEND,
    "tail": "INSERT OR REPLACE INTO tail VALUES (?, ?, ?)",
    "settings": "INSERT OR REPLACE INTO settings VALUES (?, ?)",
    "counters": "INSERT OR REPLACE INTO counters VALUES (?, ?)",
}

# primary result code of SQLite → what it means for the user, how to mend it
_MEANINGS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free space on it; events are held in memory meanwhile"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_PERM: ("it cannot be written", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "check that the folder exists and is writable for this user"),
    sqlite3.SQLITE_BUSY: ("another process holds it locked", "end the program that has it open; it is tried again"),
    sqlite3.SQLITE_LOCKED: ("another process holds it locked", "end the program that has it open; it is tried again"),
    sqlite3.SQLITE_IOERR: ("the disk does not read or write", "check the disk and the kernel log (dmesg)"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "check the disk; the file is moved aside and a new one is begun"),
    sqlite3.SQLITE_NOTADB: ("it is not an outbox", "check the disk; the file is moved aside and a new one is begun"),
}
# SQLITE_ERROR: the statements are right, so where SQLite finds one wrong, the definitions in the file are broken
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
ERRORS = (sqlite3.Error, UnicodeDecodeError)  # what a file can raise; the latter where a message quotes broken text


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code is the low byte


def is_damage(error: Exception) -> bool:
    """Whether the error says that the file's content is broken, and not that it cannot be reached."""
    return isinstance(error, UnicodeDecodeError) or _code(error) in _DAMAGE


def made_room(db: sqlite3.Connection, error: Exception) -> bool:
    """On a full disk, let the write-ahead log begin anew in the room it has; True if another try is worth it."""
    if _code(error) != sqlite3.SQLITE_FULL:
        return False
    with contextlib.suppress(sqlite3.Error):
        busy: int = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]
        return busy == 0
    return False


def explain(path: Path, error: Exception) -> OutboxError:
    """Return the error that names the file, what is wrong with it and the remedy."""
    if isinstance(error, TimeoutError):
        what, remedy = _MEANINGS[sqlite3.SQLITE_BUSY]
        return OutboxError(f"{path}: {what}", remedy)
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return OutboxError(f"{path}: is a symbolic link", "put the file itself there; [device] data_dir may be a link")
    if isinstance(error, OSError):
        return OutboxError(
            f"{path}: {error.strerror or error}", "check that its folder exists and is writable for this user"
        )
    what, remedy = _MEANINGS.get(_code(error), ("SQLite refuses it", "check the disk and the kernel log (dmesg)"))
    return OutboxError(f"{path}: {what} ({error})", remedy)


def inode(path: Path) -> int:
    """Return what tells one file from another of the same name; 0 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def open_database(path: Path, timeout_s: float, distrusted: int = 0) -> sqlite3.Connection:
    """Open the outbox, or create it with its folder (mode 0700); a damaged one is moved aside and carried over.

    In a folder that is shared with its group (`edge.files`) the outbox is too: vision and publisher are two users.

    `distrusted`: the inode of a file that was found damaged in use, whatever a check of it says now.
    Raises OutboxError: no room, no right, locked, or made by another version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path, timeout_s):
            if distrusted and inode(path) == distrusted:
                _move_aside(path, "an error in use")
            return _open_alone(path, timeout_s)
    except (*ERRORS, OSError) as e:
        raise explain(path, e) from e


def _alone(path: Path, timeout_s: float) -> contextlib.AbstractContextManager[None]:
    """Let one process at a time create, move aside and carry over; TimeoutError when another takes too long."""
    return files.locked(path.with_name(path.name + ".lock"), timeout_s, shared=True)


def _open_alone(path: Path, timeout_s: float) -> sqlite3.Connection:
    try:
        db = _open_checked(path, timeout_s)
    except ERRORS as e:
        if not is_damage(e):
            raise
        _move_aside(path, str(e))
        db = _open_checked(path, timeout_s)
    try:
        for damaged in sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]")):
            _carry_over(damaged, db)
    except BaseException:
        db.close()
        raise
    return db


def _open_checked(path: Path, timeout_s: float) -> sqlite3.Connection:
    existed = os.path.lexists(path)
    if existed:
        _refuse_what_sqlite_takes(path)
    else:
        os.close(files.create(path, shared=True))  # SQLite gives its other files the same owner and mode
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        if not existed and path.exists() and path.stat().st_size == 0:
            path.unlink()  # nothing was ever in it
        raise
    return db


def _refuse_what_sqlite_takes(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        head = file.read(20)
    if not head:
        raise damage("the file is empty")  # SQLite would take it for a new one, and the loss would go unsaid
    if head[18:] not in (b"\1\1", b"\2\2"):
        raise damage("its format is unknown")  # SQLite would read it and never write it


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.text_factory = salvage.lenient
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    tables = _tables(db)
    as_ours = tables == _our_tables()  # then another number is a broken number: each version has its own tables
    if version not in (0, SCHEMA_VERSION) and not as_ours:
        what = f"{path}: made by another version (schema {version}, this one is {SCHEMA_VERSION})"
        raise OutboxError(what, "let that version deliver its events, or move the file away")
    new = version == 0 and not tables
    if not new and not (as_ours and version == SCHEMA_VERSION):
        raise damage("its first page is not that of an outbox")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # an event is on the disk before the vision process goes on
    db.execute("PRAGMA journal_size_limit = 1048576")
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    if new:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")  # one transaction: all tables or none
    complaint = _complaint(db)
    if complaint != "ok":
        raise damage(complaint)


def _complaint(db: sqlite3.Connection) -> str:
    """Return what is wrong with the file, "ok" where nothing is; with the index, for rows are found by it.

    A check of a million events would outlast the watchdog. It is cut off, and the rest is checked as it is used.
    """
    end_s = time.monotonic() + _CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > end_s, _CHECK_STEPS)
    try:
        complaint: str = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.OperationalError as e:
        if _code(e) != sqlite3.SQLITE_INTERRUPT:
            raise
        _log.warning("outbox: so large that it is not checked whole at its opening, but as it is used")
        return "ok"
    finally:
        db.set_progress_handler(None, 0)
    return complaint


def _tables(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


@cache
def _our_tables() -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _tables(db)


def damage(what: str) -> sqlite3.DatabaseError:
    """Return the error that has a file moved aside."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _move_aside(path: Path, why: str) -> None:
    taken = [int(p.name.rpartition("-")[2]) for p in path.parent.glob(f"{path.name}.*-*[0-9]")]
    aside = path.with_name(f"{path.name}.damaged-{max(taken, default=0) + 1}")
    _log.error("outbox %s is damaged (%s): moved to %s, a new one is begun", path, why, aside.name)
    _rename(path, aside)


def _rename(source: Path, target: Path) -> None:
    """Rename a database with its write-ahead log, the log first: without it the file can be found damaged again."""
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            source.with_name(source.name + suffix).rename(target.with_name(target.name + suffix))


def _carry_over(damaged: Path, db: sqlite3.Connection) -> None:
    """Bring what a damaged file still holds into the new one, in one transaction, and say how much it was."""
    kept = refused = 0
    with transaction(db):
        for table, values in salvage.read(damaged):
            if table == "refused":
                refused += 1
                continue
            db.execute(_TAKE[table], values)
            kept += table == "events"
        if refused:
            count(db, "dropped_damaged", refused)
        count(db, "damaged_files", 1)
    _log.error("outbox: %d events of %s were still readable and are kept, %d were not", kept, damaged.name, refused)
    _rename(damaged, damaged.with_name(damaged.name.replace(".damaged-", ".salvaged-")))
    salvaged = sorted(damaged.parent.glob("*.salvaged-*[0-9]"), key=lambda p: int(p.name.rpartition("-")[2]))
    for old in salvaged[:-_KEPT_SALVAGED]:
        _log.warning("outbox: %s is deleted, %d newer ones are kept", old.name, _KEPT_SALVAGED)
        for suffix in ("-wal", "-shm", ""):
            files.discard(old.with_name(old.name + suffix))


def discard_damaged(path: Path, timeout_s: float) -> None:
    """Remove and wipe all that was moved aside; raises OutboxError."""
    try:
        with _alone(path, timeout_s):
            for kind in ("damaged", "salvaged"):
                for aside in path.parent.glob(f"{path.name}.{kind}-*"):
                    files.discard(aside)
    except OSError as e:
        raise explain(path, e) from e


def empty_log(db: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the file and cut it to nothing: what was deleted is then in neither.

    False: another process is at it just now.
    """
    busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return busy == 0


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run a block as one write transaction: all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                db.execute("ROLLBACK")
        raise


def count(db: sqlite3.Connection, name: str, by: int) -> None:
    """Raise a counter inside the caller's transaction."""
    sql = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
    db.execute(sql, (name, by))
