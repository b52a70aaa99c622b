"""Cameras that are mounted sideways or look into a mirror: the transform that makes the picture upright.

Flips cost nothing where the sensor or the driver does them, so they are requested there first. The others are done
here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
# include/uapi/linux/videodev2.h and v4l2-controls.h: _IOWR('V', 27 and 28, struct v4l2_control)
_GET_CONTROL, _SET_CONTROL = 0xC008561B, 0xC008561C
_HORIZONTAL_FLIP, _VERTICAL_FLIP = 0x00980914, 0x00980915
_CONTROL = "Ii"  # struct v4l2_control: id, value


@dataclass(frozen=True, slots=True)
class Turn:
    """Clockwise by `rotation_deg` (0, 90, 180 or 270), then left and right exchanged if `mirror`."""

    rotation_deg: int = 0
    mirror: bool = False

    @property
    def flips(self) -> tuple[bool, bool] | None:
        """What to flip (left and right, top and bottom) for the same; None where flips alone cannot do it."""
        upside_down = self.rotation_deg == 180
        return (upside_down != self.mirror, upside_down) if self.rotation_deg in {0, 180} else None

    def after(self, flips: tuple[bool, bool]) -> Turn:
        """Return what is left to do when a camera has flipped (left and right, top and bottom) already."""
        horizontal, vertical = flips
        rotation = (self.rotation_deg + 180 * vertical) % 360  # a vertical flip is half a turn and a horizontal flip
        mirrored = horizontal != vertical
        return Turn((360 - rotation) % 360 if mirrored and rotation in {90, 270} else rotation, self.mirror != mirrored)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the upright picture, (H, W, 3) or (W, H, 3) uint8."""
        if self.rotation_deg:
            image = np.asarray(cv2.rotate(image, _ROTATIONS[self.rotation_deg]), np.uint8)
        return np.asarray(cv2.flip(image, 1), np.uint8) if self.mirror else image


UPRIGHT = Turn()


class DriverFlips:
    """The flips of a V4L2 driver. What it was set to before comes back with `restore`."""

    def __init__(self, device: str, turn: Turn) -> None:
        self._device = device
        self._before: dict[int, int] = {}
        self.left = turn if turn == UPRIGHT or turn.flips is None or not self._set(turn.flips) else UPRIGHT

    def restore(self) -> None:
        """Set the driver's flips to what they were; safe to call twice."""
        before, self._before = self._before, {}
        self._write(before)

    def _set(self, flips: tuple[bool, bool]) -> bool:
        """Ask the driver for the flips; says whether it does all of them. If not, it does none."""
        wanted = dict(zip((_HORIZONTAL_FLIP, _VERTICAL_FLIP), map(int, flips), strict=True))
        self._before = self._read(wanted)
        if any(control not in self._before for control, value in wanted.items() if value):
            self._before = {}
            return False
        known = {control: value for control, value in wanted.items() if control in self._before}
        self._write(known)
        if self._read(known) == known:
            return True
        self.restore()
        return False

    def _read(self, controls: dict[int, int]) -> dict[int, int]:
        found: dict[int, int] = {}
        with suppress(OSError):
            fd = os.open(self._device, os.O_RDWR | os.O_NONBLOCK)
            try:
                for control in controls:
                    with suppress(OSError):  # the driver has no such control
                        answer = fcntl.ioctl(fd, _GET_CONTROL, struct.pack(_CONTROL, control, 0))
                        found[control] = struct.unpack(_CONTROL, answer)[1]
            finally:
                os.close(fd)
        return found

    def _write(self, controls: dict[int, int]) -> None:
        with suppress(OSError):
            fd = os.open(self._device, os.O_RDWR | os.O_NONBLOCK)
            try:
                for control, value in controls.items():
                    with suppress(OSError):
                        fcntl.ioctl(fd, _SET_CONTROL, struct.pack(_CONTROL, control, value))
            finally:
                os.close(fd)
