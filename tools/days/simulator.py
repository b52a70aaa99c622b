"""Days of wearers with the real governor in the loop, and the results of other policies on the same days.

A day is met when its run time is within 2 % of the wanted one, on both sides. The run time ends when service at or
above floor rates ends: the true energy has reached the reserve, or the battery made the governor go critical before.
Where energy above the reserve is left at the wanted end, the run time is the wanted one plus the time that this energy
lasts at the mean power of the day. A battery with much unused energy is therefore a miss, like an empty one.

A day is *possible* when floor rates, with the true battery, last at least the wanted time, and full rates do not.
Otherwise it is *impossible*, or *ample*: there is nothing to govern, and it is counted apart. An impossible day is
reported in time when the orders one hour after the start say so.

Each wearer keeps a device, a battery and the governor's learned values for several days in a row. The first day starts
from the priors and the label of the battery. Each step of `STEP_S` has one reading and one update of the governor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.power.cell import LABEL_SHARE, LABEL_SPREAD
from edge.power.costs import PRIORS
from edge.power.energy import Learned, from_prior
from edge.power.governor import Governor, Limits, Orders
from edge.power.plausible import Plausibility
from edge.power.readings import PerDemand, Usage
from edge.records import Rates
from tools.days.results import TOLERANCE, DayResult
from tools.days.visits import Course, Crowd, Setting, constant, course, power_w, usage_of
from tools.days.world import DAY_S, STEP_S, Day, Gauges, Wearer, draw_day, draw_wearer

DAYS_PER_WEARER = 20  # about a month of working days; the first one starts without learned values
_HOUR_S = 3600.0
_SMALL_AREA = 0.25  # of the detector at half size
_NOTHING = PerDemand(0.0, 0.0, 0.0)
_NO_USAGE = Usage(_NOTHING, _NOTHING, _NOTHING, 0.0)

# Full rates that each board can hold, from the estimated time of a look on it.
FULL = {
    "pi-zero-2": Rates(5.0, 5.0, 2.5),
    "pi-4": Rates(12.0, 12.0, 5.0),
    "pi-5": Rates(15.0, 15.0, 5.0),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The wanted run time of one day."""

    run_s: float
    energy_wh: float  # true energy above the true reserve at the start
    kind: str  # possible, impossible, ample


@dataclass(frozen=True, slots=True)
class Trace:
    """One day step by step, for plots and tests."""

    share: list[float]
    power_w: list[float]
    budget_w: list[float | None]
    watch_hz: list[float]
    modes: list[str]
    air_c: list[float]


def simulate(
    days: int, seed: int, per_wearer: int = DAYS_PER_WEARER, progress: Callable[[int], None] | None = None
) -> list[DayResult]:
    """Return the results of `days` days of seeded wearers with `per_wearer` days in a row each."""
    results: list[DayResult] = []
    wearer = 0
    while len(results) < days:
        rng = np.random.default_rng([seed, wearer])
        results += simulate_wearer(rng, wearer, min(per_wearer, days - len(results)))
        wearer += 1
        if progress is not None:
            progress(len(results))
    return results


def simulate_wearer(rng: np.random.Generator, number: int, days: int) -> list[DayResult]:
    """Return the days of one wearer; each starts with the learned values of the days before."""
    person = draw_wearer(rng)
    learned = first_knowledge(person)
    results = []
    for i in range(days):
        day = draw_day(rng)
        asked = ask(rng, person, day)
        run = Run(person, day, asked, learned, rng)
        run.play()
        learned = run.governor.learned()
        results.append(run.result(number, i))
    return results


def example_day(seed: int) -> dict[str, Any]:
    """Return the second day of the first wearer step by step, for a plot."""
    rng = np.random.default_rng([seed, 0])
    person = draw_wearer(rng)
    learned = first_knowledge(person)
    trace = Trace([], [], [], [], [], [])
    for _ in range(2):
        day = draw_day(rng)
        run = Run(person, day, ask(rng, person, day), learned, rng)
        run.play()
        learned, trace = run.governor.learned(), run.trace
    return asdict(trace) | {"hour": [step * STEP_S / _HOUR_S for step in range(len(trace.share))]}


def first_knowledge(person: Wearer) -> Learned:
    """Return the starting values of a governor on a new device: the board's prior and the battery's label."""
    return from_prior(PRIORS[person.board], LABEL_SHARE * person.label_wh, LABEL_SPREAD)


def limits_of(person: Wearer) -> Limits:
    """Return the limits of a device in its usual configuration."""
    return Limits(full=FULL[person.board])


def floor_setting(limits: Limits) -> Setting:
    """Return the wearer's minimum as a constant policy."""
    hertz = limits.floor_hz
    full = limits.full
    return constant(Rates(full.capture_fps * hertz / full.detector_hz, hertz, hertz), _SMALL_AREA)


