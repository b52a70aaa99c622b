"""Similarity transforms of the plane, and squares cut out of pictures by them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_ALIAS = 2.0  # frame pixels per cut pixel; above this bilinear sampling would alias, so the picture is averaged first


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


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a (2, 3) similarity."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def mapped(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the points, (N, 2), under the (2, 3) transform."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def cut(image: NDArray[np.uint8], matrix: NDArray[np.float64], size_px: int) -> NDArray[np.uint8]:
    """Return the (S, S) or (S, S, 3) square that the similarity `matrix` cuts out of a picture.

    Only the part of the picture that the square shows is read. Beyond the picture its border pixels are repeated.
    """
    shrink = 1.0 / float(np.hypot(matrix[0, 0], matrix[1, 0]))  # picture pixels a cut pixel
    image, matrix = _part(image, matrix, size_px, math.ceil(shrink) + 1)
    if shrink > _ALIAS and image.size:
        image, matrix = _reduced(image, matrix, shrink)
    size = (size_px, size_px)
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _part(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size_px: int, margin_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the part of the picture that the square shows, at least one pixel, and the transform from it."""
    last = size_px - 1.0
    corners = mapped(inverse(matrix), np.array([[0, 0], [last, 0], [0, last], [last, last]]))
    height, width = image.shape[:2]
    limits = np.array([width, height])
    low = np.clip(np.floor(corners.min(axis=0)) - margin_px, 0, limits - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1 + margin_px, low + 1, limits).astype(int)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ low
    return image[low[1] : high[1], low[0] : high[0]], moved


def _reduced(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], shrink: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Shrink the picture by area averaging, to leave at most a factor of two for the warp."""
    factor = _ALIAS / shrink
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    scale = np.diag([width / size[0], height / size[1], 1.0])  # reduced → full frame
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # pixel centres lie at half integers when scaling
    to_full = np.linalg.inv(half) @ scale @ half
    return np.asarray(small, np.uint8), matrix @ to_full
