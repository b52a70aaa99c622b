"""How much energy is left, how much fits in, and what each stage costs: one filter learns all six while running.

The state is (energy left, energy of a full charge, base power, joules a frame, a look, an embedding). Its covariance
says what each reading teaches: a power reading teaches the costs; a gauge teaches the ratio of the first two and, as
time passes, their difference from what was drawn: the capacity that is really there. With a gauge and no power
reading only ratios are learned, and ratios are all that a budget needs. It is recursive least squares (an extended
Kalman filter) with priors, forgetting by process noise, and costs that are never negative. Sans-IO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.power.costs import Costs, Prior

_LEFT, _FULL, _BASE = 0, 1, 2
_DRIFT = np.array([0.0, 0.002, 0.04, 0.02, 0.02, 0.02])  # relative change to expect in an hour, standard deviation
_METER_SPREAD = 0.10  # of one power reading against the mean power around it
_METER_S = 20.0  # how long readings of one meter err alike
_UNMODELLED = 0.05  # of the power that the costs predict, where nothing measures it
_UNMODELLED_H = 0.5  # how long that errs alike
_METER_COUNT = 0.01  # of the energy that a meter has counted
_BREAK = 4.0  # standard deviations beyond which a gauge and the count cannot both be right


@dataclass(frozen=True, slots=True)
class Learned:
    """What one day has taught and the next may start from."""

    full_wh: float
    full_spread: float  # as a share
    costs: Costs
    spreads: tuple[float, float, float, float]  # of the costs, as shares


def from_prior(prior: Prior, full_wh: float, full_spread: float) -> Learned:
    """Return what is known of a device that has never run."""
    stage = prior.stage_spread
    return Learned(full_wh, full_spread, prior.costs, (prior.base_spread, stage, stage, stage))


class EnergyFilter:
    """The filter. Energies in Wh, times in hours inside; `None` where nothing has been measured yet."""

    def __init__(self, learned: Learned) -> None:
        costs = np.array(learned.costs.values)
        self._x: NDArray[np.float64] = np.concatenate([[0.0, learned.full_wh], costs])  # (6,)
        spread = np.concatenate([[0.0, learned.full_spread], learned.spreads]) * self._x
        self._p: NDArray[np.float64] = np.diag(spread**2)  # (6, 6)
        self._floor = 0.2 * costs  # a stage that seems free has not been exercised
        self._floor[1:] *= 0.25
        self._started = False
        self.restarts = 0  # how often gauge and count could not both be right

    @property
    def started(self) -> bool:
        """Whether it has been said how full the battery is."""
        return self._started

    @property
    def left_wh(self) -> float:
        """Energy left."""
        return float(self._x[_LEFT])

    @property
    def full_wh(self) -> float:
        """Energy of a full charge."""
        return float(self._x[_FULL])

    @property
    def share(self) -> float:
        """Share of a full charge that is left, 0..1."""
        return min(max(float(self._x[_LEFT] / self._x[_FULL]), 0.0), 1.0)

    @property
    def costs(self) -> Costs:
        """What the stages cost, as learned so far."""
        return Costs(*map(float, self._x[_BASE:]))

    def usable(self, reserve: float) -> tuple[float, float]:
        """Return the energy above a reserve (a share of a full charge) and its standard deviation, Wh."""
        h = np.zeros(6)
        h[_LEFT], h[_FULL] = 1.0, -reserve
        return max(0.0, float(h @ self._x)), math.sqrt(max(0.0, float(h @ self._p @ h)))

    def learned(self) -> Learned:
        """Return what the next day may start from."""
        spread = np.sqrt(np.maximum(np.diag(self._p), 0.0)) / np.maximum(self._x, 1e-9)
        stages = np.clip(spread[_BASE:], 0.05, 1.0)
        full = float(np.clip(spread[_FULL], 0.02, 1.0))
        return Learned(self.full_wh, full, self.costs, (stages[0], stages[1], stages[2], stages[3]))

    def restart(self) -> None:
        """Forget how full the battery is, as after a charge."""
        self._started = False

    def pass_time(self, hours: float, activity: tuple[float, float, float], power_w: float | None) -> None:
        """Draw what was drawn: what a meter says, else what the activity (frames, looks, embeddings a second) costs."""
        if hours <= 0.0:
            return
        u = np.array([0.0, 0.0, 1.0, *activity])
        self._p.ravel()[::7] += (_DRIFT * self._x) ** 2 * hours  # the diagonal
        if power_w is not None:
            repeats = max(1.0, 2.0 * _METER_S / (3600.0 * hours))
            spread = _METER_SPREAD * max(power_w, 0.2 * float(u @ self._x))
            self._update(u, power_w - float(u @ self._x), spread**2 * repeats)
        if not self._started:
            return
        if power_w is not None:
            self._x[_LEFT] -= power_w * hours
            self._p[_LEFT, _LEFT] += (_METER_COUNT * power_w * hours) ** 2
        else:
            predicted_w = float(u @ self._x)
            self._x[_LEFT] -= predicted_w * hours
            self._p[_LEFT, :] -= hours * (u @ self._p)
            self._p[:, _LEFT] -= hours * (self._p @ u)
            self._p[_LEFT, _LEFT] += (_UNMODELLED * predicted_w) ** 2 * 2.0 * _UNMODELLED_H * hours
        self._settle()

    def observe(self, share: float, spread: float, hours: float, alike_h: float) -> None:
        """Take a measured share of energy left, 0..1, with its standard deviation.

        `hours` since the last one; `alike_h` how long such readings err alike: that many are one opinion.
        """
        if not self._started:
            self._start(share, spread)
            return
        full, left = self._x[_FULL], self._x[_LEFT]
        h = np.zeros(6)
        h[_LEFT], h[_FULL] = 1.0 / full, -left / full**2
        innovation = share - left / full
        expected = float(h @ self._p @ h) + spread**2
        if innovation**2 > _BREAK**2 * max(expected, 0.02**2):
            self.restarts += 1
            self._start(share, spread)
            return
        self._update(h, innovation, spread**2 * max(1.0, 2.0 * alike_h / max(hours, 1e-6)))
        self._settle()

    def _start(self, share: float, spread: float) -> None:
        full = self._x[_FULL]
        self._x[_LEFT] = share * full
        self._p[_LEFT, :] = self._p[:, _LEFT] = share * self._p[_FULL, :]
        self._p[_LEFT, _LEFT] = share**2 * self._p[_FULL, _FULL] + (spread * full) ** 2
        self._started = True

    def _update(self, h: NDArray[np.float64], innovation: float, variance: float) -> None:
        ph = self._p @ h
        gain = ph / (float(h @ ph) + variance)
        self._x = self._x + gain * innovation
        self._p -= np.outer(gain, ph)

    def _settle(self) -> None:
        """Keep the state in the physical: capacity above nothing, costs above zero, charge between empty and full."""
        x = self._x
        x[_BASE:] = np.maximum(x[_BASE:], self._floor)
        x[_FULL] = max(x[_FULL], 0.05)
        x[_LEFT] = min(max(x[_LEFT], 0.0), x[_FULL])
        self._p = 0.5 * (self._p + self._p.T)  # rounding must not make it lopsided
