"""The Raspberry Pi camera. Only this module and `software.py` use picamera2."""

from __future__ import annotations

import importlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras.software import need_picamera2
from edge.cameras.turn import UPRIGHT, Turn
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

# What picamera2 delivers → how OpenCV makes BGR of it. Its "RGB888" is BGR in memory already.
_TO_BGR = {
    "RGB888": None,
    "BGR888": cv2.COLOR_RGB2BGR,
    "XRGB8888": cv2.COLOR_BGRA2BGR,
    "XBGR8888": cv2.COLOR_RGBA2BGR,
    "YUV420": cv2.COLOR_YUV2BGR_I420,
    "NV12": cv2.COLOR_YUV2BGR_NV12,
    "YUYV": cv2.COLOR_YUV2BGR_YUYV,
}


def to_bgr(image: NDArray[np.uint8], pixel_format: str, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 BGR of an array as picamera2 makes it, whose rows may be padded; `size_px` is (W, H)."""
    conversion, (width, height) = _TO_BGR[pixel_format], size_px
    converted = image if conversion is None else cv2.cvtColor(image, conversion)
    return np.ascontiguousarray(converted[:height, :width], np.uint8)


def _transform(horizontal: bool, vertical: bool) -> Any:
    """Return libcamera's constant for flips; picamera2 is never installed without libcamera."""
    return importlib.import_module("libcamera").Transform(hflip=int(horizontal), vflip=int(vertical))


class PiCameraSource:
    """The Raspberry Pi camera through picamera2, which Raspberry Pi OS installs from apt."""

    live = True

    def __init__(self, config: CameraConfig) -> None:
        picamera2, turn = need_picamera2(), Turn(config.rotation, config.mirror)
        self._index = 0
        try:
            self._camera = picamera2.Picamera2()
            main = {"size": (config.width_px, config.height_px), "format": "RGB888"}
            # Without the raw stream: nobody reads it, and its buffers have the sensor's size.
            flips = {} if turn == UPRIGHT or turn.flips is None else {"transform": _transform(*turn.flips)}
            self._camera.configure(
                self._camera.create_video_configuration(main=main, raw=None, buffer_count=4, **flips)
            )
            configured = self._camera.camera_configuration()
            given = configured["main"]  # a camera that cannot do it gives something else
            done = configured["transform"] if flips else None
            self._turn = turn if done is None else turn.after((bool(done.hflip), bool(done.vflip)))
            self._format, self._size_px = str(given["format"]), given["size"]
            if self._format not in _TO_BGR:
                self._camera.close()
                raise SourceError(
                    f"the camera delivers {self._format}, which is not read here", f"it must give one of {set(_TO_BGR)}"
                )
            self.set_fps(config.fps)
            self._camera.start()
        except (RuntimeError, IndexError, OSError) as e:  # IndexError: picamera2 found no camera
            raise SourceError(f"the Raspberry Pi camera cannot be started: {e}", "check cable and libcamera") from None

    def read(self) -> Frame | None:
        """Return the next frame, stamped by the sensor; raises SourceError where libcamera fails."""
        try:
            request = self._camera.capture_request()
            try:
                image = request.make_array("main")
                stamp_ns = request.get_metadata().get("SensorTimestamp")  # CLOCK_BOOTTIME, ns
            finally:
                request.release()  # libcamera has few buffers: one that is kept stops the camera
        except (RuntimeError, OSError) as e:
            raise SourceError(f"the Raspberry Pi camera failed: {e}", "check cable and libcamera") from None
        self._index += 1
        t_s = stamp_ns / 1e9 if stamp_ns else now_s()
        return Frame(self._turn.apply(to_bgr(image, self._format, self._size_px)), t_s, self._index - 1)

    def set_fps(self, fps: float) -> None:
        """Ask the sensor for another frame duration: fewer frames are taken, not thrown away."""
        duration_us = round(1e6 / fps)
        self._camera.set_controls({"FrameDurationLimits": (duration_us, duration_us)})

    def close(self) -> None:
        """Stop the sensor and close it."""
        self._camera.stop()
        self._camera.close()
