"""Landmarks are right at every size and tilt, tilted heads are found, and wrong landmarks have low trust."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest

from edge.config import Config, QualityConfig
from edge.errors import ModelError
from edge.models import golden
from edge.models.manifest import MANIFEST, load_manifest, load_verified, read_verified
from edge.processes.assembly import build_detector, build_quality_gate, build_refiner, build_tilted_detector
from edge.records import Face, Frame
from edge.vision.align import MIDPOINTS
from edge.vision.gates import roll_deg
from edge.vision.geometry import cut
from edge.vision.landmarks import LandmarkRefiner
from tests.footage import still

WOMAN_PX = np.array([(200, 102), (247, 103), (220, 125), (199, 143), (240, 144)], np.float32)  # astronaut.png
WOMAN_BOX_PX = 100.0  # its width


@pytest.fixture(scope="module")
def refiner() -> LandmarkRefiner:
    return build_refiner(Config())


def tilted(face_px: float, roll: float) -> tuple[Frame, np.ndarray]:
    """Return the woman with the head tilted clockwise, and her landmarks."""
    middle = WOMAN_PX.mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), -roll, face_px / WOMAN_BOX_PX)
    side = 32 * round(4 * face_px / 32)
    matrix[:, 2] += side / 2 - middle
    how = cv2.INTER_AREA if face_px < WOMAN_BOX_PX else cv2.INTER_LINEAR
    image = cv2.warpAffine(still("astronaut"), matrix, (side, side), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return Frame(np.ascontiguousarray(image, np.uint8), 0.0, 0), WOMAN_PX @ matrix[:, :2].T + matrix[:, 2]


def found_by_hand(landmarks_px: np.ndarray, face_px: float) -> Face:
    """Return a detection like the detector's: a box around the face, and landmarks that do not follow the roll."""
    middle = landmarks_px.mean(axis=0)
    box = np.array([*(middle - (face_px / 2, 0.6 * face_px)), face_px, 1.25 * face_px], np.float32)
    upright = (WOMAN_PX - WOMAN_PX.mean(axis=0)) * np.float32(face_px / WOMAN_BOX_PX) + middle
    return Face(box, upright.astype(np.float32), 0.9)


def test_roll_and_landmarks_are_right_at_every_size_and_tilt(refiner: LandmarkRefiner) -> None:
    for face_px, roll in product((40, 60, 100, 150, 200), (-45, -30, -15, 0, 15, 30, 45)):
        frame, truth = tilted(face_px, roll)
        face = refiner.refine(frame, found_by_hand(truth, face_px))
        assert abs(roll_deg(face.landmarks_px) - roll) < 10, (face_px, roll)
        span = float(np.hypot(*(MIDPOINTS @ truth)[1] - (MIDPOINTS @ truth)[0]))
        off = np.hypot(*(MIDPOINTS @ face.landmarks_px - MIDPOINTS @ truth).T) / span
        assert off.max() < 0.3, (face_px, roll)
        assert face.trust > 0.5, (face_px, roll)


def test_a_view_without_a_face_is_not_trusted(refiner: LandmarkRefiner) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    wall = np.full((200, 200, 3), 120, np.uint8)
    for image in (noise, wall):
        face = refiner.refine(Frame(image, 0.0, 0), found_by_hand(np.full((5, 2), 100.0), 60))
        assert face.trust < 0.5


@pytest.mark.parametrize("roll", [90, 180, -90])
def test_a_roll_beyond_the_limit_is_a_reason_and_no_stranger(refiner: LandmarkRefiner, roll: int) -> None:
    frame, truth = tilted(100, roll)
    face = refiner.refine(frame, found_by_hand(truth, 100))
    refused = build_quality_gate(QualityConfig()).assess(frame, face).refused
    assert {"tilted", "misaligned"} & set(refused)


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (np.nan, 0, 50, 50), (0, 0, np.inf, 50), (-900, -900, 60, 60)])
def test_an_empty_box_gives_no_trusted_face(refiner: LandmarkRefiner, box: tuple[float, float, float, float]) -> None:
    face = Face(np.array(box, np.float32), WOMAN_PX, 0.9)
    assert refiner.refine(Frame(still("astronaut"), 0.0, 0), face).trust < 0.5


def test_tilted_heads_with_uncertain_detections_are_found(refiner: LandmarkRefiner) -> None:
    alone, tilting = build_detector(Config()), build_tilted_detector(Config(), refiner)
    views = [tilted(face_px, roll)[0] for face_px in (40, 50, 60) for roll in (-60, -50, -45, 50, 60)]
    assert sum(len(tilting.detect(view)) for view in views) >= 11
    assert sum(len(alone.detect(view)) for view in views) <= 7


def test_a_second_upright_look_finds_no_face_where_there_is_none(refiner: LandmarkRefiner) -> None:
    tilting = build_tilted_detector(Config(), refiner)
    rng = np.random.default_rng(3)
    for _ in range(10):
        tiles = rng.integers(0, 256, (9, 12, 3), np.uint8)
        image = cv2.resize(tiles, (320, 240), interpolation=cv2.INTER_CUBIC)
        assert tilting.detect(Frame(np.asarray(image, np.uint8), 0.0, 0)) == []


def test_a_cut_equals_a_warp_of_the_whole_picture() -> None:
    image = still("astronaut")
    for scale, angle in ((0.8, 20), (1.5, -130), (0.4, 45)):
        matrix = np.array(cv2.getRotationMatrix2D((220.0, 120.0), angle, scale), np.float64)
        matrix[:, 2] += np.array([32, 32]) - (220, 120)
        part = cut(image, matrix, 64).astype(int)
        if scale >= 0.5:
            whole = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            assert np.abs(part - whole).max() <= 2
        assert part.shape == (64, 64, 3)


def test_the_aligner_passes_its_golden_test_and_differences_are_reported(refiner: LandmarkRefiner) -> None:
    entry = load_manifest().aligner("aligner")
    expected = read_verified(entry.golden, MANIFEST.parent)
    assert refiner.check(entry, expected) < 1e-3
    answers = [refiner.answer(view) for view in golden.views(64)]
    other = golden.record_answers([answer + np.float32(0.1) for answer in answers])
    with pytest.raises(ModelError, match="self-test"):
        refiner.check(entry, other)
    with pytest.raises(ModelError, match="golden file cannot be read"):
        refiner.check(entry, b"{")


def test_a_file_that_is_another_network_is_refused() -> None:
    embedder = load_manifest().embedder("lightcnn9")
    with pytest.raises(ModelError, match="not the aligner"):
        LandmarkRefiner(load_verified(embedder, "onnxruntime"))


def test_a_face_that_is_not_trusted_is_misaligned_and_ranks_last(refiner: LandmarkRefiner) -> None:
    frame, truth = tilted(100, 0)
    face = refiner.refine(frame, found_by_hand(truth, 100))
    gate = build_quality_gate(QualityConfig())
    assert gate.assess(frame, face).fit
    doubted = gate.assess(frame, replace(face, trust=0.2))
    assert doubted.refused == ("misaligned",)
    assert doubted.score < gate.assess(frame, face).score
