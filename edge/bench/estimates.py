"""Means and slopes with 95 % intervals, or the reason why there is none.

The errors of readings a second apart are correlated, so single readings give no interval. A mean is taken over sweeps
of many readings, and its interval follows from the differences between sweeps. The loss of a gauge is the difference of
its first and last reading. Its interval is the width of the band that holds all readings, at least one step of the
gauge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 1 to 9 degrees of freedom
_BANDS = 3.0  # a loss below this multiple of its uncertainty is not reported
_EQUAL = 1e-6  # values with a smaller relative difference are equal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the half width of its 95 % interval."""

    value: float
    half_width: float

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"value": _short(self.value), "ci95": _short(self.half_width)}

    def times(self, factor: float) -> Estimate:
        """Return it in another unit."""
        return Estimate(self.value * factor, self.half_width * abs(factor))

    def widened(self, by: float) -> Estimate:
        """Return it with an added error that repetition does not show."""
        return Estimate(self.value, self.half_width + by)


Finding = Estimate | str  # or why it is unknown


def as_json(finding: Finding) -> Mapping[str, Any] | str:
    """Return it JSON-ready."""
    return finding if isinstance(finding, str) else finding.as_dict()


def mean(values: Sequence[float], *, paired: bool = False) -> Estimate | None:
    """Return the mean of at most ten values; None for fewer than two.

    The values are independent, or `paired`: the errors of neighbours may be correlated, and two of them count as one.
    """
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values) / 2 if paired else len(values))
    return Estimate(float(np.mean(values)), _T_975[len(values) - 2] * spread)


def step_of(values: Sequence[float]) -> float | None:
    """Return the smallest difference between two values of a sensor, None where its value never changed."""
    found = np.unique(np.asarray(values, np.float64))
    steps = np.diff(found)
    real = steps[steps > _EQUAL * np.abs(found[1:])]
    return float(real.min()) if len(real) else None


def lost_an_hour(points: Sequence[tuple[float, float]]) -> Finding:
    """Return a gauge's loss an hour, from its (s, %) readings in the order of time.

    The loss is the difference of the first and the last reading. Its error is at most the height of the band around a
    straight line that holds all readings. An error that lasts longer than the measurement is not visible.
    """
    values = [value for _, value in points]
    step = step_of(values)
    if step is None:
        return "unknown: the charge never changed, measure longer"
    t_s, charge = np.array(points).T
    duration_s, lost = float(t_s[-1] - t_s[0]), float(charge[0] - charge[-1])
    off_line = charge - charge[0] + lost * (t_s - t_s[0]) / duration_s
    uncertainty = max(step, float(np.ptp(off_line)))
    if lost < -uncertainty:
        return "unknown: the charge rose, a charger must be connected"
    if lost < _BANDS * uncertainty:
        return f"unknown: the charge fell by {lost:.3g} %, with an uncertainty of {uncertainty:.3g} %, measure longer"
    return Estimate(lost, uncertainty).times(3600.0 / duration_s)


def _short(value: float) -> float:
    return float(f"{value:.4g}") + 0.0  # no −0
