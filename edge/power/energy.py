"""An extended Kalman filter for the energy left, the battery's capacity and the cost of each stage. Sans-IO.

The state holds: energy left; energy of a full charge; base power; joules of a frame, a look and an embedding; a cell's
resistance; the deviation of a cell's rest voltage from the table, at six charges; the constant and the slowly varying
error of the gauge.

The covariance decides what a reading corrects. A power reading corrects the costs. A gauge or a voltage corrects the
ratio of energy left to full charge. Over time it also corrects their difference from the energy drawn, which is the
real capacity. With a gauge and no power reading only ratios are learned, and a budget needs only ratios. Process noise
lets old readings fade, and costs are never negative. A gauge error lasts for hours, so it is a state of the filter:
a thousand readings are then no more certain than a few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.power.cell import (
    RESISTANCE_OHM,
    RESISTANCE_SPREAD,
    charge_share,
    energy_share,
    rest_voltage,
    share_from_voltage,
    slope_v,
)
from edge.power.costs import Costs, Prior

# The states, in their order.
(
    _LEFT,  # energy left, Wh
    _FULL,  # energy of a full charge, Wh
    _BASE,  # power of the idle device, W
    _FRAME,  # energy of a frame, a look, an embedding, J
    _LOOK,
    _EMBEDDING,
    _OHM,  # resistance of a cell, Ω
    _CURVE_0,  # a cell's rest voltage less the table's at charges of 0, 20, … 100 %, V
    _CURVE_20,
    _CURVE_40,
    _CURVE_60,
    _CURVE_80,
    _CURVE_100,
    _BEND,  # constant error of the gauge at half charge, share of a charge
    _BIAS,  # slowly varying error of the gauge, share of a charge
) = range(15)
_STATES = _BIAS + 1
_STAGES, _CURVE = slice(_BASE, _EMBEDDING + 1), slice(_CURVE_0, _CURVE_100 + 1)
_KNOTS = _CURVE_100 + 1 - _CURVE_0
# Expected relative change in an hour, standard deviation.
_DRIFT = np.zeros(_STATES)
_DRIFT[_FULL], _DRIFT[_BASE], _DRIFT[_OHM] = 0.002, 0.015, 0.12
_DRIFT[[_FRAME, _LOOK, _EMBEDDING]] = 0.02
_LEAST_COST_SPREAD = np.array([0.02, 0.05, 0.05, 0.05])  # relative: costs differ this much from day to day
_METER_SPREAD = 0.10  # relative error of one power reading against the mean power around it
_METER_S = 20.0  # correlation time of a meter's errors
_UNMODELLED = 0.05  # relative error of the predicted power, used where nothing measures it
_UNMODELLED_H = 0.5  # correlation time of that error
_COUNT, _COUNT_H = 0.025, 1.0  # relative error of metered energy and its correlation time: cold, battery losses
_VOLTS, _VOLTS_H = 0.008, 0.05  # noise of a cell's voltage, V, and its correlation time
# Deviation of a cell's rest voltage from the table: spread, correlation at charges 20 % apart, change in an hour, and
# least spread that one day can leave for the next.
_CURVE_V, _CURVE_CORRELATION, _CURVE_DRIFT_V, _LEAST_CURVE_SPREAD_V = 0.013, 0.8, 0.002, 0.004
_CORRELATION = _CURVE_CORRELATION ** np.abs(np.subtract.outer(np.arange(_KNOTS), np.arange(_KNOTS)))
_GAUGE, _GAUGE_H = 0.005, 0.1  # steps and noise of a gauge, share of a charge, and their correlation time
_BEND_SHARE = 0.02  # spread of a gauge's constant error at half charge, share of a charge
_BIAS_SHARE, _BIAS_H = 0.013, 2.0  # spread of a gauge's varying error, share of a charge, and its correlation time
# Below this charge the voltage shows the charge better: the varying error shrinks, to this share of it at empty.
_PRECISE_BELOW, _PRECISE_SHARE = 0.3, 0.3
_FIRST_VOLTS = 0.06  # error of a first guess from the voltage, share of energy
# The filter starts again when gauge and energy count differ by this many standard deviations in this many readings.
_CONFLICT_SIGMAS, _CONFLICT_READINGS = 4.0, 2

Curve = tuple[float, float, float, float, float, float]  # V, at the knots


@dataclass(frozen=True, slots=True)
class Learned:
    """The learned values of one day, with which the next start begins."""

    full_wh: float
    full_spread: float  # relative
    costs: Costs
    spreads: tuple[float, float, float, float]  # of the costs, relative
    resistance_ohm: float = RESISTANCE_OHM  # of a cell
    resistance_spread: float = RESISTANCE_SPREAD
    curve_v: Curve = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # deviation of a cell's rest voltage from the table
    curve_spread_v: Curve = (_CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V)
    bend: float = 0.0  # constant error of the gauge at half charge, share of a charge
    bend_spread: float = _BEND_SHARE


def from_prior(prior: Prior, full_wh: float, full_spread: float) -> Learned:
    """Return the starting values of a device that has never run."""
    stage = prior.stage_spread
    return Learned(full_wh, full_spread, prior.costs, (prior.base_spread, stage, stage, stage))


class EnergyFilter:
    """The filter. Energies are in Wh, times in hours."""

    def __init__(self, learned: Learned) -> None:
        costs = np.array(learned.costs.values)
        known = [0.0, learned.full_wh, *costs, learned.resistance_ohm, *learned.curve_v, learned.bend, 0.0]
        self._x: NDArray[np.float64] = np.array(known)  # (15,)
        shares = np.array([0.0, learned.full_spread, *learned.spreads, learned.resistance_spread])
        spread = np.array(
            [*(shares * self._x[: len(shares)]), *learned.curve_spread_v, learned.bend_spread, _BIAS_SHARE]
        )
        self._p: NDArray[np.float64] = np.diag(spread**2)  # (15, 15)
        self._p[_CURVE, _CURVE] = _CORRELATION * np.outer(learned.curve_spread_v, learned.curve_spread_v)
        self._floor = 0.2 * costs  # a stage that seems to cost nothing has not run yet
        self._floor[1:] *= 0.25
        self._started = False
        self._conflicts = 0  # consecutive readings in which gauge and energy count conflict
        self.restarts = 0  # restarts after such a conflict

    @property
    def started(self) -> bool:
        """Whether the charge of the battery has been measured."""
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
        """Learned costs of the stages."""
        return Costs(*map(float, self._x[_STAGES]))

    def usable(self, reserve: float) -> tuple[float, float]:
        """Return the energy above a reserve (a share of a full charge) and its standard deviation, Wh."""
        h = np.zeros(_STATES)
        h[_LEFT], h[_FULL] = 1.0, -reserve
        return max(0.0, float(h @ self._x)), math.sqrt(max(0.0, float(h @ self._p @ h)))

    def learned(self) -> Learned:
        """Return the learned values that the next start begins with."""
        spread = np.sqrt(np.maximum(np.diag(self._p), 0.0)) / np.maximum(np.abs(self._x), 1e-9)
        stages = np.clip(spread[_STAGES], _LEAST_COST_SPREAD, 1.0)
        full = float(np.clip(spread[_FULL], 0.02, 1.0))
        ohm = float(np.clip(spread[_OHM], 0.1, RESISTANCE_SPREAD))
        a, b, c, d = map(float, stages)
        return Learned(
            full_wh=self.full_wh,
            full_spread=full,
            costs=self.costs,
            spreads=(a, b, c, d),
            resistance_ohm=float(self._x[_OHM]),
            resistance_spread=ohm,
            curve_v=_curve(self._x[_CURVE]),
            curve_spread_v=_curve(np.sqrt(np.maximum(np.diag(self._p)[_CURVE], _LEAST_CURVE_SPREAD_V**2))),
            bend=float(self._x[_BEND]),
            bend_spread=math.sqrt(max(float(self._p[_BEND, _BEND]), 0.003**2)),
        )

    def restart(self) -> None:
        """Forget how full the battery is, as after a charge."""
        self._started = False

    def pass_time(self, hours: float, activity: tuple[float, float, float], power_w: float | None) -> None:
        """Subtract the energy drawn: metered, else predicted from the activity (frames, looks, embeddings a second)."""
        if hours <= 0.0:
            return
        u = np.zeros(_STATES)
        u[_STAGES] = 1.0, *activity
        self._p.ravel()[:: _STATES + 1] += (_DRIFT * self._x) ** 2 * hours  # the diagonal
        self._wander(hours)
        if power_w is not None:
            repeats = max(1.0, 2.0 * _METER_S / (3600.0 * hours))
            spread = _METER_SPREAD * max(power_w, 0.2 * float(u @ self._x))
            self._update(u, power_w - float(u @ self._x), spread**2 * repeats)
        if not self._started:
            return
        if power_w is not None:
            self._x[_LEFT] -= power_w * hours
            self._p[_LEFT, _LEFT] += (_COUNT * power_w) ** 2 * 2.0 * _COUNT_H * hours
        else:
            predicted_w = float(u @ self._x)
            self._x[_LEFT] -= predicted_w * hours
            self._p[_LEFT, :] -= hours * (u @ self._p)
            self._p[:, _LEFT] -= hours * (self._p @ u)
            self._p[_LEFT, _LEFT] += (_UNMODELLED * predicted_w) ** 2 * 2.0 * _UNMODELLED_H * hours
        self._settle()

    def observe_gauge(self, charge: float, hours: float) -> None:
        """Take a gauge's share of charge left, 0..1, `hours` after the last one."""
        share = energy_share(charge)
        bias_scale = _PRECISE_SHARE + (1.0 - _PRECISE_SHARE) * min(1.0, charge / _PRECISE_BELOW)
        if not self._started:
            self._start(share, _BIAS_SHARE * bias_scale)
            return
        full, left = self._x[_FULL], self._x[_LEFT]
        h = np.zeros(_STATES)
        bent = 4.0 * charge * (1.0 - charge)
        h[_LEFT], h[_FULL], h[_BIAS], h[_BEND] = 1.0 / full, -left / full**2, bias_scale, bent
        innovation = share - left / full - bias_scale * self._x[_BIAS] - bent * self._x[_BEND]
        expected = float(h @ self._p @ h) + _GAUGE**2
        if innovation**2 > _CONFLICT_SIGMAS**2 * max(expected, _BIAS_SHARE**2):
            self._conflicts += 1
            if self._conflicts >= _CONFLICT_READINGS:
                self.restarts, self._conflicts = self.restarts + 1, 0
                self._start(share, _BIAS_SHARE * bias_scale)
            return
        self._conflicts = 0
        self._update(h, innovation, _GAUGE**2 * max(1.0, 2.0 * _GAUGE_H / max(hours, 1e-6)))

    def observe_volts(self, cell_v: float, current_a: float | None, hours: float, predicted_w: float) -> None:
        """Take the voltage of one cell under load; without `current_a` the current follows from the predicted power."""
        current = predicted_w / max(cell_v, 2.0) if current_a is None else current_a
        if not self._started:
            self._start(share_from_voltage(cell_v, current), _FIRST_VOLTS)
            return
        full, left = self._x[_FULL], self._x[_LEFT]
        share = float(left / full)
        spread = math.sqrt(max(float(self._p[_LEFT, _LEFT]), 0.0)) / float(full)
        steep = slope_v(share, min(max(spread, 0.01), 0.1))
        h = np.zeros(_STATES)
        h[_LEFT], h[_FULL], h[_OHM] = steep / full, -steep * left / full**2, -current
        charge = charge_share(share)
        h[_CURVE] = np.maximum(0.0, 1.0 - np.abs(charge * (_KNOTS - 1) - np.arange(_KNOTS)))
        rest_v = rest_voltage(charge) + float(h[_CURVE] @ self._x[_CURVE])
        innovation = cell_v - rest_v + current * float(self._x[_OHM])
        self._update(h, innovation, _VOLTS**2 * max(1.0, 2.0 * _VOLTS_H / max(hours, 1e-6)))

    def predicted_w(self, activity: tuple[float, float, float]) -> float:
        """Return the power that an activity (frames, looks, embeddings a second) costs."""
        return float(np.array([1.0, *activity]) @ self._x[_STAGES])

    def _wander(self, hours: float) -> None:
        """Add process noise to the systematic errors: the cell's changes slowly, the gauge's within some hours."""
        self._p[_CURVE, _CURVE] += _CURVE_DRIFT_V**2 * hours * _CORRELATION
        keep = math.exp(-hours / _BIAS_H)
        self._x[_BIAS] *= keep
        self._p[_BIAS, :] *= keep
        self._p[:, _BIAS] *= keep
        self._p[_BIAS, _BIAS] += (1.0 - keep * keep) * _BIAS_SHARE**2

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
        self._settle()

    def _settle(self) -> None:
        """Keep the state physical: capacity and costs above zero, charge between empty and full."""
        x = self._x
        x[_STAGES] = np.maximum(x[_STAGES], self._floor)
        x[_OHM] = min(max(x[_OHM], 0.01), 1.0)
        x[_FULL] = max(x[_FULL], 0.05)
        x[_LEFT] = min(max(x[_LEFT], 0.0), x[_FULL])
        self._p = 0.5 * (self._p + self._p.T)  # rounding errors would make it asymmetric


def _curve(values: NDArray[np.float64]) -> Curve:
    a, b, c, d, e, f = map(float, values)
    return a, b, c, d, e, f
