"""The face gates: size, confidence, geometry; blur, light and pose on real faces of every size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from edge.config import QualityConfig
from edge.records import Face, Frame
from edge.vision.gates import (
    HINTS,
    Blemish,
    FaceGate,
    QualityGate,
    QualityLimits,
    Refusal,
    canonical_patch,
    sharpness,
    yaw,
)
from tests.footage import Image, still, video

Points = NDArray[np.float32]
FACES_PX = (40, 50, 64, 80, 110)  # width of the detector's box
BOX_WIDTH = 2.1  # the detector's box in eyes-to-mouth distances

# The detector's landmarks of two people of the footage: right eye, left eye, nose, right and left mouth corner.
WOMAN_PX = np.array([(200, 102), (247, 103), (220, 125), (199, 143), (240, 144)], np.float32)  # astronaut.png
MAN_PX = np.array([(79, 55), (99, 55), (90, 67), (82, 78), (99, 77)], np.float32)  # carphone, frame 20


def make_face(landmarks_px: Points, score: float = 0.9, box_px: tuple[float, ...] | None = None) -> Face:
    """Return a face with these landmarks and the detector's box around them."""
    if box_px is None:
        middle = landmarks_px.mean(axis=0)
        distance = float(np.hypot(*(landmarks_px[3:].mean(axis=0) - landmarks_px[:2].mean(axis=0))))
        width, height = BOX_WIDTH * distance, 2.8 * distance
        box_px = (middle[0] - width / 2, middle[1] - height / 2, width, height)
    return Face(np.array(box_px, np.float32), landmarks_px, score)


def make_frame(image: Image) -> Frame:
    return Frame(np.ascontiguousarray(image), 0.0, 0)


def gate(**changes: float) -> QualityGate:
    return QualityGate(QualityLimits(**(msgspec.structs.asdict(QualityConfig()) | changes)))


def woman(face_px: float, blur: float = 0.0) -> tuple[Image, Points]:
    """Return the woman's picture, blurred by a share of the face's size and scaled to a face of `face_px`."""
    distance = float(np.hypot(*(WOMAN_PX[3:].mean(axis=0) - WOMAN_PX[:2].mean(axis=0))))
    native_px = BOX_WIDTH * distance
    image = still("astronaut")
    if blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur * native_px), np.uint8)
    scale = face_px / native_px
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
    return image, np.asarray((WOMAN_PX + 0.5) * scale - 0.5, np.float32)


# Blur -----------------------------------------------------------------------------------------------------------------


# A blur of 1 % is less than half a pixel of the smallest face: scaling blurs it more than that.
@pytest.mark.parametrize(("blur", "ratio"), [(0.01, 1.5), (0.02, 1.25), (0.03, 1.25)])
def test_one_blur_measures_the_same_on_a_small_and_on_a_large_face(blur: float, ratio: float) -> None:
    found = [sharpness(*woman(face_px, blur)) for face_px in FACES_PX]
    assert max(found) / min(found) < ratio


def test_a_sharp_face_has_similar_sharpness_at_every_size() -> None:
    found = [sharpness(*woman(face_px)) for face_px in FACES_PX]
    assert max(found) / min(found) < 1.7  # a larger picture has more real detail


