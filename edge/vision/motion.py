"""Motion gate: whether the view is still, the scene moved, or only the camera moved.

The gate judges each frame on a gray copy of about 160 px width:

1. Phase correlation against an anchor (an earlier frame) measures the global shift of the view.
2. The background model is a running mean with the noise of each pixel. It is moved by that shift and brought to the
   frame's light: gain and offset, fitted on the half of the pixels that fits best. Where too much stays unexplained,
   roll and zoom are fitted too.
3. A pixel has changed when its value lies outside the range of its neighbourhood in the background by more than its
   noise. The one-pixel neighbourhood tolerates what a shift cannot explain: sub-pixel residuals, a little parallax.
4. The camera counts as moved only if the move explains most of the view better than a camera at rest does. A person who
   walks past a white wall is not a panning camera.

Pure: no clock, no I/O. Rates are per frame, so "slow" depends on the capture rate.
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

# Any, since OpenCV's signatures state no dtype
Gray = NDArray[Any]  # (h, w) uint8, 0..255: the small view
Field = NDArray[np.float32]  # (h, w) float32, one value a pixel of the small view
Shift = tuple[float, float]  # (dx, dy), px of the small view
Light = tuple[float, float]  # gain, offset in gray levels
Warp = NDArray[np.float64]  # (2, 3): the similarity from the background to the frame

_WIDTH_PX = 160  # a face of 40 px in 640 still shows; the gate needs a fraction of a millisecond
_REST: Shift = (0.0, 0.0)
_DEAD_BAND_PX = 0.15  # smaller shifts are the estimator's own noise (0.1 px at a sensor noise of 8 of 255)
_MAX_SHIFT_SHARE = 0.4  # of the side; beyond it the overlap is too small to be checked
_MIN_SIDE_PX = 16  # phase correlation needs this much structure
_MIN_RESPONSE = 0.2  # height of the correlation peak, about 1 for the same view, below 0.1 for unrelated ones
_BLOCKS = (4, 3)  # columns, rows of the grid on which shift and rest compete
_MIN_LEAD_SHARE = 0.02  # of a block's pixels: least lead of the shift over rest that wins the block
_MIN_BLOCKS_SHARE = 0.7  # share of blocks that a camera's shift wins; an object's shift wins fewer
_TOLERANCE_AT_REST_PX = 0.25  # mounts tremble
_TOLERANCE_MOVED_PX = 1.0  # sub-pixel residuals, a little parallax

_ANCHOR_FRAMES = 8  # an anchor at rest is renewed after this many frames: light and scene drift
_SLOWEST_RATE = 0.05  # of the running mean: 20 frames
_MOVED_AGE = 2  # frames of memory left after a shift: the mean of a moving view must not blur
_CUT_SHARE = 0.6  # from this changed share on the view is a new one and the model starts again

_NOISE_PRIOR = 2.0  # mean absolute deviation after smoothing, gray levels; a sensor noise of 8 of 255 gives 2.1
_NOISE_FACTOR = 5.0  # threshold = factor · mean absolute deviation + floor: 4 standard deviations
_NOISE_FLOOR = 2.0
_MAX_THRESHOLD = 34  # gray levels; a pixel still shows a person however much it flickers
_GAIN_RANGE = (0.5, 2.0)  # of auto exposure between two frames; a larger change of light is a change of the scene
_FIT_STRIDE = 5
_FIT_PASSES = 2

_TURNS = 2  # steps of refinement by roll and zoom
_TURN_GAIN = 0.7  # a step must bring the changed share below this part of it; otherwise an object moves
_TURN_STRIDE = 2
_TURN_REACH_PX = 4.0  # larger differences belong to moving objects
_TURN_RIDGE = (1.0, 1.0, 1e3, 1e3)  # keeps the step at 0 where the view has no structure
_STILL: Warp = np.eye(2, 3)

_NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(slots=True, eq=False)
class _Background:
    """The view so far, in the coordinates of the anchor."""

    mean: Field  # gray levels
    noise: Field  # mean absolute deviation, gray levels
    window: Field  # Hanning window of the view
    anchor: Field  # an earlier view, zero mean, windowed
    age: int = 1  # frames in the mean
    anchor_age: int = 0  # frames since the anchor
    velocity: Shift = _REST  # of the view, px a frame
    patience: int = 0  # frames for which the velocity stays valid without another shift above the dead band


@dataclass(frozen=True, slots=True, eq=False)
class _Explanation:
    """One explanation of a frame: the background under a warp and a light, and the pixels left unexplained."""

    warp: Warp
    shift: Shift  # of the middle of the view under the warp
    light: Light
    mean: Field  # the background's mean, moved
    noise: Field  # its noise, moved
    expected: Gray  # the moved mean in the frame's light
    changed: Gray  # 255 where the pixel is unexplained, 0 elsewhere and where the background is unknown
    valid: tuple[slice, slice]  # rows, columns that the background covers
    share: float  # changed pixels of the valid ones


class MotionGate:
    """Distinguishes a still view, a moving scene and a moving camera, frame by frame."""

    def __init__(self, min_changed_share: float) -> None:
        self._min_share = min_changed_share
        self._background: _Background | None = None

    def observe(self, frame: Frame) -> Motion:
        """Return the motion since the frames before. The first frame, and the first of another size, is `scene`.

        `shift_px` is in px of the full frame; `changed_share` is 0..1 of the part of the view seen before.
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
        _follow(known, windowed, best)
        (height, width), (dx, dy) = gray.shape, known.velocity
        shift_px = (dx * frame.width_px / width, dy * frame.height_px / height)
        otherwise: MotionKind = "ego" if known.patience else "still"
        return Motion("scene" if best.share >= self._min_share else otherwise, shift_px, best.share)

    def _explain(self, known: _Background, gray: Gray, shift: Shift) -> _Explanation:
        """Return the moved camera where it explains most of the view better than a camera at rest, else the latter."""
        first = moved = _compare(known, gray, _translation(shift))
        if shift == _REST and first.share < self._min_share:
            return first
        wins = _wins(moved, known, gray)
        for _ in range(_TURNS):
            if moved.share >= _CUT_SHARE or (wins and moved.share < self._min_share):
                break
            turned = _compare(known, gray, _turned(moved, gray))
            if turned.share >= max(self._min_share, _TURN_GAIN * moved.share):
                break
            moved, wins = turned, _wins(turned, known, gray)
        if wins:
            return moved
        return first if shift == _REST else _compare(known, gray, _STILL)


