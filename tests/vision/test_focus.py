"""Looks at the region of known faces: what the detector is shown, and that nobody is lost by it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edge.config import Config
from edge.processes.assembly import build_detector
from edge.records import Face, Frame
from edge.vision.focus import FocusedDetector
from tests.footage import Image, still

WHOLE_S = 0.33
FPS = 15.0


def face(x: float, y: float, side: float = 60.0) -> Face:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32) * side
    return Face(np.array([x, y, side, side], np.float32), points + np.array([x, y], np.float32), 0.9)


@dataclass
class Scripted:
    """A detector that finds marked faces: a face is where its corner pixel is white."""

    seen: list[tuple[int, int]] = field(default_factory=list)  # height, width of each picture shown

    def set_max_side(self, max_side_px: int) -> None:
        self.max_side_px = max_side_px

    def detect(self, frame: Frame) -> list[Face]:
        self.seen.append(frame.image.shape[:2])
        return [face(float(x), float(y)) for y, x in np.argwhere(frame.image[:, :, 0] == 255)]


def view(*corners: tuple[int, int]) -> Image:
    image = np.zeros((480, 640, 3), np.uint8)
    for x, y in corners:
        image[y, x] = 255
    return image


def look(detector: FocusedDetector, image: Image, index: int) -> list[list[float]]:
    return sorted(f.box_px[:2].tolist() for f in detector.detect(Frame(image, index / FPS, index)))


def test_between_whole_views_only_the_region_of_the_face_is_seen() -> None:
    inner = Scripted()
    detector = FocusedDetector(inner, WHOLE_S)
    for i in range(11):
        assert look(detector, view((200 + 2 * i, 180)), i) == [[200.0 + 2 * i, 180.0]]
    whole = [shape == (480, 640) for shape in inner.seen]
    assert whole == [True, False, False, False, False] * 2 + [True]
    assert max(h * w for h, w in inner.seen if (h, w) != (480, 640)) < 0.15 * 480 * 640


def test_boxes_and_landmarks_of_a_region_are_those_of_the_frame() -> None:
    detector = FocusedDetector(Scripted(), WHOLE_S)
    for i in range(2):
        (found,) = detector.detect(Frame(view((333, 222)), i / FPS, i))
        np.testing.assert_array_equal(found.box_px, face(333, 222).box_px)
        np.testing.assert_allclose(found.landmarks_px, face(333, 222).landmarks_px)


def test_a_face_that_left_its_region_is_found_in_the_same_frame() -> None:
    inner = Scripted()
    detector = FocusedDetector(inner, WHOLE_S)
    look(detector, view((100, 100)), 0)
    assert look(detector, view((500, 300)), 1) == [[500.0, 300.0]]
    assert inner.seen[-1] == (480, 640)


def test_a_newcomer_is_found_at_the_next_whole_view() -> None:
    detector = FocusedDetector(Scripted(), WHOLE_S)
    look(detector, view((40, 40)), 0)
    both = view((40, 40), (500, 300))
    assert [len(look(detector, both, i)) for i in range(1, 6)] == [1, 1, 1, 1, 2]


def test_a_face_cut_by_the_regions_rim_is_no_find() -> None:
    detector = FocusedDetector(Scripted(), WHOLE_S)
    look(detector, view((100, 100)), 0)
    assert look(detector, view((100, 100), (64 + 32, 200)), 1) == [[100.0, 100.0]]


def test_faces_all_over_the_view_are_seen_in_whole_views() -> None:
    inner = Scripted()
    detector = FocusedDetector(inner, WHOLE_S)
    for i in range(4):
        look(detector, view((10, 10), (560, 400)), i)
    assert set(inner.seen) == {(480, 640)}


@pytest.mark.parametrize("second", [Frame(view((100, 100))[:400], 1 / FPS, 1), Frame(view((100, 100)), -1.0, 1)])
def test_another_size_or_an_earlier_time_is_seen_whole(second: Frame) -> None:
    inner = Scripted()
    detector = FocusedDetector(inner, WHOLE_S)
    look(detector, view((100, 100)), 0)
    detector.detect(second)
    assert inner.seen[-1] == second.image.shape[:2]


def test_a_region_gives_the_finds_of_the_whole_view() -> None:
    inner = build_detector(Config())
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:, 64:576] = still("astronaut")[:480]
    detector = FocusedDetector(inner, WHOLE_S)
    (whole,), (near,) = (detector.detect(Frame(picture, i / FPS, i)) for i in range(2))
    np.testing.assert_allclose(near.landmarks_px, whole.landmarks_px, atol=0.04 * whole.size_px)
    np.testing.assert_allclose(near.box_px, whole.box_px, atol=0.04 * whole.size_px)