@pytest.mark.parametrize("face_px", FACES_PX)
def test_sharpness_falls_with_every_step_of_blur(face_px: float) -> None:
    found = [sharpness(*woman(face_px, blur)) for blur in (0.0, 0.01, 0.015, 0.02, 0.03, 0.04)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[3]


@pytest.mark.parametrize(("gain", "offset"), [(0.4, 0), (0.7, 20), (0.5, 100)])
def test_sharpness_does_not_depend_on_the_light(gain: float, offset: float) -> None:
    image, landmarks = woman(90)
    lit = np.clip(image * gain + offset, 0, 255).round().astype(np.uint8)
    assert sharpness(lit, landmarks) == pytest.approx(sharpness(image, landmarks), rel=0.15)


def test_a_gray_image_measures_as_its_colour_original() -> None:
    image, landmarks = woman(90)
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    assert sharpness(gray, landmarks) == pytest.approx(sharpness(image, landmarks), rel=0.02)


@pytest.mark.parametrize("face_px", FACES_PX)
def test_the_default_refuses_blur_that_changes_the_embedding_and_no_sharp_face(face_px: float) -> None:
    for blur, expected in ((0.0, ()), (0.01, ()), (0.03, ("too blurred",))):
        image, landmarks = woman(face_px, blur)
        assert gate().assess(make_frame(image), make_face(landmarks)).refused == expected


def test_every_sharp_frame_of_the_talking_man_is_fit() -> None:
    quality = gate().assess(make_frame(video("carphone", 40)[20]), make_face(MAN_PX))
    assert quality.refused == ()


# Light and pose -------------------------------------------------------------------------------------------------------


def relit(gain: float, offset: float = 0.0) -> Image:
    return np.asarray(np.clip(still("astronaut") * gain + offset, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("image", "reason"),
    [(lambda: relit(0.1), "too dark"), (lambda: relit(3.0), "too bright"), (lambda: relit(0.06, 110), "too flat")],
)
def test_bad_light_is_named(image: object, reason: str) -> None:
    assert callable(image)
    quality = gate().assess(make_frame(image()), make_face(WOMAN_PX))
    assert reason in quality.refused


def test_a_face_against_the_light_is_too_dark_however_bright_the_picture_is() -> None:
    image = np.full((512, 512, 3), 250, np.uint8)
    image[50:190, 150:300] = relit(0.12)[50:190, 150:300]
    assert "too dark" in gate().assess(make_frame(image), make_face(WOMAN_PX)).refused


@pytest.mark.parametrize("side", ["left", "right", "top"])
def test_a_face_half_in_deep_shade_is_too_dark(side: str) -> None:
    image, middle = still("astronaut").copy(), WOMAN_PX.mean(axis=0).astype(int)
    halves = {"left": image[:, : middle[0]], "right": image[:, middle[0] :], "top": image[: middle[1]]}
    halves[side][:] = halves[side] * 0.05
    assert gate().assess(make_frame(image), make_face(WOMAN_PX)).refused == ("too dark",)


def turned(yaw_degrees: float, roll_degrees: float = 0.0) -> Points:
    """Return landmarks of a typical head, rotated around the vertical axis, then rolled, in parallel projection."""
    head = np.array(
        [(-32, 0, 0), (32, 0, 0), (0, 35, 30), (-25, 68, 5), (25, 68, 5)], np.float64
    )  # mm, z to the camera
    t, r = math.radians(yaw_degrees), math.radians(roll_degrees)
    x, y = head[:, 0] * math.cos(t) + head[:, 2] * math.sin(t), head[:, 1]
    seen = np.stack([x * math.cos(r) - y * math.sin(r), x * math.sin(r) + y * math.cos(r)], axis=1)
    return np.asarray(seen + 200, np.float32)


def test_yaw_grows_from_frontal_to_profile_and_has_a_side() -> None:
    found = [yaw(turned(degrees)) for degrees in (-90, -60, -30, 0, 30, 60, 90)]
    assert found == sorted(found)
    assert found[3] == pytest.approx(0, abs=1e-6)
    assert found == pytest.approx([-v for v in reversed(found)])
    assert found[-1] > 0.75


@pytest.mark.parametrize("roll_degrees", [-60.0, 45.0, 170.0])
def test_a_tilted_head_is_not_turned_away(roll_degrees: float) -> None:
    assert yaw(turned(20, roll_degrees)) == pytest.approx(yaw(turned(20)), abs=1e-4)


def test_a_profile_is_refused_and_a_half_turned_head_is_not() -> None:
    frame = make_frame(still("astronaut"))
    assert "turned away" in gate().assess(frame, make_face(turned(75))).refused
    assert "turned away" not in gate().assess(frame, make_face(turned(25))).refused


def test_the_score_prefers_the_sharper_the_larger_and_the_more_frontal_shot() -> None:
    def score(face_px: float, blur: float = 0.0) -> float:
        image, landmarks = woman(face_px, blur)
        return gate().assess(make_frame(image), make_face(landmarks)).score

    assert 0 < score(90, 0.03) < score(90, 0.015) < score(90) < 1
    assert score(45) < score(90)
    image, landmarks = woman(90)
    aside = landmarks.copy()
    aside[2] += (12, 0)
    assert gate().assess(make_frame(image), make_face(aside)).score < score(90)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (400, 1, 3), (2, 2, 3)])
def test_a_tiny_frame_is_measured_without_a_crash_and_is_unfit(shape: tuple[int, ...]) -> None:
    quality = gate().assess(make_frame(np.full(shape, 90, np.uint8)), make_face(WOMAN_PX))
    assert not quality.fit


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_uniform_region_has_no_sharpness_and_no_contrast(level: int) -> None:
    quality = gate().assess(make_frame(np.full((480, 640, 3), level, np.uint8)), make_face(WOMAN_PX))
    assert (quality.sharpness, quality.brightness, quality.contrast) == (0.0, level, 0.0)
    assert {"too blurred", "too flat"} <= set(quality.refused)


