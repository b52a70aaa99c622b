"""Durable small files: made privately, replaced atomically, wiped when replaced, written by one at a time.

A symbolic link under a name that is opened to write is refused (OSError, ELOOP). Owner and mode are set on a file that
was just created and on no other. What an OSError means to the user is said by the callers.

A folder with the set-group-ID bit is shared with its group. A file made `shared` there is readable by the group, and
writable where the folder is; elsewhere it is private as all others are.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WIPE_BLOCK_BYTES = 1 << 20
_LOCK_POLL_S = 0.01


def create(path: Path, *, shared: bool = False) -> int:
    """Return a descriptor of a new file that only its owner can read; FileExistsError when there is one.

    What root makes belongs to the owner of the folder: enrolment with sudo must not lock the daemon's user out.
    `shared`: the group of a shared folder may read it too.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _adjust_new(path.parent, fd, shared=shared)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_all(fd: int, content: bytes) -> None:
    """Write and fsync; the descriptor is closed whatever happens."""
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Make the creations and renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Replace a file atomically and durably, and wipe the old content; the caller holds `locked`.

    After a kill or a full disk at any step, the name has the old file or the new one, never a mixture.
    `shared`: the group of a shared folder may read it too.
    """
    temp = temp_of(path)
    discard(temp)  # what a killed writer left
    try:
        write_all(create(temp, shared=shared), content)
        with _kept_open(path) as old:
            temp.replace(path)
            sync_folder(path.parent)
            if old is not None:
                _wipe(old)
    finally:
        discard(temp)  # gone already when all went well


def temp_of(path: Path) -> Path:
    """Return where `replace` writes the new content; a killed writer leaves it there."""
    return path.with_name(path.name + ".tmp")


def discard(path: Path) -> None:
    """Remove a file, if it exists, and wipe its content; OSError (ELOOP) for a symbolic link."""
    with _kept_open(path) as old:
        if old is not None:
            path.unlink()
            _wipe(old)


def read(path: Path, limit_bytes: int) -> bytes:
    """Return the whole of a file that `replace` may exchange meanwhile; OSError (EFBIG) beyond the limit."""
    while True:
        with path.open("rb") as file:
            # Asked for the limit, Python takes that much memory first: hundreds of megabytes for a few people.
            content = file.read(min(limit_bytes, os.fstat(file.fileno()).st_size) + 1)
            # A writer wipes a file only after it lost its name. Still named: what was read is what was written.
            if os.fstat(file.fileno()).st_nlink == 0:
                continue
        if len(content) > limit_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return content


@contextmanager
def locked(path: Path, timeout_s: float, *, shared: bool = False) -> Iterator[None]:
    """Hold the only writer's lock; TimeoutError when another holds it for longer than the limit.

    The kernel releases it when the holder dies. The file stays: removing it would let two writers hold two locks.
    OSError (ELOOP) for a symbolic link. `shared`: processes of the folder's group take the same lock.
    """
    fd = _open_or_create(path, shared=shared)
    try:
        _acquire(fd, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, deadline_s: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise TimeoutError(errno.ETIMEDOUT, "another process is writing it") from None
        time.sleep(_LOCK_POLL_S)


def _open_or_create(path: Path, *, shared: bool) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process was faster, or a link to nothing: the next round opens it
                return create(path, shared=shared)


def _adjust_new(folder: Path, fd: int, *, shared: bool) -> None:
    """Give a file that this process has just created its owner and mode."""
    status = folder.stat()
    if os.geteuid() == 0:
        os.fchown(fd, status.st_uid, status.st_gid)
    if shared and status.st_mode & stat.S_ISGID:
        os.fchmod(fd, 0o640 | (status.st_mode & stat.S_IWGRP))


@contextmanager
def _kept_open(path: Path) -> Iterator[int | None]:
    """Yield a writable descriptor of what stands under a name now; None when there is nothing."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _wipe(fd: int) -> None:
    """Overwrite a file that has lost its name; flash and copy-on-write file systems may keep the blocks."""
    status = os.fstat(fd)
    if status.st_nlink > 0:  # another hard link, say a snapshot: that copy is the owner's decision
        return
    with suppress(OSError):  # the new file is in place and durable: a failing wipe must not report a failed write
        for start in range(0, status.st_size, _WIPE_BLOCK_BYTES):
            os.pwrite(fd, os.urandom(min(_WIPE_BLOCK_BYTES, status.st_size - start)), start)
        os.fsync(fd)
