"""The governor on a device: its sensors, clock and stored values, and its orders for the pipeline."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge import files
from edge.config import Config, PowerConfig
from edge.events.event import rfc3339
from edge.power.cell import CELL_V, LABEL_SHARE, LABEL_SPREAD, share_from_voltage
from edge.power.costs import LIVE_CHECK_EMBEDDINGS, PRIORS, this_device
from edge.power.demand import MEET_S
from edge.power.energy import Learned, from_prior
from edge.power.explanations import explain
from edge.power.gauge import fits
from edge.power.governor import Governor, Limits, Orders
from edge.power.readings import Demand, PerDemand, Reading, Usage
from edge.power.sensors import Sensors, open_sensors
from edge.power.wish import WORDS, wish
from edge.reasons import Counters
from edge.records import Rates
from edge.vocabulary import Wish

_log = logging.getLogger(__name__)

_SAVE_S = 300.0
_GAUGE_SPREAD = 0.10  # relative uncertainty of a gauge's capacity
_ANY_WH, _ANY_SPREAD = 20.0, 0.6  # capacity where neither label nor gauge gives one
_CONTACT_S = 60.0  # a shorter connection of the charger counts as a bad contact
_CHARGED, _CHARGED_BY_VOLTS = 5.0, 20.0  # rise in % that proves charging; the voltage also rises when the load falls
_NOTHING = Usage(PerDemand(0.0, 0.0, 0.0), PerDemand(0.0, 0.0, 0.0), PerDemand(0.0, 0.0, 0.0), 0.0)
_WAKE_S = 7.0  # longest wait for the first values of a gauge after a start


class Memory(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The learned values for the next start, stored in the data folder as JSON."""

    battery: str  # the board and battery label of these values
    sensor: str = ""  # `[power] sensor` of the battery's values; empty: no sensor gave any
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None  # remaining charge
    began_wall_s: Annotated[float, msgspec.Meta(ge=0)] | None  # when the charger was disconnected
    learned: Learned


