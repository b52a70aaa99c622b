"""Tilted heads are faces: a find that the detector is unsure of is turned upright, and looked at again.

The detector learnt from upright faces. At a roll of 45° it gives two thirds of the faces a score between that of a
sure find and that of nothing. The aligner's network says whether such a find may be a tilted head, and how far it is
tilted; the detector then sees the same place upright, and its second word counts. So what is no face stays none: it
needs the same score as everything else.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame
from edge.vision.geometry import cut, similarity

_TILTED_DEG = 10.0  # from here on the detector's doubt may come from the roll
_MIN_TRUST = 0.3  # in the landmarks that say so
_AT_MOST = 4  # second looks a frame: bounds the cost of a crowd and of a hostile picture
_VIEW_PX = 128  # side of the square that is looked at again
_EYES_PX, _MOUTH_PX = (63.5, 50.5), (63.5, 78.5)  # in it: a face of about 60 px in the middle
_NEAR_PX = 20.0  # that the landmarks' middle may lie off the square's


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract

    def set_max_side(self, max_side_px: int) -> None: ...  # noqa: D102


class Refiner(Protocol):
    """Finds landmarks again, with the trust in them."""

    def refine(self, frame: Frame, face: Face) -> Face: ...  # noqa: D102


class TiltedDetector:
    """A detector that looks again, upright, where it is unsure. `detector` must tell of unsure finds too.

    A find of `sure` or more needs no second look. Those of `tells` or more come back, surest first.
    """

    def __init__(self, detector: Detector, refiner: Refiner, sure: float, tells: float) -> None:
        self._detector = detector
        self._refiner = refiner
        self._sure = sure
        self._tells = tells

    def set_max_side(self, max_side_px: int) -> None:
        """Shrink what is looked at to this longer side from now on."""
        self._detector.set_max_side(max_side_px)

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, surest first."""
        found = self._detector.detect(frame)
        unsure = [face for face in found if face.score < self._sure]
        again = [self._upright(frame, face) for face in unsure[:_AT_MOST]]
        faces = [face for face in found if face.score >= self._sure] + again + unsure[_AT_MOST:]
        return sorted((face for face in faces if face.score >= self._tells), key=lambda face: -face.score)

    def _upright(self, frame: Frame, face: Face) -> Face:
        """Return the face as the second look shows it, or as it was where that shows no more."""
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
