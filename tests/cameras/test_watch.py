"""Detection of camera faults: black or frozen pictures, and missing frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.watch import BLACK_S, FROZEN_S, OPEN_S, STALL_S, CameraWatch
from tests.footage import Image, video

FPS = 10.0


def shown(watch: CameraWatch, images: list[Image], fps: float = FPS) -> list[tuple[float, str]]:
    """Show images at a rate; returns (time, problem) for each that has one."""
    told = [(i / fps, watch.saw(image, i / fps)) for i, image in enumerate(images)]
    return [(at_s, problem) for at_s, problem in told if problem is not None]


def dark(rng: np.random.Generator, noise: float) -> Image:
    """A picture of a sensor in the dark."""
    return np.clip(rng.normal(2.0, noise, (480, 640, 3)), 0, 255).astype(np.uint8)


def test_a_recording_of_a_man_shows_no_fault() -> None:
    watch = CameraWatch(0.0, FPS)
    assert shown(watch, list(video("carphone"))) == []
    assert watch.healthy


def test_black_pictures_are_named_after_a_while() -> None:
    watch = CameraWatch(0.0, FPS)
    black = np.full((480, 640, 3), 3, np.uint8)
    assert shown(watch, [black] * 150)[0] == (BLACK_S, "camera_black")
    assert not watch.healthy


def test_a_dark_room_is_not_black() -> None:
    rng = np.random.default_rng(1)
    watch = CameraWatch(0.0, FPS)
    assert shown(watch, [dark(rng, 3.0) for _ in range(150)]) == []


def test_a_repeated_buffer_is_named() -> None:
    watch = CameraWatch(0.0, FPS)
    first, second, *_ = video("carphone")
    told = shown(watch, [first, *[second] * 100])
    at_s, problem = told[0]
    assert at_s == pytest.approx(FROZEN_S + 0.2)
    assert problem == "camera_frozen"
    assert watch.saw(first, 20.0) is None
    assert watch.healthy


def test_missing_frames_are_a_fault_after_some_intervals_of_the_requested_rate() -> None:
    watch = CameraWatch(0.0, FPS)
    assert watch.silent(OPEN_S) is None
    assert watch.silent(OPEN_S + 0.1) == "camera_stalled"
    watch.saw(video("carphone")[0], 30.0)
    assert watch.silent(30.0 + STALL_S) is None
    assert watch.silent(30.1 + STALL_S) == "camera_stalled"
    watch.set_fps(0.1)
    assert watch.silent(70.0) is None
    assert watch.silent(81.0) == "camera_stalled"


def test_a_few_frames_at_a_low_rate_decide_nothing() -> None:
    watch = CameraWatch(0.0, 0.1)
    black = np.zeros((480, 640, 3), np.uint8)
    assert shown(watch, [black] * 5, fps=0.1) == []


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.floats(0.01, 1.0)), max_size=60))
def test_no_sequence_that_changes_is_called_frozen_and_no_bright_one_black(steps: list[tuple[int, int, float]]) -> None:
    watch, now_s = CameraWatch(0.0, FPS), 0.0
    for i, (level, other, wait_s) in enumerate(steps):
        now_s += wait_s
        image = np.full((16, 16, 3), level, np.uint8)
        image[0, 0] = (i % 2, other, 255)
        assert watch.saw(image, now_s) is None
