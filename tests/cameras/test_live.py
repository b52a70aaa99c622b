"""Slowing a USB camera: a simulated driver behaves as uvcvideo and OpenCV do, on a clock that only frames advance."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cameras import live
from edge.cameras.camera import open_source
from edge.cameras.live import CaptureSource
from edge.cameras.pace import CameraSilentError
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

USUAL_FPS = (30.0, 25.0, 20.0, 15.0, 10.0, 7.5, 5.0)
RESTART_S = 0.6


class Camera:
    """A `cv2.VideoCapture` on V4L2 whose driver has a list of rates and accepts a rate only while not streaming."""

    def __init__(self, *rates_fps: float) -> None:
        self.rates_fps = rates_fps
        self.now_s = 1000.0
        self.fps = rates_fps[0]
        self.streaming = False
        self.starts = self.decoded = self.grabbed = self.refused = 0
        self.jitter_s: Callable[[int], float] = lambda _: 0.0
        self.speaks = True  # whether the driver reports its rate
        self._due_s = self.now_s
        self._sizes: set[int] = set()

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, prop: int, value: float) -> bool:
        if prop in {cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT}:
            self._sizes.add(prop)
            if len(self._sizes) == 2:
                self._sizes.clear()
                self.streaming = False
        if prop != cv2.CAP_PROP_FPS:
            return True
        if self.streaming:
            self.refused += 1
            return False  # EBUSY
        whole = round(value)  # half to even, as cvRound
        self.fps = min(self.rates_fps, key=lambda fps: abs(fps - whole)) if whole else self.rates_fps[0]
        return True

    def get(self, prop: int) -> float:
        assert prop == cv2.CAP_PROP_FPS
        return self.fps if self.speaks else -1.0

    def grab(self) -> bool:
        if not self.streaming:
            self.streaming = True
            self.starts += 1
            self._due_s = self.now_s + RESTART_S
        self._due_s += 1 / self.fps
        self.grabbed += 1
        self.now_s = self._due_s + self.jitter_s(self.grabbed)
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        self.decoded += 1
        return True, np.full((48, 64, 3), 99, np.uint8)

    def release(self) -> None:
        self.streaming = False


Opened = Callable[..., CaptureSource]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Open the simulated camera at the full rate."""

    def made(camera: Camera, fps: float = 15.0, patience_s: float = math.inf) -> CaptureSource:
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: camera)
        monkeypatch.setattr(live, "now_s", lambda: camera.now_s)
        source = open_source(CameraConfig(source="v4l2", fps=fps), patience_s=patience_s)
        assert isinstance(source, CaptureSource)
        return source

    return made


def frames(source: CaptureSource, camera: Camera, seconds: float) -> list[Frame]:
    """Read frames for this time, s."""
    end_s, seen = camera.now_s + seconds, []
    while camera.now_s < end_s:
        frame = source.read()
        assert frame is not None
        seen.append(frame)
    return seen


def test_a_slower_rate_skips_decoding_at_once_and_is_set_in_the_driver_once_it_has_lasted(opened: Opened) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera)
    assert len(frames(source, camera, 10.0)) == pytest.approx(142, abs=3)
    assert camera.fps == 15.0
    source.set_fps(0.5)
    camera.decoded = 0
    assert len(frames(source, camera, 20.0)) == pytest.approx(10, abs=2)
    assert camera.decoded == pytest.approx(10, abs=2), "frames that are not due are not decoded"
    assert (camera.fps, camera.starts) == (15.0, 1)
    seen = frames(source, camera, 120.0)
    assert (camera.fps, camera.starts) == (5.0, 2)
    assert len(seen) == pytest.approx(60, abs=2)
    assert camera.refused == 0


@pytest.mark.parametrize("watched_s", [12.0, 45.0, 75.0])
def test_a_faster_rate_for_a_new_face_needs_no_restart_of_the_stream(opened: Opened, watched_s: float) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera)
    source.set_fps(0.5)
    for _ in range(20):
        frames(source, camera, watched_s)
        starts, asked_s = camera.starts, camera.now_s
        source.set_fps(15.0)
        met = frames(source, camera, 8.0)
        assert camera.starts == starts
        assert met[0].t_s - asked_s <= 0.2 + 1e-6, "a faster rate does not wait for the next frame of the slower one"
        assert len(met) >= 39
        source.set_fps(0.5)
    assert camera.starts <= 2


def test_a_faster_rate_that_lasts_is_set_in_the_driver(opened: Opened) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera)
    source.set_fps(0.5)
    frames(source, camera, 90.0)
    source.set_fps(12.0)
    frames(source, camera, 70.0)
    assert camera.fps == 10.0  # the nearest
    camera.decoded = 0
    frames(source, camera, 120.0)
    assert camera.decoded == pytest.approx(1200, abs=3)
    assert camera.starts == 3


def test_a_rate_that_the_driver_rejects_is_not_tried_again(opened: Opened) -> None:
    camera = Camera(30.0)
    source = opened(camera)
    for _ in range(10):
        for fps in (0.5, 7.0):
            source.set_fps(fps)
            camera.decoded = 0
            frames(source, camera, 100.0)
            assert camera.decoded == pytest.approx(100 * fps, abs=10)
    assert camera.starts <= 3


def test_the_rate_of_a_driver_that_does_not_report_it_is_not_set(opened: Opened) -> None:
    camera = Camera(*USUAL_FPS)
    camera.speaks = False
    source = opened(camera)
    source.set_fps(1.0)
    assert len(frames(source, camera, 100.0)) == pytest.approx(100, abs=2)
    assert camera.starts == 1


@pytest.mark.parametrize(("fps", "given"), [(0.4, 5.0), (0.5, 5.0), (7.5, 7.5), (15.0, 15.0), (29.97, 30.0)])
def test_no_rate_is_rounded_to_the_driver_s_own(opened: Opened, fps: float, given: float) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera, fps)
    assert camera.fps == given
    assert len(frames(source, camera, 100.0)) == pytest.approx(100 * fps, rel=0.05, abs=1)


def test_frames_that_come_a_little_early_or_late_are_all_taken_at_the_full_rate(opened: Opened) -> None:
    camera = Camera(*USUAL_FPS)
    camera.jitter_s = lambda i: (0.0, -0.012, 0.011, 0.003, -0.004)[i % 5]
    source = opened(camera)
    frames(source, camera, 60.0)
    assert camera.decoded == camera.grabbed


def test_a_change_of_rate_is_received_while_no_frame_is_due(opened: Opened) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera, patience_s=0.25)
    source.read()
    source.set_fps(0.1)
    source.read()
    asked_s = camera.now_s
    with pytest.raises(CameraSilentError):
        source.read()
    assert camera.now_s - asked_s < 0.35
    source.set_fps(15.0)
    assert source.read() is not None


def test_a_device_that_has_gone_is_named(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(*USUAL_FPS)
    source = opened(camera)
    monkeypatch.setattr(camera, "grab", lambda: False)
    with pytest.raises(SourceError, match="delivers no frames"):
        source.read()
