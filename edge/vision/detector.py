"""Frame → faces with five landmarks: YuNet, run by OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.records import Face, Frame

_NMS_IOU = 0.3  # overlap above which two boxes are one face; the value of OpenCV's own YuNet sample
_MAX_CANDIDATES = 200  # boxes kept before the overlap is resolved: bounds the cost of a hostile picture
_MIN_SIDE_PX = 16  # below this no face that any gate admits fits into the picture


class YuNetDetector:
    """Find faces in a frame.

    The frame is shrunk so that its longer side is at most `max_side_px`; boxes and landmarks come back in pixels of
    the full frame. `min_confidence` is the detector's own score, 0..1. Source of the network: "YuNet: A Tiny
    Millisecond-level Face Detector", Wu, Peng and Yu, 2023.
    """

    def __init__(self, model: bytes, min_confidence: float, max_side_px: int) -> None:
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(model, np.uint8),
                np.empty(0, np.uint8),
                (320, 320),
                min_confidence,
                _NMS_IOU,
                _MAX_CANDIDATES,
            )
        except cv2.error as e:
            raise ModelError(
                f"OpenCV cannot load the face detector: {e.err}", "reinstall the pinned packages"
            ) from None
        self._max_side_px = max_side_px

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, surest first; an empty list where there are none."""
        height, width = frame.image.shape[:2]
        if min(height, width) < _MIN_SIDE_PX:
            return []
        image: NDArray[np.uint8] = frame.image
        scale = 1.0
        if max(height, width) > self._max_side_px:
            scale = self._max_side_px / max(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._net.setInputSize((image.shape[1], image.shape[0]))
        found: Any = self._net.detect(image)[1]  # None where nothing is found
        if found is None:
            return []
        rows = np.asarray(found, np.float32)  # (N, 15): box 4, landmarks 10, score
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        return [
            Face(box_px=row[:4] / scale, landmarks_px=row[4:14].reshape(5, 2) / scale, score=float(row[14]))
            for row in rows
        ]