def _small_gray(image: NDArray[Any]) -> Gray:
    """Reduce the view to about 160 px width, smoothed 3×3 against sensor noise."""
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH_PX / width)
    size = (_fitting_side(round(width * scale)), _fitting_side(round(height * scale)))
    if size != (width, height):
        # bilinear reads 4 pixels for each one kept: a seventh of INTER_AREA's time, and smoothing follows
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return cv2.blur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (3, 3))


@lru_cache(maxsize=8)
def _fitting_side(side_px: int) -> int:
    """Return the next smaller even side that needs no padding in the Fourier transform; odd ones are half a px off."""
    fitting = (n for n in range(side_px, 1, -1) if n % 2 == 0 and cv2.getOptimalDFTSize(n) == n)
    return next(fitting, 1)


def _windowed(gray: Gray, window: Field) -> Field:
    """Return the zero-mean view under the window. cv2.phaseCorrelate would apply the window in place on its input."""
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
    """Return the global shift of the view since the anchor; (0, 0) where no shift is certain."""
    height, width = windowed.shape
    if min(height, width) < _MIN_SIDE_PX:
        return _REST
    (dx, dy), response = cv2.phaseCorrelate(known.anchor, windowed)
    near = abs(dx) <= _MAX_SHIFT_SHARE * width and abs(dy) <= _MAX_SHIFT_SHARE * height
    return (dx, dy) if near and response >= _MIN_RESPONSE and math.hypot(dx, dy) >= _DEAD_BAND_PX else _REST


