"""Face gates: whether a detection is a whole face of useful size, and sharp, lit and frontal enough to be recognised.

Quality is measured on one canonical patch: the square around the eyes and the mouth, twice the eyes-to-mouth distance
wide, resized to 32×32 gray. Every value therefore means the same for a face of 40 px and one of 400 px. The
measurements that chose the defaults (`tools/lab/research/blur_sweep.py`) call the same functions.

Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame, Quality

Refusal = Literal["too small", "not confident", "cut off"]
Blemish = Literal["too blurred", "too dark", "too bright", "too flat", "turned away", "tilted", "misaligned"]
HINTS: Mapping[str, str] = {
    "too small": "come closer",
    "cut off": "move into the middle of the view",
    "not confident": "look towards the camera",
    "too blurred": "hold still",
    "too dark": "too dark: turn towards the light",
    "too bright": "too bright: turn away from the light",
    "too flat": "find more even light",
    "turned away": "turn back towards the camera a little",
    "tilted": "hold your head upright; if it is, set [camera] rotation",
    "misaligned": "look towards the camera",
}
"""What a person who is being enrolled can do about each refusal."""

Points = NDArray[np.floating]  # (5, 2) px: right eye, left eye, nose, right and left mouth corner
Image = NDArray[Any]  # (H, W, 3) BGR or (H, W) gray, uint8, 0..255; Any, since OpenCV's signatures state no dtype

PATCH_PX = 32  # side of the canonical patch
_REGION = 2.0  # side of the measured square in eyes-to-mouth distances; about the width of the detector's box
_REBLUR = 0.05  # standard deviation of the second blur, in sides of the patch
_COARSE_FLOOR = 1.0  # squared gray levels: sensor noise that remains after the second blur
SHARPNESS_SCALE = 8.0  # measured, see docs/adr/0003-blur-scale.md

_MIN_VISIBLE_SHARE = 0.8  # of the box inside the frame
_LANDMARK_SLACK = 0.25  # of the box's longer side: how far a landmark may lie outside the box
_EYES_TO_MOUTH = (0.2, 1.0)  # possible distances in a face, in longer sides of the box
_NOSE_BETWEEN = (-0.2, 1.2)  # possible position of the nose on the line from the eyes (0) to the mouth (1)
MAX_ROLL_DEG = 55.0  # beyond this the aligner is seldom right (`python -m tools.lab alignment`)
MIN_TRUST = 0.7  # in the landmarks: drawn animals reach 0.67 (`make demo`), most faces more than 0.75
_GOOD_SIZE_PX = 112.0  # an embedder of 112 or 128 px gains nothing from larger faces


class FaceGate:
    """Admits detections that are certainly a face, large enough and not cut off by the frame's border."""

    def __init__(self, min_size_px: float, min_confidence: float) -> None:
        self._min_size_px = min_size_px
        self._min_confidence = min_confidence

    def refusal(self, frame: Frame, face: Face) -> Refusal | None:
        """Return why the face is refused, the gravest reason first; None: admitted."""
        # these comparisons refuse NaN
        if not face.score >= self._min_confidence or not _is_face_shaped(face):
            return "not confident"
        if not face.size_px >= self._min_size_px:
            return "too small"
        return None if _is_inside(frame, face) else "cut off"


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The limits of `[quality]`, by the names of its keys."""

    min_sharpness: float
    min_brightness: float
    max_brightness: float
    min_contrast: float
    max_yaw: float


class QualityGate:
    """Measures a face and returns the reasons why it is unfit for recognition."""

    def __init__(self, limits: QualityLimits) -> None:
        self._limits = limits

    def assess(self, frame: Frame, face: Face) -> Quality:
        """Measure one face. Only the square around eyes and mouth is read; every value is finite."""
        patch = canonical_patch(frame.image, face.landmarks_px)
        sharp, (mean, deviation) = patch_sharpness(patch), light(patch)
        turned, tilted = yaw(face.landmarks_px), roll_deg(face.landmarks_px)
        tests: dict[Blemish, bool] = {
            "too blurred": sharp < self._limits.min_sharpness,
            "too dark": mean < self._limits.min_brightness or darker_half(patch) < self._limits.min_brightness / 2,
            "too bright": mean > self._limits.max_brightness,
            "too flat": deviation < self._limits.min_contrast,
            "turned away": abs(turned) > self._limits.max_yaw,
            "tilted": abs(tilted) > MAX_ROLL_DEG,
        }
        refused: tuple[Blemish, ...] = tuple(reason for reason, failed in tests.items() if failed)
        if not refused and not face.trust >= MIN_TRUST:
            refused = ("misaligned",)  # darkness and blur lower the trust too, and a person can correct them
        return Quality(sharp, mean, deviation, turned, self._score(sharp, deviation, turned, face), refused, tilted)

    def _score(self, sharp: float, contrast: float, turned: float, face: Face) -> float:
        """Return the rank, 0..1. It is a product: a good factor does not outweigh a bad one. Each factor saturates."""
        size = min(max(face.size_px, 0.0) / _GOOD_SIZE_PX, 1.0) if math.isfinite(face.size_px) else 0.0
        return (
            _saturating(sharp, self._limits.min_sharpness)
            * _saturating(contrast, self._limits.min_contrast)
            * math.cos(turned * math.pi / 2)
            * math.sqrt(size)
            * min(max(face.trust, 0.0), 1.0)
        )


def sharpness(image: Image, landmarks_px: Points) -> float:
    """Variance of the Laplacian of the canonical patch over that of the patch blurred once more; ≥ 0, large is sharp.

    The quotient does not depend on the light's gain and offset, nor on how much structure a face has. A sharp patch
    loses much by a second blur, a blurred one little (after Crété-Roffet et al., "The Blur Effect", 2007). The scale is
    chosen so that 400 corresponds to a common limit: a variance of the Laplacian of 400 on a face crop of 128 px. The
    result is 0 where nothing is visible.
    """
    return patch_sharpness(canonical_patch(image, landmarks_px))


def canonical_patch(image: Image, landmarks_px: Points, side_px: int = PATCH_PX) -> Image:
    """Return the square around eyes and mouth as (side, side) gray uint8; smaller or empty outside the frame."""
    eyes, mouth = landmarks_px[:2].mean(axis=0), landmarks_px[3:].mean(axis=0)
    side = _REGION * float(np.hypot(*(mouth - eyes)))
    corner = (eyes + mouth) / 2 - side / 2
    if not (math.isfinite(side) and side > 0):
        return np.empty((0, 0), np.uint8)
    height, width = image.shape[:2]
    left, right = _clipped(float(corner[0]), side, width)
    top, bottom = _clipped(float(corner[1]), side, height)
    view = image[top:bottom, left:right]
    if view.size == 0:
        return np.empty((0, 0), np.uint8)
    scale = side_px / max(1.0, side)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    patch: Image = cv2.resize(view, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY) if patch.ndim == 3 else patch


def patch_sharpness(patch: Image) -> float:
    """Measure a canonical patch; see `sharpness`."""
    if min(patch.shape) < 3:
        return 0.0
    again = cv2.GaussianBlur(patch.astype(np.float32), (0, 0), _REBLUR * max(patch.shape))
    coarse, fine = (float(cv2.Laplacian(p, cv2.CV_32F).var()) for p in (again, patch))
    return SHARPNESS_SCALE * fine / (coarse + _COARSE_FLOOR)


def light(patch: Image) -> tuple[float, float]:
    """Mean and standard deviation of a patch's gray values; (0, 0) for an empty one."""
    return (float(patch.mean()), float(patch.std())) if patch.size else (0.0, 0.0)


