"""What a device draws: drain over a period, joules of each stage by switching stages on, and run time for a day.

Each phase of a measurement adds one stage: nothing, frames, looks, embeddings, and at last the whole pipeline. Power is
what the sensors of `[power]` say, once a second; where they say nothing, the answer is "unknown: no sensor", and the
processor time of each unit of work is what remains. `simulate` runs days of wearers (`edge/power/simulator.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from edge.clock import now_s
from edge.config import Config
from edge.errors import ConfigError
from edge.power import simulator
from edge.power.costs import PRIORS, Costs, this_device
from edge.power.days import as_rows, summary
from edge.power.demand import Day
from edge.power.readings import Reading
from edge.power.sensors import Sensors, open_sensors
from edge.processes.assembly import build_pipeline, initial_rates
from edge.processes.gallery import LiveGallery
from edge.processes.power import first_knowledge, limits_of
from edge.records import AlignedFace, Frame, Rates
from edge.vision.camera import FrameSource, open_source

_SAMPLE_S = 1.0
_BATCHES = 8  # means of so many stretches give the interval: readings a second apart are not independent
_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 1 to 9 degrees of freedom
_LOOKS_TO_DECIDE, _EMBEDDINGS_TO_DECIDE = 5.0, 3.0  # of an encounter, where none was seen to measure
_NO_SENSOR = "unknown: no sensor"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the half width of its 95 % interval."""

    value: float
    half_width: float

    def as_dict(self) -> dict[str, float]:
        """Return it JSON-ready."""
        return {"value": round(self.value, 5), "ci95": round(self.half_width, 5)}


@dataclass(slots=True)
class Phase:
    """What was done and read while some stages were on."""

    name: str
    seconds: float = 0.0
    cpu_s: float = 0.0
    frames: int = 0
    looks: int = 0
    embeddings: int = 0
    encounters: int = 0
    readings: list[Reading] = field(default_factory=list)

    @property
    def power_w(self) -> Estimate | None:
        """Mean power, None where nothing measured it."""
        return mean([r.power_w.value for r in self.readings if r.power_w is not None])

    def rate(self, count: int) -> float:
        """Return a count a second."""
        return count / max(self.seconds, 1e-9)


def mean(values: Sequence[float]) -> Estimate | None:
    """Return mean and interval of a series whose neighbours are alike, None for fewer than two values."""
    if len(values) < 2:
        return None
    batches = [float(np.mean(part)) for part in np.array_split(np.array(values), min(_BATCHES, len(values)))]
    spread = float(np.std(batches, ddof=1)) / math.sqrt(len(batches))
    return Estimate(float(np.mean(values)), _T_975[min(len(batches) - 1, len(_T_975)) - 1] * spread)


def slope(points: Sequence[tuple[float, float]]) -> Estimate | None:
    """Return the slope of (hours, value) points with its interval, None where it cannot be told."""
    if len(points) < 3 or points[-1][0] <= points[0][0]:
        return None
    x, y = np.array(points).T
    x, n = x - x.mean(), len(points)
    gradient = float(x @ y / (x @ x))
    rest = y - y.mean() - gradient * x
    error = math.sqrt(float(rest @ rest) / (n - 2) / float(x @ x))
    return Estimate(gradient, 2.0 * error)


def difference(upper: Estimate | None, lower: Estimate | None, per: float) -> Estimate | None:
    """Return (upper − lower) ÷ per with its interval."""
    if upper is None or lower is None or per <= 0.0:
        return None
    return Estimate((upper.value - lower.value) / per, math.hypot(upper.half_width, lower.half_width) / per)


def measure(config: Config, seconds: float, sensors: Sensors | None = None) -> dict[str, Any]:
    """Measure this device for so long; returns one JSON-ready object; raises EdgeError where the camera fails."""
    if seconds < 10.0:
        raise ConfigError(f"--seconds {seconds:g}: too short", "give at least 10")
    bench = _Bench(config, open_sensors(config.power) if sensors is None else sensors)
    phases = bench.run(seconds)
    return _report(config, phases, bench.sensors)


