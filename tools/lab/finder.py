"""Run the runtime's detector on a face crop for its confidence and landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.models.manifest import load_manifest, load_verified
from edge.records import Face, Frame
from edge.vision.detector import YuNetDetector

_BORDER_SHARE = 0.75  # border around a crop, share of its side: the detector misses faces that fill the picture


class Finder:
    """YuNet for crops with one face. It is not thread-safe."""

    def __init__(self, min_confidence: float = 0.0) -> None:
        model = load_verified(load_manifest().detector("yunet"), "onnxruntime")
        self._detector = YuNetDetector(model, min_confidence, 640)

    def find(self, crop: NDArray[np.uint8]) -> Face | None:
        """Return the most confident face of a (H, W) uint8 gray crop, in px of the crop; None where there is none."""
        border = round(_BORDER_SHARE * max(crop.shape))
        wide = np.pad(crop, border, mode="edge")
        faces = self._detector.detect(Frame(np.asarray(cv2.cvtColor(wide, cv2.COLOR_GRAY2BGR), np.uint8), 0.0, 0))
        if not faces:
            return None
        face = faces[0]
        corner = np.array([border, border, 0, 0], face.box_px.dtype)
        return Face(box_px=face.box_px - corner, landmarks_px=face.landmarks_px - corner[:2], score=face.score)

    def confidence(self, crop: NDArray[np.uint8]) -> float:
        """Return the detector's highest confidence in a face on the crop, 0..1."""
        face = self.find(crop)
        return 0.0 if face is None else face.score
