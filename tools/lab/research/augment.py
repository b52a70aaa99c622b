"""Picture faults of a wearable camera: side light, gamma, darkness, noise, motion, distance, occlusion, compression.

Pictures are (S, S) float32 in 0..1. Each fault is a function of its strength, for the robustness curves. Training uses
`tools/lab/views.py`, which applies faults to batches on the training device.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.lab.data import STORED_PX

Picture = NDArray[np.float32]  # (S, S) float32, 0..1
SIDE_PX = 128
_DARKEST = 0.03  # lowest share of light on the dark side


def side_light(x: Picture, angle_rad: float, strength: float) -> Picture:
    """Apply light from one side: brightness changes linearly by ±`strength` (0..1) across the picture."""
    axis = np.linspace(-1, 1, len(x), dtype=np.float32)
    ramp = np.float32(np.cos(angle_rad)) * axis[None, :] + np.float32(np.sin(angle_rad)) * axis[:, None]
    return np.asarray(x * np.maximum(1 + np.float32(strength) * ramp, np.float32(_DARKEST)), np.float32)


def gamma(x: Picture, exponent: float) -> Picture:
    """Brighten (exponent below 1) or darken (above 1) the midtones."""
    return np.asarray(np.power(np.maximum(x, 1e-3), np.float32(exponent)), np.float32)


def contrast(x: Picture, gain: float, offset: float) -> Picture:
    """Change contrast around middle gray, and brightness."""
    return np.asarray((x - np.float32(0.5)) * np.float32(gain) + np.float32(0.5 + offset), np.float32)


def low_light(x: Picture, exposure: float, noise: float, rng: np.random.Generator) -> Picture:
    """Apply low light (`exposure` 0..1) that the camera's gain compensates: the noise grows as the signal falls.

    `noise` is the standard deviation at white in full light. The variance is proportional to the signal, plus constant
    read noise of a tenth of the variance at white.
    """
    deviation = np.float32(noise) * np.sqrt((np.maximum(x, 0) + np.float32(0.1)) / np.float32(exposure))
    return np.asarray(x + deviation * rng.standard_normal(x.shape, np.float32), np.float32)


def motion_blur(x: Picture, length_px: float, angle_rad: float) -> Picture:
    """Blur along a straight line, as by a moving camera or head."""
    side = 2 * int(np.ceil(length_px / 2)) + 1
    kernel, centre = np.zeros((side, side), np.float32), side // 2
    reach = np.array([np.cos(angle_rad), np.sin(angle_rad)]) * (length_px - 1) / 2
    a, b = (np.round((centre + sign * reach) * 16).astype(int).tolist() for sign in (-1, 1))  # 1/16 px
    cv2.line(kernel, a, b, 1.0, 1, cv2.LINE_8, shift=4)
    return _filtered(x, kernel / kernel.sum())


def defocus(x: Picture, sigma_px: float) -> Picture:
    """Blur by a Gaussian, as out of focus."""
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32)


def low_resolution(x: Picture, side_px: int) -> Picture:
    """Reduce the resolution to a crop of `side_px` on the sensor."""
    small = cv2.resize(x, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, x.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def occlude(x: Picture, box: tuple[int, int, int, int], value: float) -> Picture:
    """Cover a box (top, left, height, width in px) with one gray value."""
    top, left, height, width = box
    y = x.copy()
    y[top : top + height, left : left + width] = value
    return y


def placed(
    stored: NDArray[np.uint8], turn_rad: float, scale: float, shift_px: tuple[float, float], flip: bool
) -> Picture:
    """Cut (128, 128) out of a stored (144, 144) crop: rotated and scaled around its centre, shifted, mirrored."""
    c, s = np.cos(turn_rad) / scale, np.sin(turn_rad) / scale
    mirror = -1.0 if flip else 1.0
    inverse = np.array([[c * mirror, -s, 0.0], [s * mirror, c, 0.0]])  # from the result to the stored crop
    middle = (SIDE_PX - 1) / 2
    inverse[:, 2] = (STORED_PX - 1) / 2 + np.array(shift_px) - inverse[:, :2] @ [middle, middle]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(stored, inverse, (SIDE_PX, SIDE_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return found.astype(np.float32) / np.float32(255)


def _filtered(x: Picture, kernel: NDArray[np.float32]) -> Picture:
    return np.asarray(cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)