def at_rate(limits: Limits, hertz: float) -> Setting:
    """Return a constant policy: one detector rate, the other rates in proportion."""
    full, share = limits.full, hertz / limits.full.detector_hz
    return constant(Rates(full.capture_fps * share, hertz, full.embeddings_hz * share))


def ask(rng: np.random.Generator, person: Wearer, day: Day) -> Asked:
    """Draw a run time: one in six beyond the life of floor rates, one in twenty below that of full rates."""
    limits = limits_of(person)
    energy_wh = float((day.start_share - limits.reserve) * person.full_wh)
    floor_s = life_s(course(day, person.costs, floor_setting(limits)).drain_w, energy_wh)
    full_s = life_s(course(day, person.costs, constant(limits.full)).drain_w, energy_wh)
    draw = rng.random()
    if draw < 1 / 6:
        run_s = floor_s * rng.uniform(1.0, 1.5)
    elif draw < 1 / 6 + 1 / 20:
        run_s = full_s * rng.uniform(0.8, 1.0)
    else:
        run_s = rng.uniform(full_s, floor_s)
    run_s = float(min(STEP_S * round(run_s / STEP_S), DAY_S))
    kind = "impossible" if run_s > floor_s else "ample" if run_s <= full_s else "possible"
    return Asked(run_s, energy_wh, kind)


def life_s(drain_w: NDArray[np.float64], energy_wh: float) -> float:
    """Return how long an energy lasts; beyond the drawn day its mean power is assumed."""
    used_wh = np.cumsum(drain_w) * STEP_S / _HOUR_S
    if used_wh[-1] <= energy_wh:
        return DAY_S + (energy_wh - float(used_wh[-1])) / float(drain_w.mean()) * _HOUR_S
    i = int(np.searchsorted(used_wh, energy_wh))
    before = float(used_wh[i - 1]) if i else 0.0
    return STEP_S * (i + (energy_wh - before) / (float(used_wh[i]) - before))


class Run:
    """One day with the real governor."""

    def __init__(self, person: Wearer, day: Day, asked: Asked, learned: Learned, rng: np.random.Generator) -> None:
        self.person, self.day, self.asked = person, day, asked
        self.limits = limits_of(person)
        self.governor = Governor(self.limits, learned)
        self._plausible = Plausibility()
        self._steps = round(asked.run_s / STEP_S)
        self._gauges = Gauges(person, rng, self._steps)
        self._left_wh = day.start_share * person.full_wh
        self._crowd = Crowd(day.encounters)
        self.recognised = 0
        self.ended_s: float | None = None  # when service at or above floor rates ended, None: never
        self.said_impossible = False
        self.mode_changes = 0
        self.governor_s = 0.0
        self._moves = list(zip(day.scene.tolist(), day.ego.tolist(), strict=True))
        self.trace = Trace([], [], [], [], [], [])

    def play(self) -> None:
        """Play the day to its wanted end."""
        usage, watts, mode = _NO_USAGE, self.person.costs.base_w, "active"
        reserve_wh = self.limits.reserve * self.person.full_wh
        for step in range(self._steps):
            now_s = step * STEP_S
            orders = self._govern(step, now_s, watts, usage)
            self.mode_changes += orders.mode != mode
            mode = orders.mode
            if now_s == _HOUR_S:
                self.said_impossible = not orders.feasible
            if self.ended_s is None and orders.reason == "battery_low":
                self.ended_s = now_s
            setting = Setting(*orders.rates, (orders.detector_px / self.limits.detector_px) ** 2)
            usage = self._live(step, setting)
            watts = power_w(self.person.costs, usage, setting.area)
            used_wh = watts * self.day.loss[step] * STEP_S / _HOUR_S
            if self.ended_s is None and self._left_wh - used_wh < reserve_wh:
                self.ended_s = now_s + STEP_S * (self._left_wh - reserve_wh) / used_wh
            self._left_wh = max(0.0, self._left_wh - used_wh)
            self._note(orders, watts, float(self.day.air_c[step]))

    def _govern(self, step: int, now_s: float, watts: float, usage: Usage) -> Orders:
        share = self._left_wh / self.person.full_wh
        reading = self._gauges.read(step, share, watts, now_s, float(self.day.air_c[step]))
        started_s = time.perf_counter()
        orders = self.governor.update(self._plausible.check(reading), usage, now_s, self.asked.run_s)
        self.governor_s += time.perf_counter() - started_s
        return orders

    def _live(self, step: int, setting: Setting) -> Usage:
        """Advance one step: count recognised encounters and return the usage of the stages."""
        met_s, followed_s, recognised = self._crowd.advance(step, setting)
        self.recognised += recognised
        return usage_of(setting, (met_s, followed_s), self._moves[step], STEP_S)

    def _note(self, orders: Orders, watts: float, air_c: float) -> None:
        self.trace.air_c.append(air_c)
        self.trace.share.append(self._left_wh / self.person.full_wh)
        self.trace.power_w.append(watts)
        self.trace.budget_w.append(orders.budget_w)
        self.trace.watch_hz.append(orders.rates.watch.detector_hz)
        self.trace.modes.append(orders.mode)

    @property
    def run_s(self) -> float:
        """The run time, as defined in the module's docstring."""
        if self.ended_s is not None:
            return self.ended_s
        spare_wh = self._left_wh - self.limits.reserve * self.person.full_wh
        used_wh = self.day.start_share * self.person.full_wh - self._left_wh
        return self.asked.run_s * (1.0 + spare_wh / max(used_wh, 1e-9))

    def result(self, number: int, day: int) -> DayResult:
        """Return the results of the day and of the baselines."""
        asked_s, run_s = self.asked.run_s, self.run_s
        floor = course(self.day, self.person.costs, floor_setting(self.limits))
        full = course(self.day, self.person.costs, constant(self.limits.full))
        baselines = Baselines(self.person, self.day, self.asked, self.limits)
        return DayResult(
            wearer=number,
            day=day,
            board=self.person.board,
            sensor=self.person.sensor,
            kind=self.asked.kind,
            asked_h=asked_s / _HOUR_S,
            run_h=float(run_s / _HOUR_S),
            met=bool(abs(run_s - asked_s) <= TOLERANCE * asked_s),
            said_impossible=self.said_impossible,
            shortage=1.0 - life_s(floor.drain_w, self.asked.energy_wh) / asked_s,
            recognised=self.recognised,
            encounters=int(np.searchsorted(self.day.encounters.arrive_s, asked_s)),
            hindsight=baselines.hindsight() if self.asked.kind == "possible" else 0.0,
            threshold=baselines.thresholds(floor, full) if self.asked.kind == "possible" else 0.0,
            most=float(full.recognised[: self._steps].sum()) if self.asked.kind == "possible" else 0.0,
            plain_threshold_life=baselines.plain_life(floor, full),
            full_rate_life=life_s(full.drain_w, self.asked.energy_wh) / asked_s,
            mode_changes=self.mode_changes,
            governor_s=self.governor_s,
        )


