"""How much energy is left, how much fits in, and what each stage costs: one filter learns all of it while running.

The state is (energy left, energy of a full charge; base power, joules a frame, a look, an embedding; a cell's
resistance and how far its rest voltage is off the table at six charges; the gauge's lasting and its passing error). Its
covariance says what each reading teaches: a power reading teaches the costs; a gauge or a voltage teaches the ratio of
the first two and, as time passes, their difference from what was drawn: the capacity that is really there. With a gauge
and no power reading only ratios are learned, and ratios are all that a budget needs. It is recursive least squares (an
extended Kalman filter) with priors, forgetting by process noise, and costs that are never negative. A gauge error of
two percent lasts for hours, so it is a state of its own: a thousand readings are no surer than a few.
Sans-IO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.power.battery import (
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
    _BEND,  # lasting error of the gauge at half charge, share of a charge
    _BIAS,  # passing error of the gauge, share of a charge
) = range(15)
_STATES = _BIAS + 1
_STAGES, _CURVE = slice(_BASE, _EMBEDDING + 1), slice(_CURVE_0, _CURVE_100 + 1)
_KNOTS = _CURVE_100 + 1 - _CURVE_0
# relative change to expect in an hour, standard deviation
_DRIFT = np.zeros(_STATES)
_DRIFT[_FULL], _DRIFT[_BASE], _DRIFT[_OHM] = 0.002, 0.015, 0.12
_DRIFT[[_FRAME, _LOOK, _EMBEDDING]] = 0.02
_COSTS_KNOWN = np.array([0.02, 0.05, 0.05, 0.05])  # how well one day can tell another's costs, at best
_METER_SPREAD = 0.10  # of one power reading against the mean power around it
_METER_S = 20.0  # correlation time of the errors of one meter
_UNMODELLED = 0.05  # of the power that the costs predict, where nothing measures it
_UNMODELLED_H = 0.5  # correlation time of the cost error
_COUNT, _COUNT_H = 0.025, 1.0  # relative error of metered energy and correlation time: cold, battery losses
_VOLTS, _VOLTS_H = 0.008, 0.05  # noise of a cell's voltage, V, and how long it lasts
# Of a cell's rest voltage less the table's: its spread, its correlation at charges 20 % apart, its change in an hour,
# and how well one day can tell another's.
_CURVE_V, _CURVE_CORRELATION, _CURVE_DRIFT_V, _CURVE_KNOWN_V = 0.013, 0.8, 0.002, 0.004
_CORRELATION = _CURVE_CORRELATION ** np.abs(np.subtract.outer(np.arange(_KNOTS), np.arange(_KNOTS)))
_GAUGE, _GAUGE_H = 0.005, 0.1  # steps and noise of a gauge, share of a charge, and how long they last
_BEND_SHARE = 0.02  # of a gauge's curve at half charge, the same every day
_BIAS_SHARE, _BIAS_H = 0.013, 2.0  # error of a gauge that comes and goes, and how long it lasts
_SURE_BELOW, _SURE_SHARE = 0.3, 0.3  # below so much charge a gauge sees it in the voltage, down to such a part at empty
_FIRST_VOLTS = 0.06  # share of energy by which a first guess from the voltage errs
_BREAK, _BREAKS = 4.0, 2  # standard deviations beyond which gauge and count cannot both be right; in so many readings

Curve = tuple[float, float, float, float, float, float]  # V, at the knots


@dataclass(frozen=True, slots=True)
class Learned:
    """What one day has taught and the next may start from."""

    full_wh: float
    full_spread: float  # as a share
    costs: Costs
    spreads: tuple[float, float, float, float]  # of the costs, as shares
    resistance_ohm: float = RESISTANCE_OHM  # of a cell
    resistance_spread: float = RESISTANCE_SPREAD
    curve_v: Curve = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # of a cell's rest voltage against the table
    curve_spread_v: Curve = (_CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V, _CURVE_V)
    bend: float = 0.0  # of the gauge's curve at half charge, share of a charge
    bend_spread: float = _BEND_SHARE


def from_prior(prior: Prior, full_wh: float, full_spread: float) -> Learned:
    """Return what is known of a device that has never run."""
    stage = prior.stage_spread
    return Learned(full_wh, full_spread, prior.costs, (prior.base_spread, stage, stage, stage))


class EnergyFilter:
    """The filter. Energies in Wh, times in hours inside; `None` where nothing has been measured yet."""

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
        self._floor = 0.2 * costs  # a stage that seems free has not been exercised
        self._floor[1:] *= 0.25
        self._started = False
        self._breaks = 0
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
        return Costs(*map(float, self._x[_STAGES]))

    def usable(self, reserve: float) -> tuple[float, float]:
        """Return the energy above a reserve (a share of a full charge) and its standard deviation, Wh."""
        h = np.zeros(_STATES)
        h[_LEFT], h[_FULL] = 1.0, -reserve
        return max(0.0, float(h @ self._x)), math.sqrt(max(0.0, float(h @ self._p @ h)))

    def learned(self) -> Learned:
        """Return what the next day may start from."""
        spread = np.sqrt(np.maximum(np.diag(self._p), 0.0)) / np.maximum(np.abs(self._x), 1e-9)
        stages = np.clip(spread[_STAGES], _COSTS_KNOWN, 1.0)
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
            curve_spread_v=_curve(np.sqrt(np.maximum(np.diag(self._p)[_CURVE], _CURVE_KNOWN_V**2))),
            bend=float(self._x[_BEND]),
            bend_spread=math.sqrt(max(float(self._p[_BEND, _BEND]), 0.003**2)),
        )

    def restart(self) -> None:
        """Forget how full the battery is, as after a charge."""
        self._started = False

    def pass_time(self, hours: float, activity: tuple[float, float, float], power_w: float | None) -> None:
        """Draw what was drawn: what a meter says, else what the activity (frames, looks, embeddings a second) costs."""
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
        doubt = _SURE_SHARE + (1.0 - _SURE_SHARE) * min(1.0, charge / _SURE_BELOW)
        if not self._started:
            self._start(share, _BIAS_SHARE * doubt)
            return
        full, left = self._x[_FULL], self._x[_LEFT]
        h = np.zeros(_STATES)
        bent = 4.0 * charge * (1.0 - charge)
        h[_LEFT], h[_FULL], h[_BIAS], h[_BEND] = 1.0 / full, -left / full**2, doubt, bent
        innovation = share - left / full - doubt * self._x[_BIAS] - bent * self._x[_BEND]
        expected = float(h @ self._p @ h) + _GAUGE**2
        if innovation**2 > _BREAK**2 * max(expected, _BIAS_SHARE**2):
            self._breaks += 1
            if self._breaks >= _BREAKS:
                self.restarts, self._breaks = self.restarts + 1, 0
                self._start(share, _BIAS_SHARE * doubt)
            return
        self._breaks = 0
        self._update(h, innovation, _GAUGE**2 * max(1.0, 2.0 * _GAUGE_H / max(hours, 1e-6)))

    def observe_volts(self, cell_v: float, current_a: float | None, hours: float, predicted_w: float) -> None:
        """Take the voltage of one cell under load; without a measured current the predicted power gives it."""
        current = predicted_w / max(cell_v, 2.0) if current_a is None else current_a
        if not self._started:
            self._start(share_from_voltage(cell_v, current), _FIRST_VOLTS)
            return
        full, left = self._x[_FULL], self._x[_LEFT]
        share = float(left / full)
        doubt = math.sqrt(max(float(self._p[_LEFT, _LEFT]), 0.0)) / float(full)
        steep = slope_v(share, min(max(doubt, 0.01), 0.1))
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
        """Let the systematic errors change: the cell's slowly, the gauge's within some hours."""
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
        """Keep the state in the physical: capacity above nothing, costs above zero, charge between empty and full."""
        x = self._x
        x[_STAGES] = np.maximum(x[_STAGES], self._floor)
        x[_OHM] = min(max(x[_OHM], 0.01), 1.0)
        x[_FULL] = max(x[_FULL], 0.05)
        x[_LEFT] = min(max(x[_LEFT], 0.0), x[_FULL])
        self._p = 0.5 * (self._p + self._p.T)  # rounding must not make it lopsided


def _curve(values: NDArray[np.float64]) -> Curve:
    a, b, c, d, e, f = map(float, values)
    return a, b, c, d, e, f
