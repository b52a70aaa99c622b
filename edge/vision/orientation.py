"""Detects that the camera's picture is rotated by 90, 180 or 270 degrees.

Faces in such a picture are not found, or are refused as tilted. Some frames without an upright face are therefore
analysed again after a rotation. An upright face in a rotated picture is counted and reported, but not recognised: the
owner is asked to turn the camera or to set `[camera] rotation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np

from edge.records import NO_FACE, Face, Frame, Quality

ROTATIONS_DEG = (90, 180, 270)  # clockwise
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_NOT_UPRIGHT = frozenset({*NO_FACE, "tilted", "misaligned"})  # refusals that a rotated picture may cause
EVERY = 60  # one of 60 such looks is repeated in three rotations: at most 5 % more looks


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract


class FaceGate(Protocol):
    """Refuses faces that are too small, too uncertain or cut off; None: admitted."""

    def refusal(self, frame: Frame, face: Face) -> str | None: ...  # noqa: D102


class Refiner(Protocol):
    """Refines a face's landmarks and sets the trust in them."""

    def refine(self, frame: Frame, face: Face) -> Face: ...  # noqa: D102


class QualityGate(Protocol):
    """Returns whether a face is fit for the embedder, and the reasons if not."""

    def assess(self, frame: Frame, face: Face) -> Quality: ...  # noqa: D102


class Orientation:
    """Repeats looks without an upright face on the rotated picture, with the pipeline's own stages."""

    def __init__(self, detector: Detector, face_gate: FaceGate, refiner: Refiner, quality_gate: QualityGate) -> None:
        self._detector = detector
        self._face_gate = face_gate
        self._refiner = refiner
        self._quality_gate = quality_gate
        self._looks = 0  # without an upright face

    def explain(self, frame: Frame, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Return `reasons`, or `upright after N` (degrees, clockwise) if a rotated picture explains them.

        The rotations are tried only if the reasons allow this cause: for each still picture, and for one of `EVERY`
        frames of a video.
        """
        if not _NOT_UPRIGHT.intersection(reasons):
            return reasons
        self._looks += 1
        if not frame.still and self._looks % EVERY:
            return reasons
        scores = {rotation_deg: self._surest(frame, rotation_deg) for rotation_deg in ROTATIONS_DEG}
        best_deg = max(scores, key=lambda rotation_deg: scores[rotation_deg])
        return (_reason(best_deg),) if scores[best_deg] > 0.0 else reasons

    def _surest(self, frame: Frame, rotation_deg: int) -> float:
        """Return the highest score of an upright face in the rotated frame, 0 without one."""
        turned = Frame(np.asarray(cv2.rotate(frame.image, _TURNS[rotation_deg]), np.uint8), frame.t_s, frame.index)
        faces = (face for face in self._detector.detect(turned) if self._face_gate.refusal(turned, face) is None)
        refined = [self._refiner.refine(turned, face) for face in faces]
        upright = [f for f in refined if not _NOT_UPRIGHT.intersection(self._quality_gate.assess(turned, f).refused)]
        return max((face.score * face.trust for face in upright), default=0.0)


def setting_for(rotation_deg: int, mirror: bool, found_after_deg: int) -> int:
    """Return the `[camera] rotation` that makes pictures upright, if faces are found after a further rotation.

    The camera's picture is first rotated and then mirrored, so a further rotation of a mirrored picture is subtracted.
    """
    return (rotation_deg + (-found_after_deg if mirror else found_after_deg)) % 360


def hints(rotation_deg: int, mirror: bool) -> Mapping[str, str]:
    """Return the remedy for each reason, for a camera with these settings."""
    return {
        _reason(deg): (
            f"the picture {'is upside down' if deg == 180 else 'lies on its side'}: turn the camera, or set"
            f" [camera] rotation = {setting_for(rotation_deg, mirror, deg)}"
        )
        for deg in ROTATIONS_DEG
    }


def _reason(rotation_deg: int) -> str:
    return f"upright after {rotation_deg}"