class Baselines:
    """Results of policies without a governor on the same day."""

    def __init__(self, person: Wearer, day: Day, asked: Asked, limits: Limits) -> None:
        self._person, self._day, self._asked, self._limits = person, day, asked, limits
        self._steps = round(asked.run_s / STEP_S)

    def hindsight(self) -> float:
        """Return the encounters recognised by the constant rate that reaches the reserve exactly at the wanted end."""
        low, high = self._limits.floor_hz * 0.2, self._limits.full.detector_hz
        for _ in range(14):
            middle = 0.5 * (low + high)
            drain = course(self._day, self._person.costs, at_rate(self._limits, middle)).drain_w
            if life_s(drain, self._asked.energy_wh) >= self._asked.run_s:
                low = middle
            else:
                high = middle
        best = course(self._day, self._person.costs, at_rate(self._limits, low))
        return float(best.recognised[: self._steps].sum())

    def thresholds(self, floor: Course, full: Course) -> float:
        """Return the encounters recognised by three levels: full rates, a quarter of them, floor rates.

        Full rates hold above a charge, a quarter of them above 40 % of this charge. The charge is chosen with
        hindsight, so that the battery lasts exactly the wanted time.
        """
        levels = (full, self._quarter(), floor)
        low, high = 0.0, 1.0  # a higher charge saves earlier
        for _ in range(14):
            middle = 0.5 * (low + high)
            if self._play(levels, middle, 0.4 * middle)[0] >= self._asked.run_s:
                high = middle
            else:
                low = middle
        return self._play(levels, high, 0.4 * high)[1]

    def plain_life(self, floor: Course, full: Course) -> float:
        """Return the share of the wanted time that the usual thresholds of 50 % and 20 % last."""
        return self._play((full, self._quarter(), floor), 0.5, 0.2)[0] / self._asked.run_s

    def _quarter(self) -> Course:
        return course(self._day, self._person.costs, at_rate(self._limits, 0.25 * self._limits.full.detector_hz))

    def _play(self, levels: tuple[Course, Course, Course], first: float, second: float) -> tuple[float, float]:
        """Return (life in s, encounters recognised until the wanted end) where the charge switches the level."""
        full_wh = self._person.full_wh
        left_wh, reserve_wh = self._day.start_share * full_wh, self._limits.reserve * full_wh
        at, recognised = 0, 0.0
        for level, until in zip(levels, (first * full_wh, second * full_wh, reserve_wh), strict=True):
            used_wh = np.cumsum(level.drain_w[at:]) * STEP_S / _HOUR_S
            stop = at + int(np.searchsorted(used_wh, max(0.0, left_wh - max(until, reserve_wh))))
            recognised += float(level.recognised[at : min(stop, self._steps)].sum())
            left_wh -= float(used_wh[stop - at - 1]) if stop > at else 0.0
            at = stop
        spare_s = (left_wh - reserve_wh) / float(levels[2].drain_w.mean()) * _HOUR_S
        return at * STEP_S + max(0.0, spare_s), recognised
