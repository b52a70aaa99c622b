"""The liveness stage with its real model: input, results, and self-test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge.config import Config
from edge.errors import ModelError
from edge.models import golden_liveness
from edge.models.manifest import MANIFEST, LivenessEntry, load_manifest, read_verified
from edge.processes.assembly import build_detector
from edge.processes.liveness_stage import load_calibration
from edge.records import Face, FaceView, Frame, Quality
from edge.vision.detector import YuNetDetector
from edge.vision.liveness import Liveness, LivenessModel, cut, load_liveness, open_liveness
from tests.footage import Image, still, video

SHARP = Quality(sharpness=1000.0, brightness=100.0, contrast=50.0, yaw=0.0, score=1.0)
ENTRY = load_manifest().liveness("minifasnet-v2")


@pytest.fixture(scope="module")
def model() -> LivenessModel:
    return open_liveness("minifasnet-v2")


@pytest.fixture(scope="module")
def stage(model: LivenessModel) -> Liveness:
    return Liveness(model, load_calibration(ENTRY).at(Config().liveness.bpcer))


@pytest.fixture(scope="module")
def detector() -> YuNetDetector:
    return build_detector(Config())


def face(x: float, y: float, width: float, height: float) -> Face:
    box = np.array([x, y, width, height], np.float32)
    return Face(box, np.zeros((5, 2), np.float32), 1.0)


def views(stage: Liveness, detector: YuNetDetector, images: Iterable[Image]) -> list[FaceView]:
    found = []
    for i, image in enumerate(images):
        frame = Frame(image, 0.0, i)
        for seen in detector.detect(frame)[:1]:
            view = stage.view(frame, seen, SHARP)
            assert view is not None
            found.append(view)
    return found


def held(picture: Image, ground: Image, side_px: float) -> Iterator[Image]:
    """Yield frames of a printed picture that is moved, turned and tilted in front of a still background."""
    height, width = ground.shape[:2]
    size = picture.shape[1]
    softened = cv2.GaussianBlur(picture, (0, 0), max(0.4 * size / side_px, 0.1))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side_px / 2
    for i in range(0, 40, 4):
        tilt, turn = 0.25 * np.sin(i / 5), 0.15 * np.sin(i / 7)
        near = 1 + corners[:, :1] / side_px * tilt
        flat = corners * [np.cos(tilt), 1] / near
        turned = flat @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        placed = np.add(turned, [width / 2 + 60 * np.sin(i / 6), height / 2 + 30 * np.cos(i / 9)])
        whole = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
        matrix = cv2.getPerspectiveTransform(whole, placed.astype(np.float32))
        shown = cv2.warpPerspective(softened, matrix, (width, height), ground.copy(), borderMode=cv2.BORDER_TRANSPARENT)
        yield np.asarray(shown, np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"std": (255.0, 255.0, 255.0)}, id="divided by 255"),
        pytest.param({"colour": "rgb"}, id="channels swapped"),
        pytest.param({"scale": 4.0}, id="the other model's scale"),
        pytest.param({"scale": 2.4}, id="scale a little too small"),
        pytest.param({"scale": 3.0}, id="scale a little too large"),
        pytest.param({"near_scale": 2.1}, id="scale of large faces"),
        pytest.param({"near_below": 0.9}, id="wrong faces taken for large"),
    ],
)
def test_a_wrong_input_fails_the_golden_test(change: dict[str, Any]) -> None:
    golden = read_verified(ENTRY.golden)
    wrong = msgspec.structs.replace(ENTRY, contract=msgspec.structs.replace(ENTRY.contract, **change))
    for entry, passes in ((ENTRY, True), (wrong, False)):
        loaded = load_liveness(entry, 1, MANIFEST.parent)
        if passes:
            assert check(entry, golden, loaded) < golden_liveness.MAX_ERROR / 5
        else:
            with pytest.raises(ModelError, match="golden self-test: log-odds differ by"):
                check(entry, golden, loaded)


def check(entry: LivenessEntry, golden: bytes, model: LivenessModel) -> float:
    return golden_liveness.check(entry, golden, lambda f, b: float(model.log_odds([model.view(f, b)])[0]))


def test_a_view_is_cut_as_by_the_authors_of_the_model() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    # A square of 2.7 times the longer side of the box, shifted left and down into the picture.
    view = cut(Frame(image, 0.0, 0), face(260, 10, 30, 40), ENTRY.contract)
    assert view.kept == 1.0
    assert np.array_equal(view.pixels, cv2.resize(image[0:109, 211:320], (80, 80), interpolation=cv2.INTER_LINEAR))


def test_the_view_of_a_large_face_is_padded_by_mirroring_and_not_with_black() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    view = cut(Frame(image, 0.0, 0), face(90, 20, 140, 190), ENTRY.contract)
    assert view.kept == pytest.approx(239 / 190 / 2.7)
    assert view.pixels.min() == 200


def test_the_man_of_the_video_is_live(stage: Liveness, detector: YuNetDetector) -> None:
    found = views(stage, detector, video("carphone")[::20])
    assert len(found) == 6
    assert stage.judge(found) is True
    assert all(stage.judge([view]) for view in found)


@pytest.mark.parametrize("side_px", [280, 400])
def test_a_picture_in_front_of_a_still_background_is_not_live(
    stage: Liveness, detector: YuNetDetector, side_px: float
) -> None:
    ground = np.asarray(cv2.resize(video("bikes", limit=1)[0], (640, 480)), np.uint8)
    found = views(stage, detector, held(still("astronaut"), ground, side_px))
    assert len(found) == 10
    assert [stage.judge(found[i : i + 3]) for i in range(8)] == [False] * 8


@pytest.mark.parametrize(
    ("seen", "quality"),
    [
        pytest.param(face(100, 100, 30, 40), SHARP, id="too small"),
        pytest.param(face(100, 50, 100, 130), replace(SHARP, sharpness=20.0), id="too blurred"),
        pytest.param(face(20, -10, 380, 500), SHARP, id="fills the frame"),
    ],
)
def test_a_face_outside_the_measured_sizes_is_unknown(stage: Liveness, seen: Face, quality: Quality) -> None:
    assert stage.view(Frame(np.full((480, 640, 3), 90, np.uint8), 0.0, 0), seen, quality) is None
    assert stage.judge([]) is None


def test_the_median_of_the_views_decides(stage: Liveness, detector: YuNetDetector) -> None:
    (live, *_) = views(stage, detector, video("carphone")[:1])
    ground = np.full((480, 640, 3), 128, np.uint8)
    (picture, *_) = views(stage, detector, held(still("astronaut"), ground, 280))
    assert stage.judge([live, picture, live]) is True
    assert stage.judge([picture, live, picture]) is False


def test_a_face_that_fills_the_frame_is_never_classified_as_a_picture(stage: Liveness, detector: YuNetDetector) -> None:
    ground = np.full((480, 640, 3), 128, np.uint8)
    (picture, *_) = views(stage, detector, held(still("astronaut"), ground, 280))
    assert stage.judge([picture]) is False
    assert stage.judge([replace(picture, kept=0.4)]) is None
