"""Looks at the region of known faces: the detector's input, and no lost faces."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from edge.config import Config
from edge.processes.assembly import build_detector, build_focused_detector
from edge.records import Face, Frame
from edge.vision.focus import Detector, FocusedDetector
from tests.footage import Image, still

WHOLE_S = 0.33
FPS = 15.0


SURE, FULL_PX = 0.8, 640


def focused(inner: Detector, max_side_px: int = FULL_PX) -> FocusedDetector:
    return FocusedDetector(inner, WHOLE_S, SURE, max_side_px)


def face(x: float, y: float, side: float = 60.0, score: float = 0.9) -> Face:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32) * side
    return Face(np.array([x, y, side, side], np.float32), points + np.array([x, y], np.float32), score)


@dataclass
class Scripted:
    """A detector that finds faces with a white corner pixel."""

    seen: list[tuple[int, int]] = field(default_factory=list)  # height, width of each input

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
    detector = focused(inner)
    for i in range(11):
        assert look(detector, view((200 + 2 * i, 180)), i) == [[200.0 + 2 * i, 180.0]]
    whole = [shape == (480, 640) for shape in inner.seen]
    assert whole == [True, False, False, False, False] * 2 + [True]
    assert max(h * w for h, w in inner.seen if (h, w) != (480, 640)) < 0.15 * 480 * 640


def test_boxes_and_landmarks_of_a_region_are_those_of_the_frame() -> None:
    detector = focused(Scripted())
    for i in range(2):
        (found,) = detector.detect(Frame(view((333, 222)), i / FPS, i))
        np.testing.assert_array_equal(found.box_px, face(333, 222).box_px)
        np.testing.assert_allclose(found.landmarks_px, face(333, 222).landmarks_px)


def test_a_face_that_left_its_region_is_found_in_the_same_frame() -> None:
    inner = Scripted()
    detector = focused(inner)
    look(detector, view((100, 100)), 0)
    assert look(detector, view((500, 300)), 1) == [[500.0, 300.0]]
    assert inner.seen[-1] == (480, 640)


def test_a_newcomer_is_found_at_the_next_whole_view() -> None:
    detector = focused(Scripted())
    look(detector, view((40, 40)), 0)
    both = view((40, 40), (500, 300))
    assert [len(look(detector, both, i)) for i in range(1, 6)] == [1, 1, 1, 1, 2]


def test_a_face_cut_by_the_regions_border_is_not_detected() -> None:
    detector = focused(Scripted())
    look(detector, view((100, 100)), 0)
    assert look(detector, view((100, 100), (64 + 32, 200)), 1) == [[100.0, 100.0]]


def test_faces_all_over_the_view_are_seen_in_whole_views() -> None:
    inner = Scripted()
    detector = focused(inner)
    for i in range(4):
        look(detector, view((10, 10), (560, 400)), i)
    assert set(inner.seen) == {(480, 640)}


@pytest.mark.parametrize("second", [Frame(view((100, 100))[:400], 1 / FPS, 1), Frame(view((100, 100)), -1.0, 1)])
def test_a_new_frame_size_or_an_earlier_time_gets_a_whole_view(second: Frame) -> None:
    inner = Scripted()
    detector = focused(inner)
    look(detector, view((100, 100)), 0)
    detector.detect(second)
    assert inner.seen[-1] == second.image.shape[:2]


def test_a_region_gives_the_detections_of_the_whole_view() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:, 64:576] = still("astronaut")[:480]
    detector = build_focused_detector(Config())
    (whole,), (near,) = (detector.detect(Frame(picture, i / FPS, i)) for i in range(2))
    np.testing.assert_allclose(near.landmarks_px, whole.landmarks_px, atol=0.04 * whole.size_px)
    np.testing.assert_allclose(near.box_px, whole.box_px, atol=0.04 * whole.size_px)


@dataclass
class Shrinking:
    """A detector with low confidence in reduced views; a false detection has a white corner with a gray neighbour."""

    max_side_px: int = 320
    shrunk_score: float = 0.5
    seen: list[tuple[int, int]] = field(default_factory=list)

    def set_max_side(self, max_side_px: int) -> None:
        self.max_side_px = max_side_px

    def detect(self, frame: Frame) -> list[Face]:
        self.seen.append(frame.image.shape[:2])
        shrunk = max(frame.image.shape[:2]) > self.max_side_px
        places = [(float(x), float(y)) for y, x in np.argwhere(frame.image[:, :, 0] == 255)]
        real = [bool(frame.image[int(y), int(x), 1] == 255) for x, y in places]
        off = 3.0 if shrunk else 0.0  # positions are coarse in reduced views
        return [
            face(x + off, y, score=0.5 if not true else self.shrunk_score if shrunk else 0.9)
            for (x, y), true in zip(places, real, strict=True)
        ]


def test_an_uncertain_detection_in_a_reduced_view_gets_a_second_look_at_full_resolution() -> None:
    inner = Shrinking()
    detector = focused(inner, 320)
    image = view((200, 180))
    assert look(detector, image, 0) == [[200.0, 180.0]]
    assert inner.seen[0] == (480, 640)
    assert max(inner.seen[1]) <= 320


def test_a_known_face_with_a_confident_detection_needs_no_second_look() -> None:
    inner = Shrinking(shrunk_score=0.9)
    detector = focused(inner, 320)
    assert look(detector, view((200, 180)), 0) == [[200.0, 180.0]]
    assert len(inner.seen) == 2
    later = round(WHOLE_S * FPS) + 1
    assert look(detector, view((200, 180)), later) == [[203.0, 180.0]]
    assert len(inner.seen) == 3
    assert look(detector, view((200, 180), (500, 60)), 2 * later) == [[203.0, 180.0], [500.0, 60.0]]
    assert len(inner.seen) == 5


def test_a_detection_that_stays_uncertain_at_the_second_look_is_no_face() -> None:
    image = view((200, 180))
    image[180, 200, 1] = 0
    assert look(focused(Shrinking(), 320), image, 0) == []


def test_second_looks_are_limited_and_find_no_face_twice() -> None:
    inner = Shrinking()
    near = [(100, 100), (190, 100)]  # one region contains both
    assert look(focused(inner, 320), view(*near), 0) == [[100.0, 100.0], [190.0, 100.0]]
    crowd = [(x, y) for x in range(20, 600, 140) for y in range(10, 420, 130)]
    inner = Shrinking()
    look(focused(inner, 320), view(*crowd), 0)
    assert len(inner.seen) == 1 + 4


def test_an_uncertain_detection_at_full_size_is_no_face() -> None:
    inner = Shrinking(640)
    image = view((200, 180), (400, 180))
    image[180, 200, 1] = 0
    assert look(focused(inner), image, 0) == [[400.0, 180.0]]
    assert inner.seen == [(480, 640)]


def test_a_face_too_small_for_a_reduced_view_is_found_as_in_the_full_one() -> None:
    picture = np.full((480, 640, 3), 90, np.uint8)
    picture[100:220, 200:320] = cv2.resize(still("astronaut"), (120, 120), interpolation=cv2.INTER_AREA)
    frame = Frame(picture, 0.0, 0)
    plain = build_detector(Config())
    (wanted,) = plain.detect(frame)
    plain.set_max_side(320)
    assert plain.detect(frame) == []
    detector = build_focused_detector(Config())
    detector.set_max_side(320)
    (found,) = detector.detect(frame)
    np.testing.assert_allclose(found.landmarks_px, wanted.landmarks_px, atol=0.06 * wanted.size_px)
