"""Power of a device: drain over a period, joules of each stage by switching stages on and off, run time of a day.

The sensors of `[power]` give power and charge once a second. Where they give nothing, the answer is "unknown" with the
reason, and only the processor time of each unit of work is reported. `phases.py` defines the phases, `estimates.py` the
intervals. Simulated days are in `tools/days`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bench import progress
from edge.bench.estimates import Estimate, Finding, as_json, lost_an_hour, mean, step_of
from edge.bench.phases import PHASES, SHORTEST_S, Bench, Play, Surroundings, Sweep, plan
from edge.cameras.camera import open_source
from edge.config import Config
from edge.errors import ConfigError
from edge.power.costs import PRIORS, Costs
from edge.power.demand import Day
from edge.power.readings import Measured, Reading
from edge.power.sensors import open_sensors
from edge.processes.assembly import build_pipeline, initial_rates
from edge.processes.gallery import LiveGallery
from edge.processes.power import board_of, first_knowledge, limits_of
from edge.records import Rates

_BASE, *_WORK = _UNITS = ("base", "frame", "look", "embedding")  # added by each phase but the last
_LOOKS_TO_DECIDE, _EMBEDDINGS_TO_DECIDE = 5.0, 3.0  # assumed for an encounter where none was measured
_NORMAL_975 = 1.96
_NO_SENSOR, _ON_CHARGER = "unknown: no sensor", "unknown: on the charger"
_NO_WORK = "unknown: a phase had no work of its own, measure longer"
_NO_CAPACITY = "unknown: set [power] battery_wh"
_CONFIRMED_S = 3.0  # the first reading of the supply is confirmed within this time


def measure(config: Config, seconds: float, around: Surroundings | None = None) -> dict[str, Any]:
    """Measure this device; return one JSON-ready object; raises EdgeError where the camera fails."""
    if seconds < SHORTEST_S:
        raise ConfigError(f"--seconds {seconds:g}: too short", f"give at least {SHORTEST_S:g}")
    if around is None:
        # files replace a camera: they repeat, at a camera's rate
        camera = msgspec.structs.replace(config.camera, loop=True, realtime=True)
        around = Surroundings(open_sensors(config.power), lambda: open_source(camera))
    bench = Bench(build_pipeline(config, LiveGallery(config)), initial_rates(config), around)
    with progress.bar("battery", plan(seconds)[0]) as advance:
        sweeps = bench.run(seconds, advance)
    return report(config, sweeps, bench.readings, around.sensors.rejected)


def report(config: Config, sweeps: Sequence[Sweep], readings: Sequence[Reading], rejected: int) -> dict[str, Any]:
    """Return the figures of these sweeps; `rejected`: number of sensor values that were rejected as implausible."""
    readings = _from_confirmed(readings)
    plays = sorted((play for sweep in sweeps for play in sweep.values()), key=lambda play: play.start_s)
    power = Power(sweeps, readings)
    costs = power.costs()
    return {
        "command": "battery",
        "seconds": round(plays[-1].start_s + plays[-1].played_s, 1),
        "supply": ", then ".join(supply for supply, _ in groupby(r.supply for r in readings)),
        "source": {"power": power.source, "charge": _source(readings, "percent") or _NO_SENSOR},
        "quality": {"power": _quality(readings, "power_w", "W"), "charge": _quality(readings, "percent", "%")},
        "values_not_believed": rejected,
        "drain_percent_per_hour": as_json(_drain(readings)),
        "drain_w": as_json(power.over(_mean_w)),
        "base_w": as_json(costs[_BASE]),
        "joules": {unit: as_json(costs[unit]) for unit in _WORK},
        "joules_per_encounter": _per_encounter(power, costs),
        "cpu_ms": _cpu_ms(sweeps),
        "power_w": {phase: as_json(power.of(phase)) for phase in PHASES},
        "run_time": _run_time(config, power, costs),
        "rows": [_row(phase, [play for play in plays if play.phase == phase]) for phase in PHASES],
        "plays": [{"start_s": round(play.start_s, 1), **_row(play.phase, [play])} for play in plays],
        "trace": [_traced(reading, readings[0].t_s) for reading in readings],
    }


class Power:
    """Power figures of the sweeps, or the reasons why they are unknown."""

    def __init__(self, sweeps: Sequence[Sweep], readings: Sequence[Reading]) -> None:
        self.sweeps, self.readings = sweeps, readings
        self._step_w = step_of([measured.value for measured in _measured(readings, "power_w")])

    @property
    def source(self) -> str:
        """The sensor of the power, or why it is unknown."""
        return _source(self.readings, "power_w") or self._unknown(0)

    def over(self, figure: Callable[[Sweep], float | None], rate_hz: float | None = None) -> Finding:
        """Return the mean of a figure over the sweeps that have it: a power, or a difference of two over a rate.

        Sweeps alternate in direction, so a phase may be played twice in a row. The errors of its power are then
        correlated; the errors of its difference to other phases are not.
        """
        found = [value for sweep in self.sweeps if (value := figure(sweep)) is not None]
        estimate = mean(found, paired=rate_hz is None)
        if estimate is None:
            return self._unknown(len(found))
        if self._step_w is None:
            return "unknown: the power never changed, its sensor is too coarse"
        return estimate.widened(self._step_w / (rate_hz or 1.0))  # each power is known to half a step

    def of(self, phase: str) -> Finding:
        """Return the power of a phase."""
        return self.over(lambda sweep: sweep[phase].power_w)

    def costs(self) -> dict[str, Finding]:
        """Return watts of the idle device and joules of each unit of work."""
        works: dict[str, Finding] = dict.fromkeys(_WORK, _NO_WORK)
        if _worked(self.sweeps):
            works = {unit: self._cost(i) for i, unit in enumerate(_WORK, 1)}
        return {_BASE: self.of(PHASES[0])} | works

    def _cost(self, unit: int) -> Finding:
        def in_sweep(sweep: Sweep) -> float | None:
            found = joules_of(sweep)
            return None if found is None else found[unit]

        return self.over(in_sweep, float(np.mean([_work_of(sweep)[unit, unit] for sweep in self.sweeps])))

    def _unknown(self, sweeps: int) -> str:
        measured = bool(_measured(self.readings, "power_w"))
        if any(reading.supply == "mains" and reading.power_w is None for reading in self.readings):
            return _ON_CHARGER + (" for a part of the time" if measured else "")
        return f"unknown: power was read in only {sweeps} of {len(self.sweeps)} sweeps" if measured else _NO_SENSOR


def joules_of(sweep: Sweep) -> list[float] | None:
    """Return base watts, and joules a frame, look and embedding in a sweep; None where they are unknown."""
    powers = [power for phase in PHASES[:-1] if (power := sweep[phase].power_w) is not None]
    return _solved(sweep, powers) if len(powers) == len(_UNITS) and _worked([sweep]) else None


def _solved(sweep: Sweep, spent: Sequence[float]) -> list[float]:
    """Return the costs of the units, solved from each phase's power = base + frames + looks + embeddings per second."""
    costs: list[float] = np.linalg.solve(_work_of(sweep), np.array(spent)).tolist()
    return costs


