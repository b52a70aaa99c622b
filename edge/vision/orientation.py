"""Does a picture lie on its side, or upside down? Then no face in it is upright, and nothing else would say why.

A camera that hangs on its side shows faces that are not found, or are refused as tilted. Some of those looks are
repeated on the turned picture. An upright face there is counted and said; nobody is recognised in it, for the owner is
to turn the camera or to set `[camera] rotation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np

from edge.records import NO_FACE, Face, Frame, Quality

ROTATIONS_DEG = (90, 180, 270)  # clockwise
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_NOT_UPRIGHT = frozenset({*NO_FACE, "tilted", "misaligned"})  # reasons that a turned picture may have
EVERY = 60  # such looks for one that is repeated in three directions: at most 5 % more looks


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract


class FaceGate(Protocol):
    """Refuses faces that are too small, too uncertain or cut off; None: admitted."""

    def refusal(self, frame: Frame, face: Face) -> str | None: ...  # noqa: D102


class Refiner(Protocol):
    """Finds landmarks again, with the trust in them."""

    def refine(self, frame: Frame, face: Face) -> Face: ...  # noqa: D102


class QualityGate(Protocol):
    """Says whether a face is fit, and why not."""

    def assess(self, frame: Frame, face: Face) -> Quality: ...  # noqa: D102


class Orientation:
    """Repeats looks without an upright face on the turned picture, by the pipeline's own stages."""

    def __init__(self, detector: Detector, face_gate: FaceGate, refiner: Refiner, quality_gate: QualityGate) -> None:
        self._detector = detector
        self._face_gate = face_gate
        self._refiner = refiner
        self._quality_gate = quality_gate
        self._looks = 0  # without an upright face

    def explain(self, frame: Frame, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Return the reasons of a look, or `upright after N` (degrees, clockwise) where that is the reason for them.

        Looks at the turned picture where the reasons allow it: always for a picture of its own, now and then for a
        frame of a moving view.
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
        """Return the score of the surest upright face of the turned frame, 0 without one."""
        turned = Frame(np.asarray(cv2.rotate(frame.image, _TURNS[rotation_deg]), np.uint8), frame.t_s, frame.index)
        faces = (face for face in self._detector.detect(turned) if self._face_gate.refusal(turned, face) is None)
        refined = [self._refiner.refine(turned, face) for face in faces]
        upright = [f for f in refined if not _NOT_UPRIGHT.intersection(self._quality_gate.assess(turned, f).refused)]
        return max((face.score * face.trust for face in upright), default=0.0)


def setting_for(rotation_deg: int, mirror: bool, found_after_deg: int) -> int:
    """Return the `[camera] rotation` that makes pictures upright, where faces are found after a further turn.

    The camera's picture is turned first and mirrored then; a further turn of a mirrored picture is one backwards.
    """
    return (rotation_deg + (-found_after_deg if mirror else found_after_deg)) % 360


def hints(rotation_deg: int, mirror: bool) -> Mapping[str, str]:
    """Return for each reason what the person at a camera with this setting can do."""
    return {
        _reason(deg): (
            f"the picture {'is upside down' if deg == 180 else 'lies on its side'}: turn the camera, or set"
            f" [camera] rotation = {setting_for(rotation_deg, mirror, deg)}"
        )
        for deg in ROTATIONS_DEG
    }


def _reason(rotation_deg: int) -> str:
    return f"upright after {rotation_deg}"