class PowerManager:
    """Reads the sensors once a second, updates the governor, and counts the work of the stages for each demand."""

    def __init__(self, config: Config, full: Rates, now_s: float, sensors: Sensors | None = None) -> None:
        self._config = config.power
        self._path = config.data.path / "power.json"
        self._sensors = open_sensors(config.power) if sensors is None else sensors
        self._battery = f"{board_of(config.power)}, {config.power.battery_wh:g} Wh"
        memory = _remember(self._path, self._battery)
        self.reading: Reading = self._sensors.read(now_s)
        learned = memory.learned if memory else first_knowledge(config.power, self.reading)
        known = memory is not None and memory.sensor == config.power.sensor
        self._governor = Governor(limits_of(config, full), learned, observed_s=now_s + _WAKE_S if known else None)
        self._sensor = config.power.sensor if known else ""
        self._began_s = _began_s(memory, config.power.run_time, now_s)
        self._percent = memory.percent if memory else None  # last known charge
        self._is_kept = True  # whether that charge is from before the start
        self._mains_s: float | None = None  # since when a charger is connected
        self._range: tuple[float, float] | None = None  # least and most charge, %, while the supply is unknown
        self._wish: tuple[Wish, float] = "none", now_s  # whether the wanted run time is followed, and since when
        self._said_wish: Wish = "none"
        self._demand: Demand = "watch"
        self._seen: dict[int, float] = {}  # undecided track → when it was first seen
        self._counts = Counters()
        self._usage = _NOTHING
        self._noted_s = self._saved_s = now_s
        self.orders = self._ordered(now_s)
        self._log_orders(now_s)

    def note(self, counters: Counters, undecided: frozenset[int], following: bool, now_s: float) -> None:
        """Add the work since the last frame to the demand of that time, and determine the present demand."""
        self._usage = Usage(
            self._counted(self._usage.seconds, max(0.0, now_s - self._noted_s)),
            self._counted(self._usage.frames, counters.frames - self._counts.frames),
            self._counted(self._usage.looks, counters.looks - self._counts.looks),
            self._usage.embeddings
            + (counters.embeddings - self._counts.embeddings)
            + LIVE_CHECK_EMBEDDINGS * (counters.live_checks - self._counts.live_checks),
        )
        self._counts.frames, self._counts.looks = counters.frames, counters.looks
        self._counts.embeddings, self._counts.live_checks = counters.embeddings, counters.live_checks
        self._noted_s = now_s
        self._seen = {track: self._seen.get(track, now_s) for track in undecided} if following else {}
        new = any(now_s - since_s <= MEET_S for since_s in self._seen.values())
        self._demand = "meet" if new else "follow" if following else "watch"

    def tick(self, now_s: float) -> Orders:
        """Read the sensors and return the governor's orders."""
        previous, self.orders = self.orders, self._ordered(now_s)
        if (previous.mode, previous.reason) != (self.orders.mode, self.orders.reason):
            self._log_orders(now_s)
        if now_s - self._saved_s >= _SAVE_S:
            self.save(now_s)
        return self.orders

    def _ordered(self, now_s: float) -> Orders:
        self.reading = self._sensors.read(now_s)
        self._follow_charge()
        self._follow_charger(now_s)
        end_s = wanted_end_s(self._config.run_time, self._began_s, now_s, time.time())
        usage, self._usage = self._usage, _NOTHING
        orders = self._governor.update(self.reading, usage, now_s, end_s)
        self._follow_wish(orders, now_s)
        return orders if self._config.governor else unrestrained(orders, self._governor.limits)

    def _log_orders(self, now_s: float) -> None:
        fields = state_fields(self.orders, now_s)
        heat = self.reading.temperature_c
        where = f"; {heat.source}: {heat.value:.0f} °C" if self.orders.reason == "hot" and heat is not None else ""
        _log.info("power: %s%s", explain(fields, self.orders.mode, self.orders.reason), where)

    def _follow_wish(self, orders: Orders, now_s: float) -> None:
        """Determine whether the wanted run time is followed, and log a change once it has lasted."""
        config = self._config
        found = wish(
            config.run_time,
            governor=config.governor,
            followed=orders.wanted_end_s is not None,
            reading=self.reading,
            cells=config.battery_cells,
            notes={note.kind for note in self._sensors.notes},
        )
        if found != self._wish[0]:
            self._wish = found, now_s
        elif found != self._said_wish and now_s - self._wish[1] >= _WAKE_S:
            self._said_wish = found
            what, remedy = WORDS[found]
            level = logging.WARNING if what.startswith("not followed") else logging.INFO
            hint = f"\n  → {remedy}" if remedy else ""
            _log.log(level, "power: the wanted run time %s is %s%s", config.run_time, what, hint)

    @property
    def wish(self) -> Wish:
        """Whether the wanted run time is followed."""
        return self._wish[0]

    @property
    def rates(self) -> Rates:
        """Rates of the stages for the present demand."""
        rates: Rates = getattr(self.orders.rates, self._demand)
        return rates

    def save(self, now_s: float) -> None:
        """Save the learned values. A write error is logged; the governor continues."""
        self._saved_s = now_s
        began = None if self._began_s is None else time.time() - (now_s - self._began_s)
        memory = Memory(
            battery=self._battery,
            sensor=self._sensor,
            percent=self._percent,
            began_wall_s=began,
            learned=self._governor.learned(),
        )
        try:
            files.replace(self._path, msgspec.json.encode(memory))  # this process is the only one that writes it
        except OSError as e:
            _log.warning("%s: cannot be kept: %s", self._path, e.strerror)

    def _follow_charge(self) -> None:
        """Keep the charge; if it is clearly higher than before the start, the wanted time starts again."""
        charge = measured_charge(self.reading, self._config.battery_cells)
        if charge is None:
            return
        percent, doubt = charge
        if self._is_kept and self._percent is not None and percent > self._percent + doubt:
            _log.info(
                "power: charged from %.0f to %.0f %% meanwhile: the wanted time starts again", self._percent, percent
            )
            self._began_s = None
        self._percent, self._is_kept, self._sensor = percent, False, self._config.sensor

    def _follow_charger(self, now_s: float) -> None:
        """Start the wanted time when the charger is disconnected, unless it was a short contact."""
        supply = self.reading.supply
        if supply == "mains" and self._mains_s is None:
            self._mains_s = now_s
        if self._mains_s is not None and now_s - self._mains_s >= _CONTACT_S:
            self._began_s = None
        if supply == "battery":
            self._mains_s = None
            self._began_s = now_s if self._began_s is None else self._began_s
        if supply == "unknown":
            self._follow_unknown_supply(now_s)
        else:
            self._range = None

    def _follow_unknown_supply(self, now_s: float) -> None:
        """Start the wanted time while the supply is unknown: when the charge last stopped rising.

        A gauge without a status is most often the device's only battery. It was charging if its charge has not fallen
        since, or has clearly risen from its least value.
        """
        percent, volts = self.reading.percent, self.reading.voltage_v
        if percent is None:
            if volts is not None and fits(volts.value, self._config.battery_cells) and self._began_s is None:
                self._began_s = now_s
            return
        if self._range is None:
            self._range = percent.value, percent.value if self._began_s is None else 101.0
        least, most = self._range
        if percent.value >= most or percent.value > least + _CHARGED:
            self._range, self._began_s = (percent.value, percent.value), now_s
        else:
            self._range = min(least, percent.value), most
            self._began_s = now_s if self._began_s is None else self._began_s

    def close(self) -> None:
        """Close the sensors."""
        self._sensors.close()

    def _counted(self, so_far: PerDemand[float], more: float) -> PerDemand[float]:
        """Add to the count of the present demand."""
        return so_far._replace(**{self._demand: getattr(so_far, self._demand) + more})


def unrestrained(orders: Orders, limits: Limits) -> Orders:
    """Return the measured values with full rates: the owner has switched the governor off."""
    return replace(
        orders,
        mode="active",
        reason="mains" if orders.supply == "mains" else "normal",
        rates=PerDemand(limits.full, limits.full, limits.full),
        detector_px=limits.detector_px,
        threads=limits.threads,
        budget_w=None,
        wanted_end_s=None,
        forecast_end_s=None,
    )


