"""Opens the camera of the configuration: files, V4L2, the Raspberry Pi camera, network cameras, GStreamer.

`read()` returns the next frame, None at the end of a finite source, and raises SourceError when the source fails.
After an error a finite source continues with its next file; a live source must be opened again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2

from edge.cameras.live import CaptureSource
from edge.cameras.picamera import PiCameraSource
from edge.cameras.player import FileSource, refuse_address
from edge.cameras.software import need_gstreamer
from edge.cameras.turn import Turn
from edge.config import CameraConfig
from edge.records import Frame

FINITE = frozenset({"video", "images"})  # sources that end by themselves; the others are live
NETWORKED = frozenset({"mjpeg", "rtsp"})  # sources that come over a network: for a workbench


class FrameSource(Protocol):
    """A source of frames."""

    live: bool  # whether the source can be opened again after an error

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end; raises SourceError."""

    def set_fps(self, fps: float) -> None:
        """Limit the rate of the source, frames a second."""

    def close(self) -> None:
        """Close the device or file; safe to call twice."""


def open_source(
    config: CameraConfig, wait: Callable[[float], object] = time.sleep, patience_s: float = math.inf
) -> FrameSource:
    """Open the source that the configuration names; raises SourceError or DependencyError.

    `wait` lets seconds pass until a file's next frame is due; it may return early when nobody wants it any more. A live
    source of OpenCV's that has no frame due within `patience_s` says so by a CameraSilentError, and can be asked again.
    """
    if config.source in FINITE:
        files = [Path(p) for p in config.paths]
        turn = Turn(config.rotation, config.mirror)
        return FileSource(files, fps=config.fps, realtime=config.realtime, loop=config.loop, turn=turn, wait=wait)
    if config.source == "v4l2":
        refuse_address(config.device, "[camera] device")
        return CaptureSource(config.device, cv2.CAP_V4L2, config, patience_s)
    if config.source in NETWORKED:
        return _open_network(config, patience_s)
    if config.source == "gstreamer":
        need_gstreamer()
        return CaptureSource(config.pipeline, cv2.CAP_GSTREAMER, config, patience_s)
    return PiCameraSource(config)


def _open_network(config: CameraConfig, patience_s: float) -> FrameSource:
    """Open `url`: RTSP by OpenCV's FFmpeg, HTTP by our own module, which only this process loads."""
    if config.url.lower().startswith(("rtsp://", "rtsps://")):
        return CaptureSource(config.url, cv2.CAP_FFMPEG, config, patience_s)
    from edge.cameras.network import HttpSource  # noqa: PLC0415 - vision itself loads nothing of a network

    return HttpSource(config, patience_s)
