"""Separate a process from the network on a workbench, as PrivateNetwork=yes does in a unit."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h
_CLONE_NEWNET = 0x40000000


def leave_network() -> str:
    """Move this process into an empty network namespace and return the result as text; call it before any thread.

    Root does this directly, other users through a user namespace with the same user id. If the kernel or a sandbox
    refuses, nothing changes and the text says so. Under systemd the unit has already separated the network.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return "not separated: this system has no network namespaces"
    flags = _CLONE_NEWNET if uid == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return f"not separated by the process itself: {os.strerror(ctypes.get_errno())}"
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    return "separated: no network interface is up in this process"
