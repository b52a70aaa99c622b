"""Attacks made from pictures of live faces: a print and a screen held before the camera. A stand-in, not a measurement.

Only prints before one webcam are at hand as real attacks. A made attack has the traits by which print and screen are
known: the border of the object, its texture, a smaller range of tones, and gloss. It lies over another picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Face

_FACES_WIDE = (1.6, 2.6)  # width of the object, in face heights
_BORDER = (0.03, 0.08)  # of the object's width
_TURN_DEG = 8.0

Image = NDArray[np.uint8]


def screen(image: Image, face: Face, background: Image, rng: np.random.Generator) -> Image:
    """Return the face (H, W, 3) as a screen shows it: dark frame, pixel grid, moiré, cold light, a reflection."""
    shown = image.astype(np.float32)
    height, width = shown.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(2):  # moiré: the screen's grid against the sensor's gives waves of a few pixels
        angle, length_px = rng.uniform(0, np.pi), rng.uniform(2.5, 12)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / length_px) + rng.uniform(0, 6))
        shown *= 1 + rng.uniform(0.01, 0.06) * wave[:, :, None]
    shown = shown * rng.uniform(0.7, 1.1) + rng.uniform(0, 25)  # black is not black on a screen
    shown *= np.array([rng.uniform(1.0, 1.12), 1.0, rng.uniform(0.88, 1.0)], np.float32)  # blue, green, red
    return _held(_glossy(shown, rng), rng.uniform(5, 45), face, background, rng)


def printed(image: Image, face: Face, background: Image, rng: np.random.Generator) -> Image:
    """Return the face (H, W, 3) as paper shows it: white border, raster, few tones, soft, a reflection."""
    shown = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.3)).astype(np.float32)
    height, width = shown.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pitch_px, angle = rng.uniform(1.8, 4), rng.uniform(0, np.pi / 2)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    raster = np.cos(along * (2 * np.pi / pitch_px)) * np.cos(across * (2 * np.pi / pitch_px))
    shown = 128 + (shown - 128) * rng.uniform(0.6, 0.9) + rng.uniform(2, 10) * raster[:, :, None]
    return _held(_glossy(shown, rng), rng.uniform(190, 245), face, background, rng)


MADE: Mapping[str, Callable[[Image, Face, Image, np.random.Generator], Image]] = {
    "made print": printed,
    "made screen": screen,
}


def _glossy(shown: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Add a soft reflection somewhere."""
    height, width = shown.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = rng.uniform(0.2, 0.8, 2) * (height, width)
    distance = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (rng.uniform(0.1, 0.3) * width) ** 2
    return np.asarray(shown + rng.uniform(0, 60) * np.exp(-distance)[:, :, None], np.float32)


def _held(shown: NDArray[np.float32], border: float, face: Face, background: Image, rng: np.random.Generator) -> Image:
    """Lay a turned rectangle round the face, with a border of this gray, over the background."""
    x, y, width, height = (float(v) for v in face.box_px)
    centre, size = (x + width / 2, y + height / 2), height * rng.uniform(*_FACES_WIDE)
    turn_deg = rng.uniform(-_TURN_DEG, _TURN_DEG)
    result = cv2.resize(background, shown.shape[1::-1]).astype(np.float32)
    for side, pixels in ((size * (1 + 2 * rng.uniform(*_BORDER)), np.full_like(shown, border)), (size, shown)):
        corners = cv2.boxPoints((centre, (side, side * 1.2), turn_deg))
        inside = np.zeros(shown.shape[:2], np.float32)
        cv2.fillConvexPoly(inside, corners.round().astype(np.int32), 1.0, cv2.LINE_AA)
        result += (pixels - result) * inside[:, :, None]
    noise = rng.normal(0, rng.uniform(0.5, 2.5), result.shape)  # the sensor's, over all that it sees
    return np.asarray((result + noise).clip(0, 255), np.uint8)
