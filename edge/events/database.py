"""The outbox's file: how it is opened, the meaning of SQLite's errors, and the recovery of a damaged file.

A damaged file is never deleted. It is moved aside, a new one is created so that recognition continues, and all
readable rows are copied to the new one:

    outbox.db ──damaged──▶ outbox.db.damaged-N ──copied in one transaction──▶ outbox.db.salvaged-N

A power failure may interrupt each step; the next opening resumes it. Copying a row twice does no harm: `(boot, seq)` is
unique.
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
from edge.events import salvage, wal

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_CHECK_S = 3.0  # limit of the check at opening; 100,000 events take 0.7 s on a desktop processor
_CHECK_STEPS = 10_000  # instructions of SQLite's virtual machine between two readings of the clock
_KEPT_SALVAGED = 3  # damaged files kept for diagnosis; older ones are deleted
# The file stores this text literally: with any change, even of a space, existing files count as another version's.
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
_COPY = {  # table → statement that copies a row of a damaged file
    "events": APPEND,
    "tail": "INSERT OR REPLACE INTO tail VALUES (?, ?, ?)",
    "settings": "INSERT OR REPLACE INTO settings VALUES (?, ?)",
    "counters": "INSERT OR REPLACE INTO counters VALUES (?, ?)",
}

# primary result code of SQLite → its meaning for the user, the remedy
_MEANINGS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free space on it; events are held in memory meanwhile"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_PERM: ("it cannot be written", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "check that the folder exists and is writable for this user"),
    sqlite3.SQLITE_BUSY: ("another process holds it locked", "end the program that has it open; it is tried again"),
    sqlite3.SQLITE_LOCKED: ("another process holds it locked", "end the program that has it open; it is tried again"),
    sqlite3.SQLITE_IOERR: ("the disk fails to read or write", "check the disk and the kernel log (dmesg)"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "check the disk; the file is moved aside and a new one is created"),
    sqlite3.SQLITE_NOTADB: ("it is not an outbox", "check the disk; the file is moved aside and a new one is created"),
}
# SQLITE_ERROR means a wrong statement. The statements are right, so the table definitions in the file are damaged.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
ERRORS = (sqlite3.Error, UnicodeDecodeError)  # errors of a file; the latter where a message quotes invalid text


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code is the low byte


def is_damage(error: Exception) -> bool:
    """Whether the error means that the content is damaged, not that the file cannot be accessed."""
    return isinstance(error, UnicodeDecodeError) or _code(error) in _DAMAGE


def made_room(db: sqlite3.Connection, error: Exception) -> bool:
    """On a full disk, reset the write-ahead log to reuse its space; True where another attempt may succeed."""
    if _code(error) != sqlite3.SQLITE_FULL:
        return False
    with contextlib.suppress(sqlite3.Error):
        busy: int = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]
        return busy == 0
    return False


def explain(path: Path, error: Exception) -> OutboxError:
    """Return the error that names the file, the fault and the remedy."""
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
    """Return the number that distinguishes files of the same name over time; 0 where there is no file."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def open_database(path: Path, timeout_s: float, distrusted: int = 0) -> sqlite3.Connection:
    """Open the outbox, or create it with its folder (mode 0700); a damaged one is moved aside and its rows are copied.

    In a folder that is shared with its group (`edge.files`) the outbox is shared too: vision and publisher are two
    users. `distrusted`: the inode of a file that was found damaged in use, even if a check finds no damage now.
    Raises OutboxError: disk full, no permission, locked, or made by another version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path, timeout_s):
            if distrusted and inode(path) == distrusted:
                _move_aside(path, "an error in use")
            return _open_locked(path, timeout_s)
    except (*ERRORS, OSError) as e:
        raise explain(path, e) from e


def _locked(path: Path, timeout_s: float) -> contextlib.AbstractContextManager[None]:
    """Lock creation, moving aside and copying against other processes; TimeoutError when another takes too long."""
    return files.locked(path.with_name(path.name + ".lock"), timeout_s, shared=True)


def _open_locked(path: Path, timeout_s: float) -> sqlite3.Connection:
    try:
        db = _open_checked(path, timeout_s)
    except ERRORS as e:
        if not is_damage(e):
            raise
        _move_aside(path, str(e))
        db = _open_checked(path, timeout_s)
    try:
        for damaged in sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]")):
            _copy_from(damaged, db)
    except BaseException:
        db.close()
        raise
    return db


def _open_checked(path: Path, timeout_s: float) -> sqlite3.Connection:
    existed = os.path.lexists(path)
    if existed:
        _check_header(path)
    else:
        os.close(files.create(path, shared=True))  # SQLite creates its other files with the same owner and mode
    damaged = existed and wal.is_damaged(path)
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    try:
        _prepare(db, path)
        if damaged:
            with transaction(db):
                count(db, "damaged_files", 1)
            _log.error("outbox: %s-wal is damaged: what was written after that place is lost", path.name)
    except BaseException:
        db.close()
        if not existed and path.exists() and path.stat().st_size == 0:
            path.unlink()  # it never held anything
        raise
    return db


def _check_header(path: Path) -> None:
    """Raise for damage that SQLite does not report."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        head = file.read(20)
    if not head:
        raise damage("the file is empty")  # SQLite would treat it as new, and the loss would not be reported
    if head[18:] not in (b"\1\1", b"\2\2"):
        raise damage("its format is unknown")  # SQLite would open it read-only


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.text_factory = salvage.lenient
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    tables = _tables(db)
    same_tables = tables == _own_tables()  # each version has other tables: then a wrong number is a damaged number
    if version not in (0, SCHEMA_VERSION) and not same_tables:
        what = f"{path}: made by another version (schema {version}, this one is {SCHEMA_VERSION})"
        raise OutboxError(what, "let that version deliver its events, or move the file away")
    new = version == 0 and not tables
    if not new and not (same_tables and version == SCHEMA_VERSION):
        raise damage("its first page is not that of an outbox")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # an event is on the disk before the vision process continues
    db.execute("PRAGMA journal_size_limit = 1048576")
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    if new:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")  # one transaction: all tables or none
    result = _check(db)
    if result != "ok":
        raise damage(result)


