"""Face → aligned crop: a similarity transform from five landmarks to the geometry that an embedder was trained on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import AlignedFace, Face, Frame
from edge.vision.geometry import cut, similarity

# Landmark order: right eye, left eye, nose, right mouth corner, left mouth corner.
# The two anchors of LightCNN's geometry: the eyes' midpoint and the mouth's midpoint, as weights of the five points.
MIDPOINTS = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5]], np.float64)  # (2, 5)


class Aligner:
    """Cut faces out of frames in one geometry.

    `size_px` is the side of the square crop. `template_px` are the positions of the anchors in it: (2, 2) for the eyes'
    and the mouth's midpoint, or (5, 2) for all five landmarks. `channels` is 1 (gray) or 3 (BGR).
    """

    def __init__(self, size_px: int, template_px: NDArray[np.floating], channels: int) -> None:
        if template_px.shape not in {(2, 2), (5, 2)}:
            raise ValueError(f"a landmark template has 2 or 5 points, not shape {template_px.shape}")
        if channels not in {1, 3}:
            raise ValueError(f"a crop has 1 or 3 channels, not {channels}")
        self._size_px = size_px
        self._template_px = np.asarray(template_px, np.float64)
        self._anchors = MIDPOINTS if len(template_px) == 2 else np.eye(5)  # (2 or 5, 5)
        self._channels = channels

    def align(self, frame: Frame, face: Face) -> AlignedFace:
        """Return the (S, S) or (S, S, 3) uint8 crop of one face; raises ValueError for degenerate landmarks."""
        matrix = similarity(self._anchors @ face.landmarks_px.astype(np.float64), self._template_px)
        crop = cut(frame.image, matrix, self._size_px)
        if self._channels == 1:
            crop = np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), np.uint8)
        return AlignedFace(pixels=crop)