class _Bench:
    """The real stages, driven without the schedule's economies: each phase does its work at the configured rates."""

    def __init__(self, config: Config, sensors: Sensors) -> None:
        self._config, self.sensors = config, sensors
        self._rates = initial_rates(config)
        self._gallery = LiveGallery(config)
        self._pipeline = build_pipeline(config, self._gallery)
        shape = self._pipeline.embedder.contract.shape  # type: ignore[attr-defined]
        self._crop = AlignedFace(np.full(shape, 128, np.uint8))

    def run(self, seconds: float) -> list[Phase]:
        """Run every phase for its share of the time."""
        share = seconds / 5.0
        phases = [self._play("idle", share, lambda _phase, _frame: None, camera=False)]
        phases.append(self._play("capture", share, self._capture))
        phases.append(self._play("detect", share, self._detect))
        phases.append(self._play("embed", share, self._embed))
        phases.append(self._play("recognise", share, self._recognise))
        return phases

    def _play(self, name: str, seconds: float, work: Callable[[Phase, Frame], None], *, camera: bool = True) -> Phase:
        phase = Phase(name)
        self._next_look_s = self._next_embed_s = float("-inf")
        begin_s, begin_cpu_s, sampled_s = time.monotonic(), time.process_time(), float("-inf")
        source = open_source(self._config.camera) if camera else None
        try:
            while (passed_s := time.monotonic() - begin_s) < seconds:
                if passed_s - sampled_s >= _SAMPLE_S:
                    sampled_s = passed_s
                    phase.readings.append(self.sensors.read(now_s()))
                source = self._step(phase, source, work)
        finally:
            if source is not None:
                source.close()
        phase.seconds, phase.cpu_s = time.monotonic() - begin_s, time.process_time() - begin_cpu_s
        return phase

    def _step(
        self, phase: Phase, source: FrameSource | None, work: Callable[[Phase, Frame], None]
    ) -> FrameSource | None:
        if source is None:
            time.sleep(0.1)
            return None
        frame = source.read()
        if frame is None:  # the file has ended: begin again
            source.close()
            return open_source(self._config.camera)
        phase.frames += 1
        work(phase, frame)
        return source

    def _capture(self, _phase: Phase, frame: Frame) -> None:
        self._pipeline.motion_gate.observe(frame)

    def _detect(self, phase: Phase, frame: Frame) -> None:
        self._capture(phase, frame)
        if frame.t_s >= self._next_look_s:
            self._next_look_s = frame.t_s + 0.75 / self._rates.detector_hz
            phase.looks += 1
            self._pipeline.detector.detect(frame)

    def _embed(self, phase: Phase, frame: Frame) -> None:
        self._detect(phase, frame)
        if frame.t_s >= self._next_embed_s:
            self._next_embed_s = frame.t_s + 0.9 / self._rates.embeddings_hz
            phase.embeddings += 1
            self._pipeline.embedder.embed(self._crop)

    def _recognise(self, phase: Phase, frame: Frame) -> None:
        before = self._pipeline.counters.looks, self._pipeline.counters.embeddings
        decisions = self._pipeline.process(frame)
        phase.looks += self._pipeline.counters.looks - before[0]
        phase.embeddings += self._pipeline.counters.embeddings - before[1]
        phase.encounters += sum(decision.event_type != "end" for decision in decisions)


def _report(config: Config, phases: Sequence[Phase], sensors: Sensors) -> dict[str, Any]:
    idle, capture, detect, embed, whole = phases
    costs = {
        "base_w": idle.power_w,
        "capture_j": difference(capture.power_w, idle.power_w, capture.rate(capture.frames)),
        "look_j": difference(detect.power_w, capture.power_w, detect.rate(detect.looks)),
        "embed_j": difference(embed.power_w, detect.power_w, embed.rate(embed.embeddings)),
    }
    readings = [reading for phase in phases for reading in phase.readings]
    first_s = readings[0].t_s
    drain = slope([((r.t_s - first_s) / 3600.0, r.percent.value) for r in readings if r.percent is not None])
    return {
        "command": "battery",
        "seconds": round(sum(phase.seconds for phase in phases), 1),
        "source": _source(readings),
        "quality": _quality(readings, sensors),
        "supply": readings[-1].supply,
        "joules": {name: None if found is None else found.as_dict() for name, found in costs.items()},
        "joules_per_encounter": _per_encounter(whole, idle, costs),
        "cpu_ms": {
            "frame": _cpu_ms(capture, idle, capture.frames),
            "look": _cpu_ms(detect, capture, detect.looks),
            "embedding": _cpu_ms(embed, detect, embed.embeddings),
        },
        "drain_percent_per_hour": None if drain is None else Estimate(-drain.value, drain.half_width).as_dict(),
        "power_w": {phase.name: None if phase.power_w is None else phase.power_w.as_dict() for phase in phases},
        "run_time": _run_time(config, costs, readings),
        "rows": [
            {
                "phase": phase.name,
                "seconds": round(phase.seconds, 1),
                "cpu_s": round(phase.cpu_s, 3),
                "frames": phase.frames,
                "looks": phase.looks,
                "embeddings": phase.embeddings,
                "encounters": phase.encounters,
                "power_w": None if phase.power_w is None else round(phase.power_w.value, 4),
            }
            for phase in phases
        ],
        "trace": [_traced(reading, first_s) for reading in readings],
    }


