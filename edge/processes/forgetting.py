"""Leave no pixel of a photo in memory: for as long as an enrolment lasts, what is freed is overwritten."""

from __future__ import annotations

import ctypes
import logging

_log = logging.getLogger(__name__)
_M_PERTURB = -6  # mallopt(3): overwrite memory when it is freed; glibc only
_FILL = 0xA5


def begin() -> None:
    """From now on overwrite whatever is freed; say so where this C library cannot."""
    if not _perturb(_FILL):
        _log.warning("this C library does not overwrite freed memory: pieces of photos stay until it is used again")


def end() -> None:
    """Free as usual again."""
    _perturb(0)


def _perturb(value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_PERTURB, value) == 1