def darker_half(patch: Image) -> float:
    """Mean gray of the darkest of the patch's left, right, upper and lower half: it shows shade over half a face."""
    if min(patch.shape) < 2:
        return 0.0
    rows, columns = patch.mean(axis=1), patch.mean(axis=0)
    halves = [part for line in (rows, columns) for part in (line[: line.size // 2], line[line.size // 2 :])]
    return min(float(half.mean()) for half in halves)


def yaw(landmarks_px: Points) -> float:
    """How far a head is turned, −1..1, from the nose's offset beside the line from the eyes to the mouth.

    The unit is half the eyes-to-mouth distance. A turn does not change this distance, while the eyes' distance shrinks.
    Positive: the nose points to the right of the image. 1 where the landmarks form no face.
    """
    eyes, mouth = landmarks_px[:2].mean(axis=0), landmarks_px[3:].mean(axis=0)
    down, nose = mouth - eyes, landmarks_px[2] - eyes
    square = float(down @ down)
    across = float(nose[0] * down[1] - nose[1] * down[0])  # positive to the right of the way down
    if not (math.isfinite(square) and math.isfinite(across) and square > 0):
        return 1.0
    return min(1.0, max(-1.0, 2.0 * across / square))


def roll_deg(landmarks_px: Points) -> float:
    """How far a head is tilted, −180..180°, from the line eyes to mouth; positive: clockwise in the image.

    180 where the landmarks form no face.
    """
    across, down = (float(v) for v in landmarks_px[3:].mean(axis=0) - landmarks_px[:2].mean(axis=0))
    if not (math.isfinite(across) and math.isfinite(down) and (across or down)):
        return 180.0
    return math.degrees(math.atan2(-across, down))


def _clipped(start: float, side: float, limit: int) -> tuple[int, int]:
    first, last = (min(max(v, 0.0), float(limit)) for v in (start, start + side))
    return round(first), round(last)


def _saturating(value: float, reference: float) -> float:
    """0 at 0, ½ at the reference, towards 1 above."""
    return value / (value + reference) if value > 0 else 0.0


def _is_face_shaped(face: Face) -> bool:
    points, (x, y, width, height) = face.landmarks_px, face.box_px
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    length, longer = float(np.hypot(*down)), float(max(width, height))
    shortest, longest = _EYES_TO_MOUTH
    if not shortest * longer <= length <= longest * longer:
        return False
    nose = float((points[2] - eyes) @ down) / length**2
    slack = _LANDMARK_SLACK * longer
    within = (points >= (x - slack, y - slack)) & (points <= (x + width + slack, y + height + slack))
    return _NOSE_BETWEEN[0] <= nose <= _NOSE_BETWEEN[1] and bool(within.all())


def _is_inside(frame: Frame, face: Face) -> bool:
    x, y, width, height = (float(v) for v in face.box_px)
    seen_x = min(x + width, frame.width_px) - max(x, 0.0)
    seen_y = min(y + height, frame.height_px) - max(y, 0.0)
    visible = max(seen_x, 0.0) * max(seen_y, 0.0)
    limits = (frame.width_px, frame.height_px)
    landmarks_seen = (face.landmarks_px >= 0).all() and (face.landmarks_px <= limits).all()
    return visible >= _MIN_VISIBLE_SHARE * width * height and bool(landmarks_seen)