def _work_of(sweep: Sweep) -> NDArray[np.float64]:
    """Return (4, 4) float64: for each phase but the last, 1 and its frames, looks and embeddings a second."""
    return np.array([(1.0, *sweep[phase].rates_hz) for phase in PHASES[:-1]])


def _worked(sweeps: Sequence[Sweep]) -> bool:
    """Return whether every phase did the work that it adds to the one before it."""
    return all(_work_of(sweep).diagonal().all() for sweep in sweeps)


def _cpu_ms(sweeps: Sequence[Sweep]) -> dict[str, Mapping[str, Any] | str]:
    """Return the processor time of each unit of work."""
    if not _worked(sweeps):
        return dict.fromkeys(_WORK, _NO_WORK)
    seconds = [_solved(sweep, [sweep[phase].cpu_share for phase in PHASES[:-1]]) for sweep in sweeps]
    found = [mean(unit_s) for unit_s in zip(*seconds, strict=True)]
    return {unit: as_json(e.times(1000.0)) for unit, e in zip(_UNITS, found, strict=True) if e and unit != _BASE}


def _drain(readings: Sequence[Reading]) -> Finding:
    """Return the battery's loss an hour, in percent of a full charge."""
    charging = sum(reading.supply == "mains" for reading in readings)
    if charging:
        return _ON_CHARGER + (" for a part of the time" if charging < len(readings) else "")
    charges = [(reading.t_s, reading.percent.value) for reading in readings if reading.percent is not None]
    return lost_an_hour(charges) if charges else _NO_SENSOR


