"""Leave no pixel of a photo in this process's memory: what is freed is overwritten, and so is what the engines keep."""

from __future__ import annotations

import ctypes
import logging

import numpy as np
from numpy.typing import NDArray

from edge.identity.enrolment import Stages
from edge.records import AlignedFace, Frame

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


def overwrite(image: NDArray[np.uint8], stages: Stages, blank: AlignedFace) -> None:
    """Blank a picture, and have the engines compute on blank ones: they keep their last input until the next."""
    image[:] = 0
    stages.detector.detect(Frame(image, 0.0, 0))
    stages.embedder.embed(blank)


def _perturb(value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_PERTURB, value) == 1
