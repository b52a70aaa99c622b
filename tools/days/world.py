"""The world of the simulation: a wearer's device and battery, and the encounters of a day.

Everything is drawn from one seeded generator. The governor sees only the readings of `Gauges`: biased, noisy,
quantized, sometimes absent or wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.power.costs import PRIORS, Costs
from edge.power.readings import Measured, Reading

STEP_S = 60.0
DAY_S = 18 * 3600.0  # length of the drawn day; no wanted run time is longer

SensorKind = Literal["gauge", "monitor", "percent"]
SENSORS: tuple[SensorKind, ...] = ("gauge", "monitor", "percent")
"""A fuel gauge with current; an INA219 at the battery, without gauge; a UPS board with whole percents and volts."""

_REST_V = np.array(
    [
        *(3.27, 3.61, 3.69, 3.71, 3.73, 3.75, 3.77, 3.79, 3.80, 3.82, 3.84),
        *(3.85, 3.87, 3.91, 3.95, 3.98, 4.02, 4.08, 4.11, 4.15, 4.20),
    ]
)
_CHARGE = np.linspace(0.0, 1.0, 21)


# Share of the faces that a look finds, by the width of the face and the area of the detector's view relative to the
# full one: `python -m tools.lab look-size`, docs/lab.md.
AREAS = (0.25, 0.5625, 1.0)
_FACE_PX = (40, 48, 56, 64, 80, 112)
_FOUND = (
    (0.34, 0.64, 0.83, 0.92, 0.97, 0.99),
    (0.85, 0.94, 0.98, 0.98, 0.98, 1.00),
    (0.84, 0.93, 0.97, 0.98, 0.99, 1.00),
)
_NEAREST_M, _FARTHEST_M, _PX_M = 0.7, 2.1, 84.0  # a face of 0.15 m in front of a lens of 60°, 640 px wide


@dataclass(frozen=True, slots=True)
class Wearer:
    """One device with its battery and its sensor, the same for all its days."""

    board: str
    costs: Costs
    sensor: SensorKind
    label_wh: float
    full_wh: float  # capacity: label times production spread times ageing
    resistance_ohm: float
    rest_v: NDArray[np.float64]  # (21,) V at charge 0, 5, … 100 %
    energy: NDArray[np.float64]  # (21,) share of the energy left at these charges
    meter_gain: float
    gauge_bend: float  # systematic error of the gauge at half charge, share


@dataclass(frozen=True, slots=True)
class Encounters:
    """The faces that come into view, in order of arrival; arrays of the same length N."""

    arrive_s: NDArray[np.float64]
    stay_s: NDArray[np.float64]
    looks_to_see: NDArray[np.float64]  # looks until the first detection; the first one counts as a fraction
    looks_to_fit: NDArray[np.float64]  # looks until three crops are fit; inf: the face is never fit
    sights: NDArray[np.float64]  # (N, 3) worth of a look at each of AREAS, in looks at the full view

    def to_see_s(self, looks_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the time from arrival to the first detection at rates of full looks, (N,) both."""
        return self.looks_to_see / looks_hz


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one wearer; arrays hold one value a step of `STEP_S`."""

    start_share: float  # of the energy
    scene: NDArray[np.float64]  # share of the time without faces in which something moves
    ego: NDArray[np.float64]  # share in which only the camera moves
    loss: NDArray[np.float64]  # ≥ 1: energy taken from the battery per energy delivered, higher in the cold
    air_c: NDArray[np.float64]
    encounters: Encounters


@dataclass(frozen=True, slots=True)
class _Place:
    arrivals_h: float
    stay_median_s: float
    stay_spread: float  # of the logarithm
    scene: float
    ego: float
    outdoors: bool
    group: float = 1.0  # mean number of people who come together


# Assumptions, not measurements: the number of faces that come near enough in each place, how long they stay, and the
# share of time with motion in front of a worn camera. Parallax of a walking wearer counts as a moving scene.
_PLACES = {
    "home": _Place(3, 40.0, 1.2, 0.20, 0.40, False),
    "commute": _Place(45, 5.0, 0.8, 0.65, 0.30, True),
    "office": _Place(8, 25.0, 1.0, 0.30, 0.40, False),
    "meeting": _Place(1.5, 1500.0, 0.5, 0.50, 0.20, False, group=4.0),
    "street": _Place(60, 4.0, 0.7, 0.75, 0.25, True),
}
_PLAN = (  # place, mean minutes
    *(("home", 30), ("commute", 45), ("office", 90), ("meeting", 50), ("office", 60), ("street", 45)),
    *(("office", 80), ("meeting", 45), ("office", 75), ("commute", 45), ("street", 40), ("home", 600)),
)


def draw_wearer(rng: np.random.Generator) -> Wearer:
    """Draw a device: costs around the prior, a battery that is older and smaller than its label, a sensor."""
    board = str(rng.choice(["pi-zero-2", "pi-4", "pi-5"], p=[0.6, 0.2, 0.2]))
    prior = PRIORS[board].costs
    base = prior.base_w * math.exp(rng.normal(0, 0.15))
    stages = np.array(prior.values[1:]) * np.exp(rng.normal(0, 0.4, 3))
    costs = Costs(base, *map(float, stages))
    label_wh = costs.base_w * rng.uniform(9.0, 16.0)
    bumps = np.interp(_CHARGE, np.linspace(0.0, 1.0, 9), rng.normal(0, 0.006, 9))  # a real cell deviates from the table
    rest_v = _REST_V + rng.normal(0, 0.010) + rng.normal(0, 0.010) * (_CHARGE - 0.5) + bumps
    area = np.concatenate([[0.0], np.cumsum((rest_v[1:] + rest_v[:-1]) / 2)])
    return Wearer(
        board=board,
        costs=costs,
        sensor=SENSORS[int(rng.integers(len(SENSORS)))],
        label_wh=label_wh,
        full_wh=label_wh * rng.normal(1.0, 0.04) * rng.uniform(0.70, 1.0),
        resistance_ohm=(0.03 + 0.4 / label_wh) * rng.uniform(0.6, 1.6),  # a larger pack has less resistance
        rest_v=rest_v,
        energy=area / area[-1],
        meter_gain=rng.normal(1.0, 0.015),
        gauge_bend=rng.normal(0.0, 0.02),
    )


def draw_day(rng: np.random.Generator) -> Day:
    """Draw the places of a day, the encounters, and the temperatures."""
    steps = int(DAY_S / STEP_S)
    scene, ego, air = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    outside_c = rng.uniform(-8.0, 28.0)
    arrivals: list[NDArray[np.float64]] = []
    stays: list[NDArray[np.float64]] = []
    busy = math.exp(rng.normal(0, 0.3))
    begin_s, i = 0.0, 0
    while begin_s < DAY_S:
        name, minutes = _PLAN[min(i, len(_PLAN) - 1)]
        place = _PLACES[name]
        end_s = min(DAY_S, begin_s + 60.0 * minutes * rng.uniform(0.6, 1.4))
        span = slice(int(begin_s / STEP_S), math.ceil(end_s / STEP_S))
        scene[span], ego[span] = place.scene, place.ego
        air[span] = (
            0.5 * (outside_c + 21.0) if place.outdoors else 21.0
        )  # the device under a coat: mean of outside and 21 °C
        came = rng.poisson(busy * place.arrivals_h * (end_s - begin_s) / 3600.0)
        times = np.repeat(rng.uniform(begin_s, end_s, came), 1 + rng.poisson(place.group - 1.0, came))
        arrivals.append(times + rng.uniform(0, 20, len(times)) * (place.group > 1))
        stays.append(np.minimum(place.stay_median_s * np.exp(rng.normal(0, place.stay_spread, len(times))), 7200.0))
        begin_s, i = end_s, i + 1
    noise = rng.uniform(0.6, 1.4, steps)
    return Day(
        start_share=rng.uniform(0.75, 1.0),
        scene=np.clip(scene * noise, 0, 0.9),
        ego=np.clip(ego * noise[::-1], 0, 1 - np.clip(scene * noise, 0, 0.9)),
        loss=1.0 + 0.004 * np.maximum(0.0, 20.0 - air),
        air_c=air,
        encounters=_encounters(rng, np.concatenate(arrivals), np.concatenate(stays)),
    )


def _encounters(rng: np.random.Generator, arrive_s: NDArray[np.float64], stay_s: NDArray[np.float64]) -> Encounters:
    order = np.argsort(arrive_s)
    n = len(order)
    face_px = _PX_M / rng.uniform(_NEAREST_M, _FARTHEST_M, n)
    found = np.stack([np.interp(face_px, _FACE_PX, shares) for shares in _FOUND], axis=1)
    fit = np.clip(rng.beta(3.0, 2.0, n), 0.05, 1.0)  # share of this face's crops that are fit
    looks_to_fit = rng.geometric(fit[:, None], (n, 3)).sum(axis=1).astype(float)
    looks_to_fit[rng.random(n) < 0.08] = math.inf  # turned away for the whole visit
    return Encounters(
        arrive_s=arrive_s[order],
        stay_s=stay_s[order],
        looks_to_see=rng.random(n) + rng.geometric(found[:, -1]) - 1.0,
        looks_to_fit=looks_to_fit,
        sights=found / found[:, -1:],
    )


def at_area(shares: NDArray[np.float64], area: float) -> NDArray[np.float64]:
    """Interpolate between the values of the last axis at AREAS: (..., 3) to (...)."""
    i = int(area >= AREAS[1])
    part = min(max((area - AREAS[i]) / (AREAS[i + 1] - AREAS[i]), 0.0), 1.0)
    return np.asarray((1.0 - part) * shares[..., i] + part * shares[..., i + 1])


class Gauges:
    """Readings of the wearer's sensor, one a step, with errors, drop-outs and glitches."""

    def __init__(self, wearer: Wearer, rng: np.random.Generator, steps: int) -> None:
        self._wearer = wearer
        noise = rng.normal(0, 1, (steps, 4))
        self._volts, self._amperes, self._whole = noise[:, 0] * 0.005, 1 + noise[:, 1] * 0.04, noise[:, 2] * 0.3
        self._bias = _wander(noise[:, 3], 0.012, 2 * 3600.0 / STEP_S)
        self._absent = _outages(rng, steps)
        self._glitch = np.where(rng.random(steps) < 0.003, rng.choice([0.0, 100.0, 255.0, math.nan], steps), -1.0)

    def read(self, step: int, share: float, power_w: float, now_s: float, air_c: float) -> Reading:
        """Return the reading at the true share of energy and the true power."""
        if self._absent[step]:
            return Reading(now_s)
        wearer = self._wearer
        charge = float(np.interp(share, wearer.energy, _CHARGE))
        rest_v = float(np.interp(charge, _CHARGE, wearer.rest_v))
        cold = 1.0 + 0.02 * max(0.0, 20.0 - air_c)
        current = power_w / rest_v
        volts = rest_v - current * wearer.resistance_ohm * cold + self._volts[step]
        current = power_w / volts
        voltage = Measured(round(volts / 0.004) * 0.004, "V", "simulated", now_s)
        if wearer.sensor == "percent":
            return Reading(now_s, "battery", percent=self._percent(step, charge, now_s), voltage_v=voltage)
        metered_a = round(current * wearer.meter_gain * self._amperes[step], 3)
        amperes = Measured(metered_a, "A", "simulated", now_s)
        power = Measured(metered_a * voltage.value, "W", "simulated", now_s)
        percent = self._percent(step, charge, now_s) if wearer.sensor == "gauge" else None
        return Reading(now_s, "battery", percent=percent, voltage_v=voltage, current_a=amperes, power_w=power)

    def _percent(self, step: int, charge: float, now_s: float) -> Measured:
        if self._glitch[step] != -1.0:
            return Measured(float(self._glitch[step]), "%", "simulated", now_s)
        bias_scale = 0.3 + 0.7 * min(1.0, charge / 0.3)  # gauges are more precise near empty
        bend = 4.0 * self._wearer.gauge_bend * charge * (1.0 - charge)
        percent = 100.0 * (charge + bend + bias_scale * self._bias[step]) + self._whole[step]
        return Measured(float(min(max(round(percent), 0), 100)), "%", "simulated", now_s)


def _wander(noise: NDArray[np.float64], spread: float, correlation_steps: float) -> NDArray[np.float64]:
    """Return an autoregressive process with this standard deviation and correlation time."""
    keep = math.exp(-1.0 / correlation_steps)
    out = np.empty_like(noise)
    value = noise[0] * spread
    for i, draw in enumerate(noise):
        value = keep * value + math.sqrt(1 - keep * keep) * spread * draw
        out[i] = value
    return out


def _outages(rng: np.random.Generator, steps: int) -> NDArray[np.bool_]:
    absent = np.zeros(steps, bool)
    for start in np.flatnonzero(rng.random(steps) < 0.002):
        absent[start : start + 1 + int(rng.exponential(5.0))] = True
    return absent