def test_a_face_half_outside_is_measured_on_its_visible_part() -> None:
    image, landmarks = woman(90)
    middle = int(landmarks[:, 0].mean())
    whole = sharpness(image, landmarks)
    half = sharpness(np.ascontiguousarray(image[:, middle:]), landmarks - np.array([middle, 0], np.float32))
    assert half == pytest.approx(whole, rel=0.5)


def test_a_face_outside_of_the_frame_is_unfit() -> None:
    quality = gate().assess(make_frame(still("astronaut")), make_face(WOMAN_PX + 5000))
    assert not quality.fit
    assert quality.score == 0


def test_the_patch_reads_nothing_beyond_eyes_and_mouth() -> None:
    image = still("astronaut").copy()
    before = canonical_patch(image, WOMAN_PX)
    image[200:], image[:, :170] = 255, 0
    np.testing.assert_array_equal(canonical_patch(image, WOMAN_PX), before)


@settings(deadline=None)
@given(
    landmarks=arrays.arrays(np.float32, (5, 2), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_any_landmarks_give_finite_numbers(landmarks: Points, size: tuple[int, int]) -> None:
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(*size, 3)
    with np.errstate(all="ignore"):
        face = make_face(landmarks, box_px=(0, 0, 50, 50))
        quality = gate().assess(make_frame(image), face)
        assert FaceGate(40, 0.8).refusal(make_frame(image), face) in {None, "too small", "not confident", "cut off"}
    numbers = (quality.sharpness, quality.brightness, quality.contrast, quality.yaw, quality.score)
    assert all(math.isfinite(number) for number in numbers)
    assert 0 <= quality.score <= 1
    assert -1 <= quality.yaw <= 1


# Size and confidence --------------------------------------------------------------------------------------------------

PLACE = np.array([(-10, -10), (10, -10), (0, 0), (-8, 12), (8, 12)], np.float32)  # eyes to mouth 22 px: a face of 46 px


def refusal(face: Face, size: tuple[int, int] = (480, 640)) -> str | None:
    return FaceGate(min_size_px=40, min_confidence=0.8).refusal(make_frame(np.zeros((*size, 3), np.uint8)), face)


def test_a_confident_whole_face_of_the_smallest_size_is_accepted() -> None:
    assert refusal(make_face(PLACE + 100, score=0.8)) is None
    assert refusal(make_face(PLACE * np.float32(40.1 / 46.2) + 100)) is None


def test_a_face_below_the_least_size_is_too_small() -> None:
    assert refusal(make_face(PLACE * np.float32(39 / 46.2) + 100)) == "too small"


@pytest.mark.parametrize("score", [0.79, 0.0, math.nan])
def test_an_uncertain_detection_is_not_confident(score: float) -> None:
    assert refusal(make_face(PLACE + 100, score)) == "not confident"


@pytest.mark.parametrize("middle", [(5, 200), (635, 200), (300, 4), (300, 477), (-50, 200), (2, 2)])
def test_a_face_at_the_border_is_cut_off(middle: tuple[int, int]) -> None:
    assert refusal(make_face(PLACE + np.array(middle, np.float32))) == "cut off"


def test_a_box_slightly_over_the_border_is_accepted() -> None:
    assert refusal(make_face(PLACE + np.array((20, 200), np.float32))) is None


@pytest.mark.parametrize(
    "landmarks",
    [
        np.zeros((5, 2)),  # all in one point
        np.full((5, 2), math.nan),
        PLACE * np.float32(5),  # far outside of the box
        PLACE[[0, 1, 2, 0, 1]],  # the mouth where the eyes are
        PLACE + np.array([(0, 0)] * 2 + [(0, -30)] + [(0, 0)] * 2, np.float32),  # the nose above the eyes
    ],
)
def test_landmarks_that_make_no_face_are_not_confident(landmarks: Points) -> None:
    face = replace(make_face(PLACE + 100), landmarks_px=np.asarray(landmarks + np.float32(100), np.float32))
    assert refusal(face) == "not confident"


def test_a_head_lying_on_its_side_is_a_face() -> None:
    lying = np.stack([PLACE[:, 1], -PLACE[:, 0]], axis=1)
    assert refusal(make_face(np.asarray(lying + 100, np.float32))) is None


def test_each_reason_of_a_gate_has_a_hint_for_the_person() -> None:
    assert set(HINTS) == {*get_args(Refusal), *get_args(Blemish)}