def _from_confirmed(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Return the readings without the first ones, in which the supply is not confirmed by a second reading yet."""
    first = next((i for i, reading in enumerate(readings) if reading.supply != "unknown"), 0)
    return readings[first:] if readings[first].t_s - readings[0].t_s < _CONFIRMED_S else readings


def _source(readings: Sequence[Reading], name: str) -> str:
    return ", ".join(sorted({measured.source for measured in _measured(readings, name)}))


def _quality(readings: Sequence[Reading], name: str, unit: str) -> str:
    values = [measured.value for measured in _measured(readings, name)]
    if not values:
        return "unknown: no reading"
    step = step_of(values)
    steps = "always the same value" if step is None else f"steps of {step:.3g} {unit}"
    return f"{len(values)} of {len(readings)} readings, {steps}"


def _measured(readings: Sequence[Reading], name: str) -> list[Measured]:
    return [measured for reading in readings if (measured := getattr(reading, name)) is not None]


def _mean_w(sweep: Sweep) -> float | None:
    """Return the mean power of a sweep, None where a phase was not measured."""
    powers = [play.power_w for play in sweep.values() if play.power_w is not None]
    return float(np.mean(powers)) if len(powers) == len(sweep) else None


def _above_idle_w(sweep: Sweep) -> float | None:
    idle_w, whole_w = sweep[PHASES[0]].power_w, sweep[PHASES[-1]].power_w
    return None if idle_w is None or whole_w is None else whole_w - idle_w


def _per_encounter(power: Power, costs: Mapping[str, Finding]) -> dict[str, Any] | str:
    """Return the energy of one recognised encounter: measured where there were some, else the sum of its parts."""
    whole = [sweep[PHASES[-1]] for sweep in power.sweeps]
    encounters = sum(play.encounters for play in whole)
    if encounters:
        above = power.over(_above_idle_w, 1.0)
        if isinstance(above, str):
            return above
        total, made_of = above.times(sum(play.played_s for play in whole) / encounters), f"{encounters} recognised"
    else:
        look, embedding = costs["look"], costs["embedding"]
        if isinstance(look, str):
            return look
        if isinstance(embedding, str):
            return embedding
        looks, embeddings = look.times(_LOOKS_TO_DECIDE), embedding.times(_EMBEDDINGS_TO_DECIDE)
        total = Estimate(looks.value + embeddings.value, math.hypot(looks.half_width, embeddings.half_width))
        made_of = "5 looks and 3 embeddings, nobody was recognised"
    return {**total.as_dict(), "from": made_of}


def _run_time(config: Config, power: Power, costs: Mapping[str, Finding]) -> dict[str, Any]:
    """Return how long a full charge lasts on an ordinary day, at full rates and at the floor."""
    board = board_of(config.power)
    prior = PRIORS[board]
    gauged = next((reading for reading in power.readings if reading.full_wh is not None), power.readings[0])
    capacity = first_knowledge(config.power, gauged)
    known = config.power.battery_wh > 0.0 or gauged.full_wh is not None
    limits = limits_of(config, initial_rates(config))
    usable_wh = capacity.full_wh * (1.0 - limits.reserve)

    def hours(rates: Rates) -> Mapping[str, Any] | str | float:
        drawn_w = power.over(
            lambda sweep: None if (found := joules_of(sweep)) is None else _day_w(Costs(*found), rates)
        )
        if not known:
            return _NO_CAPACITY
        if isinstance(drawn_w, str):
            return round(usable_wh / _day_w(prior.costs, rates), 2)
        uncertainty = math.hypot(drawn_w.half_width / drawn_w.value, _NORMAL_975 * capacity.full_spread)  # relative
        lasts_h = usable_wh / drawn_w.value
        return Estimate(lasts_h, lasts_h * uncertainty).as_dict()

    measured = all(isinstance(cost, Estimate) for cost in costs.values())
    return {
        "wanted": config.power.run_time or "as long as it lasts",
        "full_rates_h": hours(limits.full),
        "floor_h": hours(Rates(limits.floor_hz, limits.floor_hz, limits.floor_hz)),
        "battery_wh": round(capacity.full_wh, 2) if known else _NO_CAPACITY,
        "costs_from": "measured" if measured else f"prior of {board}: {prior.source}",
    }


def _day_w(costs: Costs, rates: Rates) -> float:
    """Return the mean power of the day that the governor expects at its first start."""
    day = Day()
    looks_hz = rates.detector_hz * sum(share * use for share, use in zip(day.shares, day.use, strict=True))
    embeddings_hz = rates.embeddings_hz * day.embed_use * (day.shares.meet + day.shares.follow)
    work_w = costs.capture_j * rates.capture_fps + costs.look_j * looks_hz + costs.embed_j * embeddings_hz
    return max(costs.base_w + work_w, 1e-6)


def _row(phase: str, plays: Sequence[Play]) -> dict[str, Any]:
    """Return the figures of a phase over all its plays."""
    watts = [watt for play in plays for watt in play.watts]
    return {
        "phase": phase,
        "seconds": round(sum(play.seconds for play in plays), 1),
        "cpu_s": round(sum(play.cpu_s for play in plays), 3),
        "frames": sum(play.frames for play in plays),
        "looks": sum(play.looks for play in plays),
        "embeddings": sum(play.embeddings for play in plays),
        "encounters": sum(play.encounters for play in plays),
        "power_w": round(float(np.mean(watts)), 4) if watts else None,
    }


def _traced(reading: Reading, first_s: float) -> dict[str, float | None]:
    found = {"power_w": reading.power_w, "percent": reading.percent, "temperature_c": reading.temperature_c}
    values = {name: None if value is None else round(value.value, 4) for name, value in found.items()}
    return {"t_s": round(reading.t_s - first_s, 1), **values}


def table(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a report's table: the phases."""
    return list(found["rows"])
