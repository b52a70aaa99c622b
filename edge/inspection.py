"""Refuse inspection by other processes of the same user: child processes, and on a workbench all of the runtime."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4  # include/uapi/linux/prctl.h


def refuse_inspection() -> None:
    """Leave it to root to read this process's memory and environment, its open files, or its root folder.

    The kernel then refuses its user /proc/PID/root, fd, environ and mem, ptrace(2) and process_vm_readv(2), and makes
    no core dump. It ends with exec: each program calls it for itself. /proc/self belongs to root from now on; reading
    there goes on. Elsewhere than on Linux nothing changes.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
