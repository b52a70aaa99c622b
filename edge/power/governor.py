"""How often each stage may run, so that the battery lasts as long as asked and the energy goes where faces are.

Pure: readings, usage and a clock reading go in, orders come out. Every update

1. lets the energy filter learn from the reading (`energy.py`): energy left, capacity, cost of each stage;
2. learns how the day goes: the share of time with faces in view, and the share of its rate that each stage uses;
3. divides the energy above the reserve by the time that is left: the budget;
4. spends the budget where it shortens the delay to recognition most (`allocate.py`);
5. looks the mode and its reason up in the table of causes (`modes.py`).

Overspending and underspending change the energy left, and so the next budget. Wrong costs therefore change the spending
over the day. They do not change the end time. There is one set of rates for each demand: a face that comes into view
gets its rates at once, without waiting for the next update.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

from edge.power.cell import CELL_V
from edge.power.demand import Day
from edge.power.energy import EnergyFilter, Learned
from edge.power.modes import CAUSES, Modes
from edge.power.plan import Plan, Planner, scaled
from edge.power.readings import Measured, PerDemand, Reading, Usage
from edge.records import Rates
from edge.vocabulary import Mode, PowerReason, Supply

_log = logging.getLogger(__name__)

_REPLAN_S = 10.0  # least time between two plans in one mode: a camera needs a moment to change its rate
_REPLAN_SHARE = 0.01  # a relative change of the power above this triggers a new plan at once
_HORIZON_H = 0.05  # least divisor of the budget: near the end the time left goes to zero
# Near the floor, uncertain energy is not spent: it can still be spent later. Near full rates it is spent: the governor
# can still slow down later. The hedge is `_HEDGE` standard deviations, and never passes the floor or the full rates.
# `_HEDGE_SLOPE`: from two thirds of the way to full rates the whole hedge is spent, since full rates cannot use up what
# is left at the end. Below half of the way saved energy costs encounters, so only the uncertainty above
# `_SELF_CORRECTING` (share of a full charge) is hedged: readings during the day correct the rest.
_HEDGE, _SELF_CORRECTING, _HEDGE_SLOPE = 2.0, 0.015, 3.0
_FRESH_S = 10.0  # older readings are not used
_SHORT = next(cause.begins for cause in CAUSES if cause.reason == "infeasible")
_NO_RATES = PerDemand(*[Rates(0.0, 0.0, 0.0)] * 3)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits from the configuration."""

    full: Rates
    floor_hz: float = 0.5
    critical_hz: float = 0.1
    reserve: float = 0.05  # share of a full charge
    suspend: float = 0.02
    hot_c: float = 75.0
    overheated_c: float = 82.0
    suspend_c: float = 95.0
    hysteresis_s: float = 60.0
    detector_px: int = 640
    threads: int = 1
    cells: int = 1  # in series behind the voltage reading; 0: the voltage is not the battery's


@dataclass(frozen=True, slots=True)
class Orders:
    """What the stages may do until the next orders, and why."""

    mode: Mode
    reason: PowerReason
    rates: PerDemand[Rates]
    detector_px: int
    threads: int
    supply: Supply
    percent: float | None = None  # charge left
    temperature_c: float | None = None
    power_w: float | None = None  # measured, or what the costs predict
    budget_w: float | None = None
    wanted_end_s: float | None = None  # monotonic, as all times here
    # when the reserve is reached: under the plan, or at floor rates where the wanted end is infeasible
    forecast_end_s: float | None = None
    feasible: bool = True  # whether floor rates last to the wanted end


@dataclass(slots=True)
class _Budget:
    """Energy and power as one update sees them."""

    power_w: float  # allowed draw
    usable_wh: float  # energy above the reserve
    remaining_h: float  # time to the wanted end
    floor_w: float  # draw at floor rates
    active: Plan  # what `power_w` pays for, without a mode's limits
    restraint: float  # 1 − affordable ÷ full rate of looks while watching
    shortfall: float  # share of the wanted time that floor rates miss


@dataclass(slots=True)
class _Outlook:
    """Cached plans: they change slowly, with the learned costs and the learned day."""

    at_s: float
    floor_w: float  # draw at floor rates
    full_w: float  # draw at full rates
    power_w: float = math.nan  # the power that `active` was planned for
    active: Plan | None = None


