"""Live sources that OpenCV reads, and how one is slowed: the driver is asked for fewer frames, the rest is not decoded.

A V4L2 driver takes another rate only while its stream stands still: USB cameras refuse it otherwise, and OpenCV asks
without stopping. A restart costs up to a second of sight, and an exposure that must be found again: just when a face
has come. So what changes with every face is done by decoding only the frames that are due, and the device follows what
was asked for over half a minute. It is never asked for less than 5 frames a second: few USB cameras can do less, and
whoever comes is met without a restart. Rates are whole numbers, for OpenCV rounds them, and 0 means the driver's own.
"""

from __future__ import annotations

import logging
import math

import cv2
import numpy as np

from edge.addresses import without_login
from edge.cameras.turn import DriverFlips, Turn
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

_log = logging.getLogger(__name__)

_LIVE_TIMEOUT_MS = 5000  # how long a live source may stay silent before it counts as failed
_STEADY_S = 30.0  # for so long a rate is asked for before a device is restarted for it
_SLOWEST_FPS = 5.0  # the least that a device is asked for, unless the configuration's own rate is lower
_REMEDIES = {
    cv2.CAP_V4L2: "check that it exists, is not in use, and may be read",
    cv2.CAP_FFMPEG: "check host, port and path, and the user and password in [camera] url",
    cv2.CAP_GSTREAMER: "try it with gst-launch-1.0, which says what is wrong",
}
_NEARLY, _NEEDLESS = 0.9, 1.5  # times the rate wanted that a device may deliver: nothing between is worth a restart


class CameraSilentError(SourceError):
    """No frame came, or was due, within the time that the caller waits; the source is as it was."""


class CaptureSource:
    """A live source that OpenCV reads: a V4L2 device, an RTSP stream, a GStreamer pipeline."""

    live = True

    def __init__(self, name: str, api: int, config: CameraConfig, patience_s: float = math.inf) -> None:
        if not name:
            raise SourceError(f"no address for source '{config.source}'", "set [camera] device, url or pipeline")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _LIVE_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _LIVE_TIMEOUT_MS]
        self._name, self._config, self._patience_s = without_login(name), config, patience_s
        self._capture = cv2.VideoCapture(name, api, limits if api == cv2.CAP_FFMPEG else [])
        self._index = 0
        self._last_s = self._due_s = -math.inf  # the latest frame, and before when no other is wanted
        self._fps = config.fps
        if not self._capture.isOpened():
            raise SourceError(f"{self._name}: cannot be opened", _REMEDIES[api])
        self._device = _Device(self._capture, config, now_s()) if api == cv2.CAP_V4L2 else None
        turn = Turn(config.rotation, config.mirror)
        self._flips = DriverFlips(name, turn) if api == cv2.CAP_V4L2 else None
        self._turn = turn if self._flips is None else self._flips.left

    def read(self) -> Frame | None:
        """Return the next frame that is due; raises SourceError where the device or stream has gone."""
        began_s = now_s()
        if self._device is not None:
            self._device.follow(self._fps, began_s)
        while True:
            if not self._capture.grab():
                raise SourceError(f"{self._name}: delivers no frames", "check the cable or the sender")
            t_s = now_s()
            if t_s >= self._due_s - 0.25 / self._fps:  # a little early is on time
                break
            if t_s - began_s >= self._patience_s:
                raise CameraSilentError(f"{self._name}: no frame is due yet")
        self._last_s, self._due_s = t_s, max(self._due_s + 1 / self._fps, t_s + 0.5 / self._fps)
        ok, image = self._capture.retrieve()
        if not ok or image is None or image.size == 0:
            raise SourceError(f"{self._name}: delivers frames that cannot be decoded", "check its pixel format")
        self._index += 1
        return Frame(self._turn.apply(np.asarray(image, np.uint8)), t_s, self._index - 1)

    def set_fps(self, fps: float) -> None:
        """Decode at most so many frames a second from now on; a device is slowed once that has lasted."""
        self._fps = fps
        self._due_s = min(self._due_s, self._last_s + 1 / fps)  # a faster rate need not wait out the slower one

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()
        if self._flips is not None:
            self._flips.restore()


class _Device:
    """The rate of a V4L2 device: what is asked of its driver, and what that makes of it."""

    def __init__(self, capture: cv2.VideoCapture, config: CameraConfig, t_s: float) -> None:
        self._capture, self._config = capture, config
        self._slowest_fps = min(_SLOWEST_FPS, config.fps)
        self._answers: dict[int, float | None] = {}  # rate asked for → rate given, None where the driver does not say
        self._given_fps = self._start(math.ceil(config.fps))
        self._since_s, self._low_fps, self._high_fps = t_s, config.fps, config.fps

    def follow(self, fps: float, t_s: float) -> None:
        """Take what is wanted now; restart the device where it gave too little or too much for all wanted of late."""
        self._low_fps, self._high_fps = min(self._low_fps, fps), max(self._high_fps, fps)
        if t_s - self._since_s < _STEADY_S or self._given_fps is None:
            return
        low, high = max(self._low_fps, self._slowest_fps), max(self._high_fps, self._slowest_fps)
        self._since_s, self._low_fps, self._high_fps = t_s, fps, fps
        rate = math.ceil(high)
        fits = _NEARLY * low <= self._given_fps <= _NEEDLESS * high
        if not fits and self._answers.get(rate, rate) != self._given_fps:
            self._given_fps = self._start(rate)
            _log.info("the camera is asked for %d frames a second and says %s", rate, self._given_fps)

    def _start(self, rate: int) -> float | None:
        """Set the device up, for which its stream stands still until the next frame; returns the rate it will give."""
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._config.width_px)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._config.height_px)  # with both, OpenCV stops the stream
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture.set(cv2.CAP_PROP_FPS, rate)
        given = self._capture.get(cv2.CAP_PROP_FPS)
        self._answers[rate] = given if 0 < given < math.inf else None
        return self._answers[rate]
