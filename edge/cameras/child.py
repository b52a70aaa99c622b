"""First steps of each child of vision: it refuses inspection of its memory, and ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from edge.inspection import refuse_inspection

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def bind_to_parent() -> None:
    """Refuse inspection, end when the parent ends, and leave the signals of a terminal to the parent."""
    refuse_inspection()
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent went before the kernel knew
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent gets them too, and hangs up