@dataclass(slots=True)
class Governor:
    """The governor of one device. `knowledge`: what is known of battery and costs at the start."""

    limits: Limits
    knowledge: Learned
    energy: EnergyFilter = field(init=False)
    _modes: Modes = field(init=False)
    _day: Day = field(default_factory=Day)
    _orders: Orders | None = None
    _updated_s: float | None = None
    _plan: Plan = field(init=False)  # of now
    _planned_s: float = float("-inf")
    _outlook: _Outlook | None = None
    observed_s: float | None = None  # when the charge was last seen, or should have been
    _voltage_s: float | None = None
    _cells_warned: bool = False  # whether a voltage that does not fit `cells` has been logged
    _began_s: float | None = None  # when the device went onto battery

    def __post_init__(self) -> None:
        self.energy = EnergyFilter(self.knowledge)
        self._modes = Modes(self.limits.hysteresis_s)
        self._plan = self._planner.plan("active", math.inf)

    def learned(self) -> Learned:
        """Return the learned values that the next start begins with."""
        return self.energy.learned()

    def update(self, reading: Reading, usage: Usage, now_s: float, wanted_end_s: float | None) -> Orders:
        """Take the reading and the usage since the last update, and return the orders from now on.

        `wanted_end_s`: until when the battery should last, None without such a setting. A clock that stands still or
        goes back counts as no time.
        """
        hours = 0.0 if self._updated_s is None else max(0.0, now_s - self._updated_s) / 3600.0
        self._updated_s = now_s if self._updated_s is None else max(now_s, self._updated_s)
        self._learn(reading, usage, hours, now_s)
        on_battery = reading.supply != "mains" and self.energy.started
        budget = self._budget(now_s, wanted_end_s) if on_battery and wanted_end_s is not None else None
        mode, reason = self._modes.update(self._signals(reading, budget, now_s), now_s)
        if mode == "active" and reading.supply == "mains":
            reason = "mains"
        previous = self._orders
        if previous is None or previous.mode != mode or not 0.0 <= now_s - self._planned_s < _REPLAN_S:
            self._plan, self._planned_s = self._plan_for(mode, budget), now_s
        orders = self._orders_of(mode, reason, reading, now_s)
        if budget is not None and wanted_end_s is not None:
            orders = self._with_forecast(orders, budget, wanted_end_s, now_s)
        self._orders = orders
        return orders

    # ---- learning

    def _learn(self, reading: Reading, usage: Usage, hours: float, now_s: float) -> None:
        if reading.supply == "mains":
            self.energy.restart()
            self._began_s = None
            if any(_fresh(charge, now_s) is not None for charge in (reading.percent, reading.voltage_v)):
                self.observed_s = now_s
        scale = 1.0
        if self._orders is not None:
            scale = (self._orders.detector_px / self.limits.detector_px) ** 2
            self._day.add(usage, self._orders.rates)
        seconds = max(usage.duration_s, 1e-3)
        activity = (sum(usage.frames) / seconds, sum(usage.looks) * scale / seconds, usage.embeddings / seconds)
        self.energy.pass_time(hours, activity, _fresh(reading.power_w, now_s))
        if reading.supply != "mains":
            self._observe(reading, self.energy.predicted_w(activity), now_s)

    def _observe(self, reading: Reading, predicted_w: float, now_s: float) -> None:
        percent, volts = _fresh(reading.percent, now_s), _fresh(reading.voltage_v, now_s)
        if percent is not None:
            since_h = 0.0 if self.observed_s is None else max(0.0, now_s - self.observed_s) / 3600.0
            self.energy.observe_gauge(percent / 100.0, since_h)
        cells = self.limits.cells
        if volts is not None and cells and not CELL_V[0] <= volts / cells <= CELL_V[1]:
            self._warn_of_cells(volts)
        elif volts is not None and cells:
            since_h = 0.0 if self._voltage_s is None else max(0.0, now_s - self._voltage_s) / 3600.0
            current = _fresh(reading.current_a, now_s)
            self.energy.observe_volts(volts / cells, current, since_h, predicted_w / cells)
            self._voltage_s = now_s
        if self.energy.started and (percent is not None or self._voltage_s == now_s):
            self.observed_s = now_s
            self._began_s = now_s if self._began_s is None else self._began_s

    def _warn_of_cells(self, volts: float) -> None:
        if not self._cells_warned:
            self._cells_warned = True
            _log.warning(
                "[power] battery_cells = %d does not fit the measured %.2f V; the voltage is not used\n"
                "  → count the cells in series, or set 0 where the voltage is not the battery's",
                self.limits.cells,
                volts,
            )

    # ---- budget

    def _budget(self, now_s: float, wanted_end_s: float) -> _Budget:
        usable_wh, spread_wh = self.energy.usable(self.limits.reserve)
        remaining_h = (wanted_end_s - now_s) / 3600.0
        began_s = now_s if self._began_s is None else self._began_s
        total_h = max((wanted_end_s - began_s) / 3600.0, _HORIZON_H)
        outlook = self._outlook_at(now_s)
        floor_w, full_w = outlook.floor_w, outlook.full_w
        hours = max(remaining_h, _HORIZON_H)
        level = min(max((usable_wh / hours - floor_w) / max(full_w - floor_w, 1e-9), 0.0), 1.0)
        room_wh = max(0.0, min(usable_wh - floor_w * hours, full_w * hours - usable_wh))
        ignored_wh = _SELF_CORRECTING * self.energy.full_wh if level < 0.5 else 0.0
        hedge_wh = min(_HEDGE * max(0.0, spread_wh - ignored_wh), room_wh)
        lean = 2.0 * level - 1.0  # −1 at floor rates, 1 at full rates
        planned_wh = max(0.0, usable_wh + min(1.0, max(lean, _HEDGE_SLOPE * lean)) * hedge_wh)
        power_w = planned_wh / hours if remaining_h > 0.0 else floor_w
        if outlook.active is None or not abs(power_w - outlook.power_w) < _REPLAN_SHARE * power_w:
            outlook.active, outlook.power_w = self._planner.plan("active", power_w, self._plan.detector_px), power_w
        active = outlook.active
        return _Budget(
            power_w=power_w,
            usable_wh=usable_wh,
            remaining_h=max(remaining_h, 0.0),
            floor_w=floor_w,
            active=active,
            restraint=1.0 - active.rates.watch.detector_hz / self.limits.full.detector_hz,
            shortfall=(remaining_h - usable_wh / floor_w) / total_h,
        )

    def _outlook_at(self, now_s: float) -> _Outlook:
        if self._outlook is None or not 0.0 <= now_s - self._outlook.at_s < _REPLAN_S:
            floor, full = self._planner.plan("saver", 0.0), self._planner.plan("active", math.inf)
            self._outlook = _Outlook(now_s, floor.power_w, full.power_w)
        return self._outlook

    @property
    def _planner(self) -> Planner:
        limits = self.limits
        return Planner(limits.full, self._floor_hz, limits.detector_px, self.energy.costs, self._day)

    @property
    def _floor_hz(self) -> float:
        return min(self.limits.floor_hz, self.limits.full.detector_hz)

    def _plan_for(self, mode: Mode, budget: _Budget | None) -> Plan:
        full, planner = self.limits.full, self._planner
        if mode == "active" and budget is not None:
            return budget.active
        if mode in {"active", "saver"}:
            return planner.plan(mode, math.inf if budget is None else budget.power_w)
        rates = _NO_RATES
        if mode == "critical":
            far, near = (scaled(full, hertz, hertz, 0.0) for hertz in (self.limits.critical_hz, self._floor_hz))
            rates = PerDemand(far, near, near)  # `far` is too slow to recognise a face that is in view
        return replace(planner.plan("saver", 0.0), rates=rates)

    # ---- mode and explanation

    def _signals(self, reading: Reading, budget: _Budget | None, now_s: float) -> dict[str, float | None]:
        limits, heat = self.limits, _fresh(reading.temperature_c, now_s)
        percent = 100.0 * self.energy.share if self.energy.started and reading.supply != "mains" else None
        signals: dict[str, float | None] = {
            "below_suspend": None if percent is None else 100.0 * limits.suspend - percent,
            "below_reserve": None if percent is None else 100.0 * limits.reserve - percent,
            "above_suspend": None if heat is None else heat - limits.suspend_c,
            "above_overheated": None if heat is None else heat - limits.overheated_c,
            "above_hot": None if heat is None else heat - limits.hot_c,
            "undervoltage": _fresh(reading.undervoltage, now_s),
            "throttled": _fresh(reading.throttled, now_s),
            "blind_s": None if reading.supply == "mains" or self.observed_s is None else now_s - self.observed_s,
            "shortfall": None if budget is None else budget.shortfall,
            "restraint": None if budget is None else budget.restraint,
        }
        return signals

    def _orders_of(self, mode: Mode, reason: PowerReason, reading: Reading, now_s: float) -> Orders:
        return Orders(
            mode=mode,
            reason=reason,
            rates=self._plan.rates,
            detector_px=self._plan.detector_px,
            threads=self.limits.threads if mode == "active" else 1,
            supply=reading.supply,
            percent=_fresh(reading.percent, now_s),
            temperature_c=_fresh(reading.temperature_c, now_s),
            power_w=_fresh(reading.power_w, now_s),
        )

    def _with_forecast(self, orders: Orders, budget: _Budget, wanted_end_s: float, now_s: float) -> Orders:
        feasible = orders.reason != "infeasible" and budget.shortfall < _SHORT
        planned_w = budget.floor_w
        if feasible and orders.mode in {"active", "saver"}:
            planned_w = max(planned_w, min(self._plan.power_w, budget.power_w))  # overspending now is saved later
        return replace(
            orders,
            budget_w=budget.power_w,
            wanted_end_s=wanted_end_s,
            forecast_end_s=now_s + 3600.0 * budget.usable_wh / planned_w,
            feasible=feasible,
        )


def _fresh(measured: Measured | None, now_s: float) -> float | None:
    if measured is None or not -1.0 <= measured.age_s(now_s) <= _FRESH_S:
        return None
    return measured.value
