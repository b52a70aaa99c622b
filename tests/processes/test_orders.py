"""Vision follows the governor's orders, also where only a part of them changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import pytest

from edge.health import Notifier
from edge.processes.assembly import build_detector
from edge.processes.vision import _Vision
from tools.rig.workbench import Bench


@pytest.fixture
def seeing(bench: Bench) -> Iterator[_Vision]:
    """Vision with two threads and a detector of the smallest size, so that the size never changes."""
    threads = cv2.getNumThreads()
    bench.configure({"recognition": {"threads": 2}, "detector": {"max_side_px": 320}})
    made = _Vision(bench.settings, Notifier(""), blind=False)
    yield made
    made.finish()
    cv2.setNumThreads(threads)


def ordered(vision: _Vision, threads: int) -> int:
    """Order a number of threads; returns the number that OpenCV uses."""
    vision._power.orders = replace(vision._power.orders, threads=threads)
    vision.step(None)
    return cv2.getNumThreads()


def test_opencv_s_threads_follow_the_orders_where_the_detector_s_size_does_not_change(seeing: _Vision) -> None:
    assert [ordered(seeing, 1), ordered(seeing, 2), ordered(seeing, 1)] == [1, 2, 1]


def test_opencv_s_threads_are_as_ordered_after_an_enrolment_has_made_a_detector(seeing: _Vision) -> None:
    ordered(seeing, 1)
    build_detector(seeing._config)
    assert ordered(seeing, 1) == 1