def limits_of(config: Config, full: Rates) -> Limits:
    """Return the governor's limits."""
    power = config.power
    return Limits(
        full=full,
        floor_hz=min(1.0 / power.floor_look_s, full.detector_hz),
        critical_hz=min(1.0 / power.critical_look_s, full.detector_hz),
        reserve=power.reserve_percent / 100.0,
        suspend=power.suspend_percent / 100.0,
        hot_c=power.hot_c,
        overheated_c=power.overheated_c,
        suspend_c=power.suspend_c,
        hysteresis_s=power.hysteresis_s,
        detector_px=config.detector.max_side_px,
        threads=config.recognition.threads,
        cells=power.battery_cells,
    )


def first_knowledge(config: PowerConfig, reading: Reading) -> Learned:
    """Return the knowledge before any measurement: the board's prior, and the capacity from label or gauge."""
    if config.battery_wh > 0.0:
        full = (LABEL_SHARE * config.battery_wh, LABEL_SPREAD)
    elif reading.full_wh is not None:
        full = (reading.full_wh.value, _GAUGE_SPREAD)
    else:
        full = (_ANY_WH, _ANY_SPREAD)
    return from_prior(PRIORS[board_of(config)], *full)


def measured_charge(reading: Reading, cells: int) -> tuple[float, float] | None:
    """Return the charge, %, from gauge or voltage, and the rise that proves charging."""
    if reading.percent is not None:
        return reading.percent.value, _CHARGED
    if reading.voltage_v is None or not cells or reading.supply != "battery":
        return None
    cell_v = reading.voltage_v.value / cells
    if not CELL_V[0] <= cell_v <= CELL_V[1]:
        return None
    current_a = 0.0 if reading.current_a is None else reading.current_a.value
    return 100.0 * share_from_voltage(cell_v, current_a), _CHARGED_BY_VOLTS


def wanted_end_s(run_time: str, began_s: float | None, now_s: float, wall_s: float) -> float | None:
    """Return the wanted end, monotonic; None without a wish or before the charger was disconnected.

    `began_s`: when it was disconnected. `wall_s`: the Unix time of `now_s`. A clock time means the next one after that.
    """
    if began_s is None or not run_time:
        return None
    hours = re.fullmatch(r"([0-9.]+)h", run_time)
    if hours is not None:
        return began_s + 3600.0 * float(hours[1])
    hour, minute = map(int, run_time.removeprefix("until ").split(":"))
    began_wall_s = wall_s - (now_s - began_s)
    local = time.localtime(began_wall_s)
    day = (local.tm_year, local.tm_mon, local.tm_mday, hour, minute, 0, 0, 0, -1)
    end_wall_s = time.mktime(day)
    if end_wall_s <= began_wall_s:
        end_wall_s = time.mktime((*day[:2], day[2] + 1, *day[3:]))
    return now_s + end_wall_s - wall_s


def state_fields(orders: Orders, now_s: float) -> dict[str, Any]:
    """Return the fields of the vision state that the governor fills."""

    def wall(t_s: float | None) -> str | None:
        return None if t_s is None else rfc3339(round(1000 * (time.time() + min(t_s - now_s, 1e8))))

    def bounded(value: float | None, low: float, high: float) -> float | None:
        return None if value is None else min(max(value, low), high)

    return {
        "battery_percent": bounded(orders.percent, 0.0, 100.0),
        "temperature_c": bounded(orders.temperature_c, -60.0, 200.0),
        "supply": orders.supply,
        "power_w": bounded(orders.power_w, 0.0, 1000.0),
        "budget_w": bounded(orders.budget_w, 0.0, 1000.0),
        "wanted_end": wall(orders.wanted_end_s),
        "forecast_end": wall(orders.forecast_end_s),
    }


def board_of(config: PowerConfig) -> str:
    """Return the board whose costs are the prior."""
    return this_device() if config.board == "auto" else config.board


def _began_s(memory: Memory | None, run_time: str, now_s: float) -> float | None:
    """Return when the charger was disconnected; None if the wanted end is past."""
    if memory is None or memory.began_wall_s is None:
        return None
    wall_s = time.time()
    began_s = now_s - max(0.0, wall_s - memory.began_wall_s)
    end_s = wanted_end_s(run_time, began_s, now_s, wall_s)
    return None if end_s is not None and end_s <= now_s else began_s


def _remember(path: Path, battery: str) -> Memory | None:
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        _log.warning("%s: not used: %s", path, e)
        return None
    learned = memory.learned
    sizes = [learned.full_wh, *asdict(learned.costs).values(), *learned.spreads, learned.full_spread]
    sizes += [learned.resistance_ohm, learned.resistance_spread, *learned.curve_spread_v, learned.bend_spread]
    shifts = [*learned.curve_v, learned.bend]
    sane = all(0.0 <= size < 1e5 for size in sizes) and all(abs(shift) < 1.0 for shift in shifts)
    usable = memory.battery == battery and sane and learned.full_wh > 0.0
    return memory if usable else None
