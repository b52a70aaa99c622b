"""Motion gate: whether a frame is worth a look, and whether the scene moved or only the camera.

How one frame is judged, on a gray copy of about 160 px width:

1. Phase correlation against an anchor (an earlier frame) measures the global shift of the view.
2. The background model, a running mean with the noise of each pixel, is moved by that shift and brought to the
   frame's light (gain and offset, fitted on the half of the pixels that agree best).
3. A pixel has changed when its value lies outside what its neighbourhood in the background shows, by more than its
   noise. The one-pixel neighbourhood forgives what a pure shift cannot explain: sub-pixel rests, a little roll or zoom.
4. The shift is believed only if it explains most of the view better than a camera at rest would: a person who walks
   past a white wall is not a camera that pans.

Pure: no clock, no I/O. Rates are per frame, so what "slow" means follows the capture rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Frame, Motion, MotionKind

# OpenCV's signatures promise no dtype, hence Any
Gray = NDArray[Any]  # (h, w) uint8, 0..255: the small view
Field = NDArray[np.float32]  # (h, w) float32, one value a pixel of the small view
Shift = tuple[float, float]  # (dx, dy), px of the small view
Light = tuple[float, float]  # gain, offset in gray levels

_WIDTH_PX = 160  # wide enough to see a face of 40 px in 640 change, small enough for a fraction of a millisecond
_REST: Shift = (0.0, 0.0)
_DEAD_BAND_PX = 0.15  # shifts below are the estimator's own noise (0.1 px at a sensor noise of 8 of 255)
_MAX_SHIFT_SHARE = 0.4  # of the side; beyond, the overlap is too small to be checked
_MIN_SIDE_PX = 16  # below, phase correlation has nothing to hold on to
_MIN_RESPONSE = 0.2  # height of the correlation peak, about 1 for the same view, below 0.1 for unrelated ones
_BLOCKS = (4, 3)  # columns, rows of the grid on which shift and rest compete
_MIN_LEAD_SHARE = 0.02  # of a block's pixels, by which the shift must lead there
_MIN_BLOCKS_SHARE = 0.6  # of the blocks must be won, or a shift cannot be told from an object's
_FORGIVEN_AT_REST_PX = 0.25  # mounts tremble
_FORGIVEN_MOVED_PX = 1.0  # sub-pixel rests, a little roll, zoom or parallax

_ANCHOR_FRAMES = 8  # an anchor at rest is renewed after so many frames: light and scene drift away from it
_SLOWEST_RATE = 0.05  # of the running mean: 20 frames
_MOVED_AGE = 2  # frames of memory left after a shift: the mean of a moving view must not blur
_CUT_SHARE = 0.6  # changed share from which the view is another one and the model starts anew

_NOISE_PRIOR = 2.0  # mean absolute deviation after smoothing, gray levels; a sensor noise of 8 of 255 gives 2.1
_NOISE_FACTOR = 5.0  # threshold = factor · mean absolute deviation + floor: 4 standard deviations
_NOISE_FLOOR = 2.0
_MAX_THRESHOLD = 34  # gray levels; no amount of flicker may blind a pixel to a person
_GAIN_RANGE = (0.5, 2.0)  # auto exposure between two frames; beyond, the light itself is news
_FIT_STRIDE = 5
_FIT_PASSES = 2

_NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(slots=True, eq=False)
class _Background:
    """What the view looked like so far, in the coordinates of the anchor."""

    mean: Field  # gray levels
    noise: Field  # mean absolute deviation, gray levels
    window: Field  # Hanning window of the view
    anchor: Field  # an earlier view, zero mean, windowed
    age: int = 1  # frames in the mean
    anchor_age: int = 0  # frames since the anchor
    velocity: Shift = _REST  # of the view, px a frame
    patience: int = 0  # frames for which the velocity is believed until the next crossing of the dead band


@dataclass(frozen=True, slots=True, eq=False)
class _Explanation:
    """One reading of a frame: the background under a shift and a light, and what that leaves unexplained."""

    shift: Shift
    light: Light
    mean: Field  # the background's mean, moved
    noise: Field  # its noise, moved
    expected: Gray  # the mean in the frame's light
    changed: Gray  # 255 where the pixel is not explained, 0 elsewhere and where the background is unknown
    valid: tuple[slice, slice]  # rows, columns that the background covers
    share: float  # changed pixels of the valid ones


class MotionGate:
    """Tells a still view, a moving scene and a moving camera apart, frame by frame."""

    def __init__(self, min_changed_share: float) -> None:
        self._min_share = min_changed_share
        self._background: _Background | None = None

    def observe(self, frame: Frame) -> Motion:
        """Say what moved since the frames before. The first frame, and the first of another size, is `scene`.

        `shift_px` is in px of the full frame; `changed_share` 0..1 of the part of the view seen before.
        """
        gray = _small_gray(frame.image)
        known = self._background
        if known is None or known.mean.shape != gray.shape:
            self._background = _start(gray)
            return Motion("scene", _REST, 1.0)
        windowed = _windowed(gray, known.window)
        best = self._explain(known, gray, _measure_shift(known, windowed))
        if best.share >= _CUT_SHARE:
            self._background = _start(gray)
            return Motion("scene", _REST, best.share)
        _learn(known, gray, best)
        _follow(known, windowed, best.shift)
        (height, width), (dx, dy) = gray.shape, known.velocity
        shift_px = (dx * frame.width_px / width, dy * frame.height_px / height)
        return Motion(self._kind(best.share, known.velocity), shift_px, best.share)

    def _kind(self, share: float, velocity: Shift) -> MotionKind:
        if share >= self._min_share:
            return "scene"
        return "still" if velocity == _REST else "ego"

    def _explain(self, known: _Background, gray: Gray, shift: Shift) -> _Explanation:
        """Read the frame under the measured shift, unless a camera at rest explains it as well."""
        if shift != _REST:
            moved = _compare(known, gray, shift)
            if _wins(moved, _lit(known.mean, moved.light), gray):
                return moved
        return _compare(known, gray, _REST)


def _small_gray(image: NDArray[Any]) -> Gray:
    """Reduce the view to about 160 px width, smoothed 3×3 against sensor noise."""
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH_PX / width)
    size = (_fitting_side(round(width * scale)), _fitting_side(round(height * scale)))
    if size != (width, height):
        # bilinear reads 4 pixels for each one kept: a seventh of the time of INTER_AREA, and the smoothing follows
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return cv2.blur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (3, 3))


@lru_cache(maxsize=8)
def _fitting_side(side_px: int) -> int:
    """Name the next smaller side that the Fourier transform takes unpadded; even, or its zero is half a pixel off."""
    fitting = (n for n in range(side_px, 1, -1) if n % 2 == 0 and cv2.getOptimalDFTSize(n) == n)
    return next(fitting, 1)


def _windowed(gray: Gray, window: Field) -> Field:
    """Zero-mean view under the window. Windowed here, since cv2.phaseCorrelate would do it in place on its input."""
    return (gray - np.float32(gray.mean())) * window


def _start(gray: Gray) -> _Background:
    height, width = gray.shape
    if min(height, width) >= _MIN_SIDE_PX:
        window = np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)
    else:
        window = np.ones(gray.shape, np.float32)
    noise = np.full(gray.shape, _NOISE_PRIOR, np.float32)
    return _Background(gray.astype(np.float32), noise, window, _windowed(gray, window))


def _measure_shift(known: _Background, windowed: Field) -> Shift:
    """Global shift of the view since the anchor; (0, 0) where there is none to be believed."""
    height, width = windowed.shape
    if min(height, width) < _MIN_SIDE_PX:
        return _REST
    (dx, dy), response = cv2.phaseCorrelate(known.anchor, windowed)
    near = abs(dx) <= _MAX_SHIFT_SHARE * width and abs(dy) <= _MAX_SHIFT_SHARE * height
    return (dx, dy) if near and response >= _MIN_RESPONSE and math.hypot(dx, dy) >= _DEAD_BAND_PX else _REST


def _wins(moved: _Explanation, rest: Gray, gray: Gray) -> bool:
    """Whether the shift explains the frame better than rest does, in most blocks of the view.

    Blocks without structure cannot tell and count against it: one object on a blank wall is not the whole view.
    """
    rows, columns = moved.valid
    ours = cv2.absdiff(gray, moved.expected)[rows, columns]
    theirs = cv2.absdiff(gray, rest)[rows, columns]
    votes = cv2.subtract(cv2.compare(ours, theirs, cv2.CMP_LT), cv2.compare(theirs, ours, cv2.CMP_LT), dtype=cv2.CV_32F)
    blocks = cv2.resize(votes, _BLOCKS, interpolation=cv2.INTER_AREA)
    return float(np.mean(blocks >= 255 * _MIN_LEAD_SHARE)) >= _MIN_BLOCKS_SHARE


def _compare(known: _Background, gray: Gray, shift: Shift) -> _Explanation:
    """Find what the background does not explain once it is moved by `shift` and brought to the frame's light."""
    rows, columns = _overlap(gray.shape[0], shift[1]), _overlap(gray.shape[1], shift[0])
    mean, noise = _moved(known.mean, shift), _moved(known.noise, shift)
    light = _fit_light(mean[rows, columns], gray[rows, columns])
    expected = _lit(mean, light)
    forgiven_px = _FORGIVEN_AT_REST_PX if shift == _REST else _FORGIVEN_MOVED_PX
    lowest = _towards(expected, cv2.erode(expected, _NEIGHBOURS), forgiven_px)
    highest = _towards(expected, cv2.dilate(expected, _NEIGHBOURS), forgiven_px)
    beyond = cv2.max(cv2.subtract(gray, highest), cv2.subtract(lowest, gray))
    threshold = np.minimum(cv2.convertScaleAbs(noise, alpha=_NOISE_FACTOR, beta=_NOISE_FLOOR), _MAX_THRESHOLD)
    changed = np.zeros_like(gray)
    inside = changed[rows, columns]
    inside[:] = cv2.compare(beyond, threshold, cv2.CMP_GT)[rows, columns]
    share = cv2.countNonZero(inside) / max(1, inside.size)
    return _Explanation(shift, light, mean, noise, expected, changed, (rows, columns), share)


