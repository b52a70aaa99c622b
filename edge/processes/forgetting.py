"""Leave no pixel of a photo in memory: during an enrolment, freed memory is overwritten."""

from __future__ import annotations

import ctypes
import logging

_log = logging.getLogger(__name__)
_M_PERTURB = -6  # mallopt(3): overwrite memory when it is freed; glibc only
_FILL = 0xA5


def begin() -> None:
    """Overwrite freed memory from now on. If this C library cannot do this, log it."""
    if not _perturb(_FILL):
        _log.warning("this C library does not overwrite freed memory: parts of photos stay until it is used again")


def end() -> None:
    """Stop overwriting freed memory."""
    _perturb(0)


def _perturb(value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_PERTURB, value) == 1