def _wins(moved: _Explanation, known: _Background, gray: Gray) -> bool:
    """Return whether the move explains the frame better than rest does, in most blocks of the view.

    Blocks without structure count as rest: one object on a blank wall is not the whole view.
    """
    moved_error, rest_error = cv2.absdiff(gray, moved.expected), cv2.absdiff(gray, _lit(known.mean, moved.light))
    lead = cv2.subtract(
        cv2.compare(moved_error, rest_error, cv2.CMP_LT),
        cv2.compare(rest_error, moved_error, cv2.CMP_LT),
        dtype=cv2.CV_32F,
    )
    seen = np.zeros_like(lead)
    seen[moved.valid] = lead[moved.valid]
    blocks = cv2.resize(seen, _BLOCKS, interpolation=cv2.INTER_AREA)
    return float(np.mean(blocks >= 255 * _MIN_LEAD_SHARE)) >= _MIN_BLOCKS_SHARE


def _compare(known: _Background, gray: Gray, warp: Warp) -> _Explanation:
    """Return the explanation by the background, warped and brought to the frame's light."""
    shift = _of_middle(warp, gray)
    rows, columns = _covered(warp, gray)
    mean, noise = _moved(known.mean, warp), _moved(known.noise, warp)
    light = _fit_light(mean[rows, columns], gray[rows, columns])
    expected = _lit(mean, light)
    tolerance_px = _TOLERANCE_AT_REST_PX if warp is _STILL else _TOLERANCE_MOVED_PX
    lowest = _towards(expected, cv2.erode(expected, _NEIGHBOURS), tolerance_px)
    highest = _towards(expected, cv2.dilate(expected, _NEIGHBOURS), tolerance_px)
    beyond = cv2.max(cv2.subtract(gray, highest), cv2.subtract(lowest, gray))
    threshold = np.minimum(cv2.convertScaleAbs(noise, alpha=_NOISE_FACTOR, beta=_NOISE_FLOOR), _MAX_THRESHOLD)
    changed = np.zeros_like(gray)
    inside = changed[rows, columns]
    inside[:] = cv2.compare(beyond, threshold, cv2.CMP_GT)[rows, columns]
    share = cv2.countNonZero(inside) / max(1, inside.size)
    return _Explanation(warp, shift, light, mean, noise, expected, changed, (rows, columns), share)


def _towards(here: Gray, there: Gray, share: float) -> Gray:
    return cv2.addWeighted(here, 1.0 - share, there, share, 0.0)


def _lit(mean: Field, light: Light) -> Gray:
    gain, offset = light
    return cv2.addWeighted(mean, gain, mean, 0.0, offset, dtype=cv2.CV_8U)


def _translation(shift: Shift) -> Warp:
    return _STILL if shift == _REST else np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)


def _of_middle(warp: Warp, gray: Gray) -> Shift:
    middle = np.array([(gray.shape[1] - 1) / 2, (gray.shape[0] - 1) / 2, 1.0])
    dx, dy = warp @ middle - middle[:2]
    return float(dx), float(dy)


def _covered(warp: Warp, gray: Gray) -> tuple[slice, slice]:
    """Return the rows and columns that the warped background covers, without one px for interpolation."""
    if warp is _STILL:
        return slice(0, gray.shape[0]), slice(0, gray.shape[1])
    height, width = gray.shape
    corners = np.array([(0, 0, 1), (width - 1, 0, 1), (0, height - 1, 1), (width - 1, height - 1, 1)], np.float64)
    (tl, tr, bl, br) = corners @ warp.T
    left, right = max(tl[0], bl[0], 0.0), min(tr[0], br[0], width - 1.0)
    top, bottom = max(tl[1], tr[1], 0.0), min(bl[1], br[1], height - 1.0)
    return slice(math.ceil(top) + 1, max(0, math.floor(bottom))), slice(math.ceil(left) + 1, max(0, math.floor(right)))