def _towards(here: Gray, there: Gray, share: float) -> Gray:
    return cv2.addWeighted(here, 1.0 - share, there, share, 0.0)


def _lit(mean: Field, light: Light) -> Gray:
    gain, offset = light
    return cv2.addWeighted(mean, gain, mean, 0.0, offset, dtype=cv2.CV_8U)


def _overlap(side_px: int, d_px: float) -> slice:
    """Name the pixels of one axis that a shift of `d_px` keeps in view; one px more is left out for interpolation."""
    margin = math.ceil(abs(d_px)) + 1 if d_px else 0
    return slice(margin, side_px) if d_px > 0 else slice(0, side_px - margin)


def _moved(field: Field, shift: Shift) -> Field:
    if shift == _REST:
        return field
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _fit_light(mean: Field, gray: Gray) -> tuple[float, float]:
    """Gain and offset that bring the background to the frame's light: least trimmed squares (Rousseeuw 1984).

    The half of the pixels that fits best decides, so that what moved does not pull on the light.
    """
    x = mean[::_FIT_STRIDE, ::_FIT_STRIDE].ravel()
    y = gray[::_FIT_STRIDE, ::_FIT_STRIDE].ravel().astype(np.float32)
    gain, offset = 1.0, float(np.median(y - x)) if x.size else 0.0
    for _ in range(_FIT_PASSES if x.size else 0):
        misfit = np.abs(x * np.float32(gain) + np.float32(offset) - y)
        keep = misfit <= np.partition(misfit, misfit.size // 2)[misfit.size // 2]
        kept_x, kept_y = x[keep], y[keep]
        mx, my = float(kept_x.mean()), float(kept_y.mean())
        spread = float(np.dot(kept_x - mx, kept_x - mx))
        # one gray level of spread pulls the gain of a textureless view towards 1
        pull = float(kept_x.size)
        gain = (float(np.dot(kept_x - mx, kept_y - my)) + pull) / (spread + pull)
        gain = min(max(gain, _GAIN_RANGE[0]), _GAIN_RANGE[1])
        offset = my - gain * mx
    return gain, offset


def _learn(known: _Background, gray: Gray, best: _Explanation) -> None:
    """Take the frame into the background."""
    gain, offset = best.light
    known.noise = best.noise
    known.mean = best.mean * np.float32(gain) + np.float32(offset)
    if best.shift == _REST:
        deviation = cv2.absdiff(gray, best.expected)
        cv2.accumulateWeighted(deviation, known.noise, _SLOWEST_RATE, cv2.bitwise_not(best.changed))
    else:
        uncovered = np.ones(gray.shape, bool)
        uncovered[best.valid] = False
        np.copyto(known.mean, gray, where=uncovered)
        known.age = min(known.age, _MOVED_AGE)
    known.age += 1
    cv2.accumulateWeighted(gray, known.mean, max(_SLOWEST_RATE, 1.0 / known.age))


def _follow(known: _Background, windowed: Field, shift: Shift) -> None:
    """Keep anchor and velocity: the anchor is renewed after a shift and when it has grown old."""
    known.anchor_age += 1
    known.patience -= 1
    if shift != _REST:
        # a slow pan crosses the dead band only every few frames; in between it is still a pan
        known.velocity = (shift[0] / known.anchor_age, shift[1] / known.anchor_age)
        known.patience = 2 * known.anchor_age - 1
    elif known.patience <= 0:
        known.velocity = _REST
    if shift != _REST or known.anchor_age >= _ANCHOR_FRAMES:
        known.anchor, known.anchor_age = windowed, 0