def _source(readings: Sequence[Reading]) -> str:
    return next((r.power_w.source for r in readings if r.power_w is not None), _NO_SENSOR)


def _quality(readings: Sequence[Reading], sensors: Sensors) -> str:
    known = [r.power_w.value for r in readings if r.power_w is not None]
    if not known:
        return _NO_SENSOR
    steps = sorted({abs(b - a) for a, b in pairwise(known)} - {0.0})
    finest = f"smallest step {steps[0]:.4f} W" if steps else "the reading never changed: it may be too coarse"
    return f"{len(known)} of {len(readings)} readings, {sensors.rejected} values not believed, {finest}"


def _cpu_ms(phase: Phase, without: Phase, count: int) -> float | None:
    """Return the processor time of one unit: what the phase used beyond the one before it."""
    if count == 0:
        return None
    return round(1000.0 * (phase.cpu_s - without.cpu_s * phase.seconds / without.seconds) / count, 3)


def _per_encounter(whole: Phase, idle: Phase, costs: Mapping[str, Estimate | None]) -> dict[str, Any] | str:
    """Return the energy of one recognised encounter: seen where there were some, else added up from its parts."""
    above = difference(whole.power_w, idle.power_w, 1.0)
    if above is None:
        return _NO_SENSOR
    if whole.encounters:
        scale = whole.seconds / whole.encounters
        return {**Estimate(above.value * scale, above.half_width * scale).as_dict(), "from": "encounters seen"}
    look, embed = costs["look_j"], costs["embed_j"]
    if look is None or embed is None:
        return _NO_SENSOR
    half = math.hypot(_LOOKS_TO_DECIDE * look.half_width, _EMBEDDINGS_TO_DECIDE * embed.half_width)
    total = Estimate(_LOOKS_TO_DECIDE * look.value + _EMBEDDINGS_TO_DECIDE * embed.value, half)
    return {**total.as_dict(), "from": "5 looks and 3 embeddings: no encounter was seen"}


def _run_time(config: Config, costs: Mapping[str, Estimate | None], readings: Sequence[Reading]) -> dict[str, Any]:
    """Return how long a full charge lasts on an ordinary day, at full rates and at the floor."""
    board = this_device() if config.power.device == "auto" else config.power.device
    prior = PRIORS[board].costs
    told = {name: found for name, found in costs.items() if found is not None}
    used = Costs(**{name: max(0.0, told[name].value) if name in told else getattr(prior, name) for name in costs})
    full_wh = first_knowledge(config.power, readings[0]).full_wh
    known = config.power.battery_wh > 0.0 or readings[0].full_wh is not None
    limits = limits_of(config, initial_rates(config))
    usable_wh = full_wh * (1.0 - limits.reserve)
    floor = Rates(limits.floor_hz, limits.floor_hz, limits.floor_hz)
    return {
        "wanted": config.power.run_time,
        "full_rates_h": round(usable_wh / _day_w(used, limits.full), 2) if known else None,
        "floor_h": round(usable_wh / _day_w(used, floor), 2) if known else None,
        "battery_wh": round(full_wh, 2) if known else "unknown: set [power] battery_wh",
        "costs_from": "measured" if len(told) == len(costs) else f"prior of {board}: {PRIORS[board].source}",
    }


def _day_w(costs: Costs, rates: Rates) -> float:
    """Return the mean power of the day that the governor expects before it has seen one."""
    day = Day()
    looks_hz = rates.detector_hz * sum(share * use for share, use in zip(day.shares, day.use, strict=True))
    embeddings_hz = rates.embeddings_hz * day.embed_use * (day.shares[1] + day.shares[2])
    work_w = costs.capture_j * rates.capture_fps + costs.look_j * looks_hz + costs.embed_j * embeddings_hz
    return max(costs.base_w + work_w, 1e-6)


def _traced(reading: Reading, first_s: float) -> dict[str, float | None]:
    found = {"power_w": reading.power_w, "percent": reading.percent, "temperature_c": reading.temperature_c}
    values = {name: None if value is None else round(value.value, 4) for name, value in found.items()}
    return {"t_s": round(reading.t_s - first_s, 1), **values}


def simulate(days: int, seed: int, per_wearer: int) -> dict[str, Any]:
    """Run seeded days of wearers; returns the figures, each day, and one day step by step."""
    begin_s = time.monotonic()
    results = simulator.simulate(days, seed, per_wearer)
    return {
        "command": "battery",
        **summary(results, time.monotonic() - begin_s, seed),
        "rows": as_rows(results),
        "day": simulator.example_day(seed),
    }


def table(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a report's table: phases, or the first days."""
    rows: Sequence[Mapping[str, Any]] = found["rows"]
    return rows[:100]