def _moved(field: Field, warp: Warp) -> Field:
    if warp is _STILL:
        return field
    size = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, warp, size, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _turned(moved: _Explanation, gray: Gray) -> Warp:
    """Refine a warp by shift, zoom and roll: one Gauss-Newton step on its residual (Lucas and Kanade 1981).

    Pixels that differ too much for a step of a few px are left out: moving objects do not affect the step.
    """
    down, across = moved.valid
    every = np.s_[down.start : down.stop : _TURN_STRIDE, across.start : across.stop : _TURN_STRIDE]
    rows, columns = (np.arange(part.start, part.stop, _TURN_STRIDE) for part in moved.valid)
    expected = moved.expected
    gx, gy = (cv2.Sobel(expected, cv2.CV_32F, *axis, scale=1 / 8)[every] for axis in ((1, 0), (0, 1)))
    left = expected[every].astype(np.float32) - gray[every]
    middle_x, middle_y = (gray.shape[1] - 1) / 2, (gray.shape[0] - 1) / 2
    x, y = (columns - middle_x).astype(np.float32)[None, :], (rows - middle_y).astype(np.float32)[:, None]
    near = np.abs(left) <= _TURN_REACH_PX * np.hypot(gx, gy) + _NOISE_PRIOR * 2
    equations = np.stack([gx, gy, gx * x + gy * y, gy * x - gx * y, left], axis=-1)[near]  # (N, 5): slopes, residual
    if len(equations) == 0:
        return moved.warp
    normal = cv2.mulTransposed(equations, aTa=True)  # numpy would start the threads of BLAS
    dx, dy, zoom, roll = np.linalg.solve(normal[:4, :4] + np.diag(_TURN_RIDGE), normal[:4, 4])
    linear = np.array([[1 + zoom, -roll], [roll, 1 + zoom]])
    middle = np.array([middle_x, middle_y])
    offset = middle - linear @ middle + np.array([dx, dy])
    return np.column_stack([linear @ moved.warp[:, :2], linear @ moved.warp[:, 2] + offset])


def _fit_light(mean: Field, gray: Gray) -> tuple[float, float]:
    """Return gain and offset from the background to the frame's light: least trimmed squares (Rousseeuw 1984).

    The fit uses the half of the pixels that fits best, so moving objects do not affect it.
    """
    x = mean[::_FIT_STRIDE, ::_FIT_STRIDE].ravel()
    y = gray[::_FIT_STRIDE, ::_FIT_STRIDE].ravel().astype(np.float32)
    gain, offset = 1.0, _middle(y - x) if x.size else 0.0
    for _ in range(_FIT_PASSES if x.size else 0):
        misfit = np.abs(x * np.float32(gain) + np.float32(offset) - y)
        keep = misfit <= _middle(misfit)
        kept_x, kept_y = x[keep], y[keep]
        mx, my = float(kept_x.mean()), float(kept_y.mean())
        spread = float(np.dot(kept_x - mx, kept_x - mx))
        # a ridge of one gray level keeps the gain of a view without texture near 1
        pull = float(kept_x.size)
        gain = (float(np.dot(kept_x - mx, kept_y - my)) + pull) / (spread + pull)
        gain = min(max(gain, _GAIN_RANGE[0]), _GAIN_RANGE[1])
        offset = my - gain * mx
    return gain, offset


def _middle(values: Field) -> float:
    """Return the median in a seventh of the time of `np.median`, which checks its input."""
    return float(np.partition(values, values.size // 2)[values.size // 2])


def _learn(known: _Background, gray: Gray, best: _Explanation) -> None:
    """Add the frame to the background."""
    gain, offset = best.light
    known.noise = best.noise
    known.mean = best.mean * np.float32(gain) + np.float32(offset)
    if best.warp is _STILL:
        deviation = cv2.absdiff(gray, best.expected)
        cv2.accumulateWeighted(deviation, known.noise, _SLOWEST_RATE, cv2.bitwise_not(best.changed))
    else:
        uncovered = np.ones(gray.shape, bool)
        uncovered[best.valid] = False
        np.copyto(known.mean, gray, where=uncovered)
        known.age = min(known.age, _MOVED_AGE)
    known.age += 1
    cv2.accumulateWeighted(gray, known.mean, max(_SLOWEST_RATE, 1.0 / known.age))


def _follow(known: _Background, windowed: Field, best: _Explanation) -> None:
    """Update anchor and velocity. The anchor is renewed after a move and after `_ANCHOR_FRAMES`."""
    known.anchor_age += 1
    known.patience = max(0, known.patience - 1)
    if best.warp is not _STILL:
        # a slow pan exceeds the dead band only every few frames; between them it is still a pan
        known.velocity = (best.shift[0] / known.anchor_age, best.shift[1] / known.anchor_age)
        known.patience = 2 * known.anchor_age - 1
    elif not known.patience:
        known.velocity = _REST
    if best.warp is not _STILL or known.anchor_age >= _ANCHOR_FRAMES:
        known.anchor, known.anchor_age = windowed, 0
