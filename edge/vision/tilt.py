"""Tilted heads: an uncertain detection is turned upright and looked at again.

The detector was trained on upright faces. At a roll of 45° it gives two thirds of the faces an uncertain score. The
aligner's network estimates whether such a detection is a tilted head, and its roll. The detector then sees the same
place upright, and its second score counts. Other objects gain nothing: every face needs the same score.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame
from edge.vision.geometry import cut, similarity

_TILTED_DEG = 10.0  # from this roll on the low score may come from the roll
_MIN_TRUST = 0.3  # least trust in the landmarks that show the roll
_AT_MOST = 4  # second looks a frame: limits the cost of a crowd and of a hostile picture
_VIEW_PX = 128  # side of the square of the second look
_EYES_PX, _MOUTH_PX = (63.5, 50.5), (63.5, 78.5)  # in this square: a face of about 60 px in the middle
_NEAR_PX = 20.0  # largest distance of the landmarks' middle from the square's


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract

    def set_max_side(self, max_side_px: int) -> None: ...  # noqa: D102


class Refiner(Protocol):
    """Refines landmarks, with the trust in them."""

    def refine(self, frame: Frame, face: Face) -> Face: ...  # noqa: D102


class TiltedDetector:
    """A detector that looks again, upright, where it is uncertain. `detector` must return uncertain detections too.

    A detection with a score of `sure` or more gets no second look. Those of `least` or more are returned.
    """

    def __init__(self, detector: Detector, refiner: Refiner, sure: float, least: float) -> None:
        self._detector = detector
        self._refiner = refiner
        self._sure = sure
        self._least = least

    def set_max_side(self, max_side_px: int) -> None:
        """Shrink views to this longer side from now on."""
        self._detector.set_max_side(max_side_px)

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, highest score first."""
        found = self._detector.detect(frame)
        unsure = [face for face in found if face.score < self._sure]
        again = [self._upright(frame, face) for face in unsure[:_AT_MOST]]
        faces = [face for face in found if face.score >= self._sure] + again + unsure[_AT_MOST:]
        return sorted((face for face in faces if face.score >= self._least), key=lambda face: -face.score)

    def _upright(self, frame: Frame, face: Face) -> Face:
        """Return the face with the score and the landmarks of the second look, unchanged where that is no better."""
        placed = self._refiner.refine(frame, face)
        eyes, mouth = placed.landmarks_px[:2].mean(axis=0), placed.landmarks_px[3:].mean(axis=0)
        across, down = (float(v) for v in mouth - eyes)
        if placed.trust < _MIN_TRUST or abs(math.degrees(math.atan2(across, down))) < _TILTED_DEG:
            return face
        to_view = similarity(np.stack([eyes, mouth]), np.array([_EYES_PX, _MOUTH_PX]))
        view = Frame(cut(frame.image, to_view, _VIEW_PX), frame.t_s, frame.index)
        score = max((seen.score for seen in self._detector.detect(view) if _is_central(seen.landmarks_px)), default=0.0)
        return replace(placed, score=score) if score > face.score else face


def _is_central(landmarks_px: NDArray[np.float32]) -> bool:
    return float(np.abs(landmarks_px.mean(axis=0) - (_VIEW_PX - 1) / 2).max()) < _NEAR_PX
