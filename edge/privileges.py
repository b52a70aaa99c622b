"""Root's commands go on as the owner of the folder that they write: nothing in it can have root write elsewhere.

The data folder is writable for vision's user, and the outbox for the publisher's. A process that was taken over can put
links and pipes there, and wait for root to run a command.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

from edge.errors import ConfigError

_PR_SET_KEEPCAPS = 8  # include/uapi/linux/prctl.h
_CAP_DAC_READ_SEARCH = 2  # include/uapi/linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
_DEVICE_GROUPS = ("video", "dialout", "i2c")  # what the units give vision for camera and gauge: `doctor` opens them too


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop_to_owner(folder: Path) -> None:
    """Where this process is root and the folder is another user's, become that user, for good.

    Of a folder that is not there yet, the nearest one above counts. Of root's rights one is kept, in this program and
    not in what it starts: to read any file (CAP_DAC_READ_SEARCH), for pictures that only root may read. Groups are
    those of the user and of the devices. Raises ConfigError where the kernel refuses the change.
    """
    if os.geteuid() != 0:
        return
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = folder.stat()
    if status.st_uid == 0:
        return
    try:
        _become(status.st_uid, status.st_gid)
    except OSError as e:
        what = f"{folder}: root cannot go on as its owner, user {status.st_uid}: {e.strerror}"
        raise ConfigError(what, "run the command as that user") from None


def _become(uid: int, gid: int) -> None:
    """Change user and groups; of the capabilities CAP_DAC_READ_SEARCH alone stays, where root had it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        user = pwd.getpwuid(uid)
        gid = user.pw_gid
        groups = os.getgrouplist(user.pw_name, gid)
    except KeyError:  # a user without a name, as in containers
        groups = [gid]
    os.setgroups(sorted({*groups, *_device_groups()}))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if not _keep(libc, 1 << _CAP_DAC_READ_SEARCH) and not _keep(libc, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _keep(libc: ctypes.CDLL, capabilities: int) -> bool:
    """Give up all capabilities but these; False where they cannot be had."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(_CapData(capabilities, capabilities, 0), _CapData(0, 0, 0))
    return bool(libc.capset(ctypes.byref(header), data) == 0)


def _device_groups() -> list[int]:
    return [group.gr_gid for group in grp.getgrall() if group.gr_name in _DEVICE_GROUPS]


def share(folder: Path, only: Collection[str] | None = None) -> None:
    """Give each file of a shared folder the owner and mode that `files.create` gives new ones; the installer needs it.

    A folder without the set-group-ID bit is shared with nobody and stays as it is. Links, hard links and what is no
    plain file stay too. `only`: the names of what is shared, where other files are their owner's alone.
    """
    if not folder.is_dir():
        return
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(top)
        if not status.st_mode & stat.S_ISGID:
            return
        open_mode = 0o640 | (status.st_mode & stat.S_IWGRP)
        for name in os.listdir(top):  # noqa: PTH208  # of the folder that is held open, whatever its path names by now
            _give(top, name, status.st_uid, status.st_gid, open_mode if only is None or name in only else 0o600)
    finally:
        os.close(top)


def _give(folder: int, name: str, uid: int, gid: int, mode: int) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:  # a link, a socket, or gone meanwhile
        return
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
    finally:
        os.close(fd)