def _check(db: sqlite3.Connection) -> str:
    """Return the result of SQLite's check of file and index: "ok", or the first fault.

    A check of a million events would take longer than the watchdog allows. It stops after `_CHECK_S`, and the rest is
    checked as it is used.
    """
    end_s = time.monotonic() + _CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > end_s, _CHECK_STEPS)
    try:
        result: str = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.OperationalError as e:
        if _code(e) != sqlite3.SQLITE_INTERRUPT:
            raise
        _log.warning("outbox: too large for a complete check at opening; the rest is checked as it is used")
        return "ok"
    finally:
        db.set_progress_handler(None, 0)
    return result


def _tables(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


@cache
def _own_tables() -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _tables(db)


def damage(what: str) -> sqlite3.DatabaseError:
    """Return the error that marks a file as damaged: it is then moved aside."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _move_aside(path: Path, why: str) -> None:
    taken = [int(p.name.rpartition("-")[2]) for p in path.parent.glob(f"{path.name}.*-*[0-9]")]
    aside = path.with_name(f"{path.name}.damaged-{max(taken, default=0) + 1}")
    _log.error("outbox %s is damaged (%s): moved to %s, a new one is created", path, why, aside.name)
    _rename(path, aside)


def _rename(source: Path, target: Path) -> None:
    """Rename a database with its write-ahead log. The log goes first: a file without it is found damaged again."""
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            source.with_name(source.name + suffix).rename(target.with_name(target.name + suffix))


def _copy_from(damaged: Path, db: sqlite3.Connection) -> None:
    """Copy the readable rows of a damaged file to the new one in one transaction, and log their number."""
    kept = refused = 0
    with transaction(db):
        for table, values in salvage.read(damaged):
            if table == "refused":
                refused += 1
                continue
            db.execute(_COPY[table], values)
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
    """Wipe and remove all files that were moved aside; raises OutboxError."""
    try:
        with _locked(path, timeout_s):
            for kind in ("damaged", "salvaged"):
                for aside in path.parent.glob(f"{path.name}.{kind}-*"):
                    files.discard(aside)
    except OSError as e:
        raise explain(path, e) from e


def empty_log(db: sqlite3.Connection) -> bool:
    """Write the write-ahead log to the file and truncate it: deleted rows are then in neither.

    False: another process is using it now.
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
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
                db.execute("ROLLBACK")
        raise


def count(db: sqlite3.Connection, name: str, by: int) -> None:
    """Raise a counter inside the caller's transaction."""
    sql = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
    db.execute(sql, (name, by))
