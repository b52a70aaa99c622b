"""Detect a camera that has stalled, gone black or frozen. Pure: frames and their times are arguments.

A dark room is no fault: its pictures hold noise. Every eighth pixel in both directions is checked. A picture is black
where none of these is brighter than 8 and all lie within 4 gray levels of each other, as under a lens cap or from a
sensor without supply. A picture is frozen where they equal those of the picture before exactly, which noise prevents:
the driver then returns one buffer repeatedly. A network camera is never called frozen: many repeat one JPEG while their
scene is still.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Problem = Literal["camera_stalled", "camera_black", "camera_frozen"]

OPEN_S = 20.0  # from asking a camera to start until its first frame
STALL_S = 5.0  # without a frame from one that has delivered
BLACK_S, FROZEN_S = 10.0, 5.0
REPEATED_S = 60.0  # time of one repeated picture from a network camera before a note in the log: it may hang
_FEWEST = 5  # frames, and intervals of the rate asked for: a camera at a tenth of a hertz is not silent after 5 s
_BLACK_MOST, _BLACK_RANGE = 8, 4  # of 255
_EVERY = 8  # pixel in each direction that is looked at: 4,800 of a VGA frame


class CameraWatch:
    """Watches one opened camera. `repeats`: it may deliver one picture again and again, as a network camera does."""

    def __init__(self, now_s: float, fps: float, *, repeats: bool = False) -> None:
        self._repeats = repeats
        self._interval_s = 1.0 / fps
        self._last_s: float | None = None  # the latest frame
        self._opened_s = now_s
        self._sample: NDArray[np.uint8] | None = None  # of the latest frame
        self._black_since_s: float | None = None
        self._frozen_since_s: float | None = None
        self._black = self._frozen = 0  # frames in a row
        self.healthy = False  # the latest frame was neither black nor the same as the one before

    def set_fps(self, fps: float) -> None:
        """Expect another rate from now on."""
        self._interval_s = 1.0 / fps

    def repeats_itself(self, now_s: float) -> bool:
        """Tell whether a camera that may repeat a picture has done so for long."""
        since_s = self._frozen_since_s
        return self._repeats and self._frozen > _FEWEST and since_s is not None and now_s - since_s >= REPEATED_S

    def silent(self, now_s: float) -> Problem | None:
        """Say whether the silence until now is too long."""
        if self._last_s is None:
            return "camera_stalled" if now_s - self._opened_s > OPEN_S else None
        return "camera_stalled" if now_s - self._last_s > max(STALL_S, _FEWEST * self._interval_s) else None

    def saw(self, image: NDArray[np.uint8], now_s: float) -> Problem | None:
        """Take a frame, (H, W, 3) uint8; say what is wrong with the frames of late."""
        sample = image[::_EVERY, ::_EVERY].copy()
        most = int(sample.max())
        black = most <= _BLACK_MOST and most - int(sample.min()) <= _BLACK_RANGE
        frozen = self._sample is not None and np.array_equal(sample, self._sample)
        self.healthy = not black and self._sample is not None and (self._repeats or not frozen)
        self._sample, self._last_s = sample, now_s
        self._black = self._black + 1 if black else 0
        self._frozen = self._frozen + 1 if frozen else 0
        self._black_since_s = (now_s if self._black_since_s is None else self._black_since_s) if black else None
        self._frozen_since_s = (now_s if self._frozen_since_s is None else self._frozen_since_s) if frozen else None
        if self._black > _FEWEST and self._black_since_s is not None and now_s - self._black_since_s >= BLACK_S:
            return "camera_black"
        if black or self._repeats:
            return None  # black frames are also identical: report black, not frozen
        if self._frozen > _FEWEST and self._frozen_since_s is not None and now_s - self._frozen_since_s >= FROZEN_S:
            return "camera_frozen"
        return None
