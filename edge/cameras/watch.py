"""Tell a camera that works from one that has stalled, gone black or frozen: pure, given what came and when.

A dark room is not a broken camera: its pictures hold noise. Every eighth pixel in both directions is looked at.
Where none of these is brighter than 8 and all lie within 4 gray levels of each other, as under a lens cap or from a
sensor that has lost its supply, a picture is called black. Where they equal those of the picture before to the last
bit, which noise does not let happen, it is called frozen: a driver then hands out one buffer again and again. A network
camera is not called so: many send one JPEG again and again while their scene is still, and are in good order.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Problem = Literal["camera_stalled", "camera_black", "camera_frozen"]

OPEN_S = 20.0  # from asking a camera to start until its first frame
STALL_S = 5.0  # without a frame from one that has delivered
BLACK_S, FROZEN_S = 10.0, 5.0
REPEATED_S = 60.0  # of one picture from a network camera: worth a remark, for it may hang
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
            return None  # all black frames are alike: black is the better name
        if self._frozen > _FEWEST and self._frozen_since_s is not None and now_s - self._frozen_since_s >= FROZEN_S:
            return "camera_frozen"
        return None
