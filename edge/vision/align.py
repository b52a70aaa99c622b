"""Face → aligned crop: a similarity transform from five landmarks to the geometry that an embedder was trained on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import AlignedFace, Face, Frame

# Landmark order: right eye, left eye, nose, right mouth corner, left mouth corner.
# The two anchors of LightCNN's geometry: the eyes' midpoint and the mouth's midpoint, as weights of the five points.
MIDPOINTS = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5]], np.float64)  # (2, 5)


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (2, 3) least-squares similarity that maps `source` points onto `target` points, both (N, 2), N ≥ 2.

    Rotation, one scale, translation; no reflection. With points as complex numbers the solution is one division.
    Raises ValueError where all source points coincide.
    """
    a, b = (np.asarray(p, np.float64) @ np.array([1, 1j]) for p in (source, target))  # (N,) complex
    centred = a - a.mean()
    power = float(np.vdot(centred, centred).real)
    if not np.isfinite(power) or power < 1e-9:
        raise ValueError("the landmarks coincide: no alignment exists")
    z = complex(np.vdot(centred, b - b.mean())) / power
    t = complex(b.mean() - z * a.mean())
    return np.array([[z.real, -z.imag, t.real], [z.imag, z.real, t.imag]])


class Aligner:
    """Cut faces out of frames in one geometry.

    `size_px` is the side of the square crop. `template_px` are the wanted places of the anchors in it: (2, 2) for the
    eyes' and the mouth's midpoint, or (5, 2) for all five landmarks. `channels` is 1 (gray) or 3 (BGR).
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
        shrink = 1.0 / float(np.hypot(matrix[0, 0], matrix[1, 0]))  # frame pixels a crop pixel
        image = frame.image
        if shrink > 2:  # bilinear sampling would alias: average down first
            image, matrix = _reduced(image, matrix, shrink)
        size = (self._size_px, self._size_px)
        crop = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if self._channels == 1:
            crop = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        return AlignedFace(pixels=np.asarray(crop, np.uint8))


def _reduced(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], shrink: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Shrink the picture by area averaging so that at most a factor of two is left for the warp."""
    factor = 2.0 / shrink
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    scale = np.diag([width / size[0], height / size[1], 1.0])  # reduced → full frame
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # pixel centres lie at half integers when scaling
    to_full = np.linalg.inv(half) @ scale @ half
    return np.asarray(small, np.uint8), matrix @ to_full
