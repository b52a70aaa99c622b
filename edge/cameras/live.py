"""Live sources that OpenCV reads, and their rates: the driver delivers fewer frames, and the others are not decoded.

A V4L2 driver accepts another rate only while its stream is stopped: USB cameras refuse it otherwise, and OpenCV does
not stop the stream. A restart costs up to a second without frames, and the exposure must settle again, just when a face
has come. Fast changes of the rate are therefore made by decoding only the frames that are due, and the device follows
the rates of the last half minute. The device's rate is at least 5 frames a second: few USB cameras can do less, and new
faces need no restart. Rates are whole numbers, since OpenCV rounds them, and 0 is the driver's own rate.
"""

from __future__ import annotations

import logging
import math

import cv2
import numpy as np

from edge.addresses import without_login
from edge.cameras.pace import FramePace
from edge.cameras.turn import DriverFlips, Turn
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

_log = logging.getLogger(__name__)

_LIVE_TIMEOUT_MS = 5000  # a live source without frames for this long has failed
_STEADY_S = 30.0  # a device is restarted only for a rate that was wanted for this long
_SLOWEST_FPS = 5.0  # least rate of a device, unless the configured rate is lower
_REMEDIES = {
    cv2.CAP_V4L2: "check that it exists, is not in use, and may be read",
    cv2.CAP_FFMPEG: "check host, port and path, and the user and password in [camera] url",
    cv2.CAP_GSTREAMER: "try it with gst-launch-1.0, which says what is wrong",
}
_NEARLY, _NEEDLESS = 0.9, 1.5  # a device's rate may lie between these multiples of the wanted one without a restart


class CaptureSource:
    """A live source that OpenCV reads: a V4L2 device, an RTSP stream, a GStreamer pipeline."""

    live = True

    def __init__(self, name: str, api: int, config: CameraConfig, patience_s: float = math.inf) -> None:
        if not name:
            raise SourceError(f"no address for source '{config.source}'", "set [camera] device, url or pipeline")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _LIVE_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _LIVE_TIMEOUT_MS]
        self._name, self._config = without_login(name), config
        self._capture = cv2.VideoCapture(name, api, limits if api == cv2.CAP_FFMPEG else [])
        self._index = 0
        self._pace = FramePace(config.fps, patience_s)
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
            self._device.follow(self._pace.fps, began_s)
        while True:
            if not self._capture.grab():
                raise SourceError(f"{self._name}: delivers no frames", "check the cable or the sender")
            t_s = now_s()
            if self._pace.is_due(t_s):
                break
            self._pace.check(self._name, began_s, t_s)
        self._pace.taken(t_s)
        ok, image = self._capture.retrieve()
        if not ok or image is None or image.size == 0:
            raise SourceError(f"{self._name}: delivers frames that cannot be decoded", "check its pixel format")
        self._index += 1
        return Frame(self._turn.apply(np.asarray(image, np.uint8)), t_s, self._index - 1)

    def set_fps(self, fps: float) -> None:
        """Limit the decoded frames a second from now on; a device is slowed once the rate has lasted."""
        self._pace.set_fps(fps)

    def close(self) -> None:
        """Close the device."""
        self._capture.release()
        if self._flips is not None:
            self._flips.restore()


class _Device:
    """The rate of a V4L2 device: the requested one, and the one that the driver gives."""

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
