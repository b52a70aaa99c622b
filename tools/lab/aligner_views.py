"""Training views for the aligner's network: faces with known landmarks.

A view is a square gray picture, cut as the runtime cuts it around a detection. A similarity places a stored crop in a
background: as an oval, as a square, or with its border pixels extended to the whole view. The similarity also moves the
landmarks, so no view is labelled by hand. Then light, blur, noise and a low resolution degrade the view. Some views
show no face, or a face far from the centre; their label is "not aligned".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.landmarks import FACES_A_VIEW, VIEW_PX

STORED_EYES_PX, STORED_MOUTH_PX = (72.0, 48.0), (72.0, 96.0)  # midpoints of eyes and mouth in a stored crop of 144 px
_SPAN_PX = VIEW_PX / FACES_A_VIEW  # eyes-to-mouth distance in a correctly cut view
_MIRRORED = (1, 0, 2, 4, 3)  # order of the landmarks in a mirrored face

Gray = Any  # NDArray[np.uint8]; OpenCV's type hints are wider
Points = NDArray[np.float32]
Move = NDArray[np.float64]  # (2, 3)


@dataclass(frozen=True, slots=True)
class Spread:
    """Deviation of views from the correct cut: standard deviations of shift and scale, half the range of the roll."""

    roll_deg: float
    log_scale: float
    shift: float  # in eyes-to-mouth distances


FIRST, SECOND = Spread(55.0, 0.2, 0.22), Spread(14.0, 0.08, 0.07)  # cut by a detector's box; by an alignment
_ANY_ROLL_SHARE, _SECOND_SHARE, _NO_FACE_SHARE, _FAR_SHARE = 0.12, 0.4, 0.05, 0.05


class Views:
    """Draws random views of (N, 144, 144) uint8 crops with (N, 5, 2) landmarks in px, by a seed, without end."""

    def __init__(self, crops: Gray, points: Points, seed: int) -> None:
        self._crops, self._points = crops, points
        self._rng = np.random.default_rng(seed)
        self._masks = _masks(crops.shape[1])

    def batch(self, count: int) -> tuple[NDArray[np.float32], Points, NDArray[np.bool_]]:
        """Return views (B, 1, S, S) float32 0..255, landmarks (B, 5, 2) in px of the view, (B,) "can be aligned"."""
        views, points, there = zip(*(self._one() for _ in range(count)), strict=True)
        return np.stack(views)[:, None].astype(np.float32), np.stack(points), np.array(there)

    def _one(self) -> tuple[Gray, Points, bool]:
        rng = self._rng
        view = self._ground()
        i = int(rng.integers(len(self._crops)))
        crop, points = self._crops[i], self._points[i]
        if rng.random() < 0.5:
            crop, points = crop[:, ::-1], (len(crop) - 1 - points * (1, 0)) * (1, 0) + points * (0, 1)
            points = points[list(_MIRRORED)]
        kind = rng.random()
        far = kind < _FAR_SHARE
        move = self._far() if far else self._near()
        there = kind >= _FAR_SHARE + _NO_FACE_SHARE
        if there or far:
            view = self._laid(view, crop, move)
        placed = points @ move[:, :2].T + move[:, 2]
        return self._spoiled(view), placed.astype(np.float32), there

    def _near(self) -> NDArray[np.float64]:
        rng = self._rng
        spread = SECOND if rng.random() < _SECOND_SHARE else FIRST
        turned = rng.uniform(-spread.roll_deg, spread.roll_deg)
        if spread is FIRST and rng.random() < _ANY_ROLL_SHARE:
            turned = rng.uniform(-180, 180)
        shift = np.clip(rng.normal(0, spread.shift, 2), -0.6, 0.6)
        return _move(turned, float(np.exp(np.clip(rng.normal(0, spread.log_scale), -0.55, 0.55))), shift)

    def _far(self) -> NDArray[np.float64]:
        rng, way = self._rng, self._rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.5:
            shift = rng.uniform(1.0, 2.5) * np.array([np.cos(way), np.sin(way)])
            return _move(rng.uniform(-60, 60), float(np.exp(rng.normal(0, 0.2))), shift)
        scale = rng.uniform(0.3, 0.5) if rng.random() < 0.5 else rng.uniform(2.0, 3.5)
        return _move(rng.uniform(-60, 60), scale, rng.normal(0, 0.3, 2))

    def _ground(self) -> Gray:
        """Return a background: a part of another crop, a smooth pattern, a uniform gray, or another face."""
        rng, kind = self._rng, self._rng.random()
        other = self._crops[int(rng.integers(len(self._crops)))]
        if kind < 0.4:
            side = int(rng.integers(20, 100))
            x, y = rng.integers(0, len(other) - side, 2)
            part = cv2.resize(other[y : y + side, x : x + side], (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_LINEAR)
            return np.asarray(np.rot90(part, int(rng.integers(4))), np.uint8)
        if kind < 0.75:
            tiles = rng.integers(0, 256, (int(rng.integers(2, 12)),) * 2).astype(np.float32)
            low, high = np.sort(rng.uniform(0, 255, 2))
            soft = cv2.resize(tiles / 255 * (high - low) + low, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_CUBIC)
            return np.clip(soft, 0, 255).astype(np.uint8)
        plain = np.full((VIEW_PX, VIEW_PX), rng.integers(0, 256), np.uint8)
        return plain if kind < 0.9 else self._laid(plain, other, self._far())

    def _laid(self, view: Gray, crop: Gray, move: NDArray[np.float64]) -> Gray:
        rng = self._rng
        if np.hypot(*move[:, 0]) < 0.7 and rng.random() < 0.7:  # less aliasing: the runtime halves large faces too
            crop = cv2.resize(crop, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            move = move @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
        kind, size = rng.random(), (VIEW_PX, VIEW_PX)
        if kind < 0.3:
            border = cv2.BORDER_REPLICATE if kind < 0.15 else cv2.BORDER_REFLECT_101
            return np.asarray(cv2.warpAffine(crop, move, size, borderMode=border), np.uint8)
        mask = self._masks[len(crop)][int(rng.integers(3)) if kind < 0.85 else 3]
        turned = self._turned(move) if rng.random() < 0.6 else move  # else the border would show the roll
        share = cv2.warpAffine(mask, turned, size)
        laid = cv2.warpAffine(crop, move, size, borderMode=cv2.BORDER_REPLICATE)
        return (view + share * (laid.astype(np.float32) - view)).astype(np.uint8)

    def _turned(self, move: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the similarity with another roll, around the centre of the face."""
        middle = move @ np.array([STORED_EYES_PX[0], (STORED_EYES_PX[1] + STORED_MOUTH_PX[1]) / 2, 1.0])
        about = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), self._rng.uniform(-50, 50), 1.0)
        return np.asarray(about @ np.vstack([move, [0, 0, 1.0]]), np.float64)

    def _spoiled(self, view: Gray) -> Gray:
        rng = self._rng
        image: NDArray[Any] = view.astype(np.float32)
        if rng.random() < 0.5:
            image = 255 * (image / 255) ** np.float32(np.exp(rng.normal(0, 0.45)))
        if rng.random() < 0.3:
            way, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
            across = np.linspace(-1, 1, VIEW_PX, dtype=np.float32)
            image = image * (1 + np.float32(strength) * (np.cos(way) * across + np.sin(way) * across[:, None]))
        if rng.random() < 0.15:
            x, y, w, h = rng.integers(0, VIEW_PX, 2).tolist() + rng.integers(4, 20, 2).tolist()
            image[y : y + h, x : x + w] = rng.uniform(0, 255)
        kind = rng.random()
        if kind < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
        elif kind < 0.45:
            small = cv2.resize(image, (int(rng.integers(24, 60)),) * 2, interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.6:
            image = (image - 128) * np.float32(np.exp(rng.normal(-0.2, 0.35))) + 128 + np.float32(rng.normal(0, 25))
        if rng.random() < 0.6:
            image = image + rng.normal(0, rng.uniform(1, 12), image.shape).astype(np.float32)
        return np.clip(image, 0, 255).astype(np.uint8)


def corrected(points: Points) -> Points:
    """Return the detector's landmarks in stored crops, (N, 5, 2) px, moved so that both midpoints fit."""
    z = points.astype(np.float64) @ np.array([1, 1j])  # (N, 5)
    eyes, mouth = z[:, :2].mean(axis=1, keepdims=True), z[:, 3:].mean(axis=1, keepdims=True)
    wanted_eyes, wanted_mouth = complex(*STORED_EYES_PX), complex(*STORED_MOUTH_PX)
    moved = (z - eyes) / (mouth - eyes) * (wanted_mouth - wanted_eyes) + wanted_eyes
    return np.stack([moved.real, moved.imag], axis=-1).astype(np.float32)


def _move(turned_deg: float, scale: float, shift: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2, 3) similarity from a stored crop to a view; the shift in eyes-to-mouth distances."""
    (x, eyes), (_, mouth) = STORED_EYES_PX, STORED_MOUTH_PX
    zoom = scale * _SPAN_PX / (mouth - eyes)
    matrix = np.array(cv2.getRotationMatrix2D((x, (eyes + mouth) / 2), turned_deg, zoom), np.float64)
    matrix[:, 2] += VIEW_PX / 2 - 0.5 - np.array([x, (eyes + mouth) / 2]) + np.asarray(shift) * _SPAN_PX
    return matrix


def _masks(side: int) -> dict[int, list[NDArray[Any]]]:
    """Return side → blending masks, float32 0..1, for whole and halved crops: three ovals and the square."""
    masks: list[NDArray[Any]] = []
    for width, height in ((0.46, 0.49), (0.38, 0.47), (0.5, 0.5)):
        oval = np.zeros((side, side), np.float32)
        cv2.ellipse(oval, (side // 2, side // 2), (int(side * width), int(side * height)), 0, 0, 360, 1, -1)
        masks.append(cv2.GaussianBlur(oval, (0, 0), 0.02 * side))
    masks.append(np.ones((side, side), np.float32))
    return {side: masks, side // 2: [cv2.resize(mask, (side // 2, side // 2)) for mask in masks]}
