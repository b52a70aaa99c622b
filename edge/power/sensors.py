"""Battery, heat and throttling from the kernel's files. A value that cannot be read is left out, never guessed.

Each source is read once a second. Where two sources give the same quantity, the earlier one in the list counts. A
source that cannot be opened is tried again with the next reading.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge.config import PowerConfig
from edge.errors import ConfigError, SensorError
from edge.power.hwmon import HwmonMonitor, PiUndervoltage
from edge.power.kernel_battery import KernelBattery, KernelCharger
from edge.power.notes import Note, Noting
from edge.power.plausible import Plausibility
from edge.power.readings import RANGES, Facts, Measured, Reading
from edge.power.sysfs import SYS, Entries, number, read_text
from edge.power.zones import ThermalZones
from edge.vocabulary import PI_THROTTLED, PI_THROTTLED_BITS, Supply

_log = logging.getLogger(__name__)

_PI_UNDERVOLTAGE = 0x1
_PI_HELD_BACK = sum(PI_THROTTLED_BITS) - _PI_UNDERVOLTAGE


class Source(Protocol):
    """One source of readings."""

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the present values; none where nothing can be read.

        Raises SensorError where the owner can correct it; the next call tries again.
        """


@runtime_checkable
class Held(Protocol):
    """A source that holds something open between samples: a port, a bus."""

    def close(self) -> None:
        """Close it."""


class Sensors:
    """All sources of a device behind one plausibility check."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._plausible = Plausibility()
        self._said: set[str] = set()

    def read(self, now_s: float) -> Reading:
        """Read every source once. A fault of a source is logged once, and its values stay unknown."""
        facts: Facts = {}
        supply: Supply = "unknown"
        for source in self._sources:
            try:
                given, known = source.sample(now_s)
            except SensorError as e:
                self._say(logging.WARNING, f"unknown until it can be read: {e}")
                continue
            supply = given if supply == "unknown" else supply
            if (supply, given) == ("mains", "battery"):  # the source's load current charges the battery
                known = {name: fact for name, fact in known.items() if name != "power_w"}
            facts = known | facts
        for note in self.notes:
            self._say(logging.WARNING if note.remedy else logging.INFO, str(note))
        return self._plausible.check(Reading(now_s, supply, **{name: facts[name] for name in RANGES if name in facts}))

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes of the sources on values that they reject or replace."""
        return tuple(note for source in self._sources if isinstance(source, Noting) for note in source.notes)

    def _say(self, level: int, what: str) -> None:
        key = re.sub(r"-?\d+\.\d+ V", "V", what)  # another voltage is the same note
        if key not in self._said:
            self._said.add(key)
            _log.log(level, "%s", what)

    def close(self) -> None:
        """Close the sources, so that they can be opened again; nothing is read afterwards."""
        for source in self._sources:
            if isinstance(source, Held):
                source.close()

    @property
    def rejected(self) -> int:
        """Number of values that were rejected as implausible."""
        return self._plausible.rejected


def open_sensors(config: PowerConfig) -> Sensors:
    """Return the sensors that `[power] sensor` names; raises DependencyError or ConfigError."""
    heat: list[Source] = [ThermalZones(), PiFirmware(), PiUndervoltage(), CpuFrequency()]
    kind, _, rest = config.sensor.partition(":")
    if kind == "none":
        return Sensors(heat)
    if kind == "auto":
        monitor = HwmonMonitor(config.battery_cells, turned=config.shunt_ohm < 0.0)
        return Sensors([*heat, KernelBattery(), monitor, KernelCharger()])
    if kind == "serial":
        from edge.power.serial_gauge import open_gauge  # noqa: PLC0415 - pyserial is an optional extra

        return Sensors([*heat, open_gauge(rest)])
    if kind == "i2c":
        from edge.power.ina import open_monitor  # noqa: PLC0415 - only where it is asked for

        bus, address, chip = rest.split(":")
        return Sensors([*heat, open_monitor(int(bus), int(address, 16), chip, config.shunt_ohm, config.battery_cells)])
    raise ConfigError(f"[power] sensor = {config.sensor!r}: not known", "config/edge.toml lists the choices")


class PiFirmware:
    """The Raspberry Pi firmware's `get_throttled`: whether it limits the processor now, and why."""

    def __init__(self, root: Path = SYS) -> None:
        self._files = Entries(root, PI_THROTTLED)

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the live bits; the bits of past events are ignored."""
        for path in self._files.now(now_s):
            try:
                bits = int(read_text(path) or "", 16)
            except ValueError:
                continue
            return "unknown", {
                "undervoltage": Measured(float(bool(bits & _PI_UNDERVOLTAGE)), "", str(path), now_s),
                "throttled": Measured(float(bool(bits & _PI_HELD_BACK)), "", str(path), now_s),
            }
        return "unknown", {}


class CpuFrequency:
    """The processor's clock, and whether cooling limits it.

    The kernel's cooling devices show it. Without one for the processor, its upper limit is compared with the highest
    one so far: a limit from before the start is the owner's choice, or the board's power mode.
    """

    def __init__(self, root: Path = SYS) -> None:
        self._coolers = Entries(root, "class/thermal/cooling_device*")
        self._folder = root / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"
        self._usual_mhz = 0.0

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return clock and throttling, as far as the kernel gives them."""
        clock = number(self._folder / "scaling_cur_freq", "MHz", 1e-3, now_s)
        throttled = self._cooled(now_s) or self._limited(now_s)
        found = {"cpu_mhz": clock, "throttled": throttled}
        return "unknown", {name: value for name, value in found.items() if value is not None}

    def _cooled(self, now_s: float) -> Measured | None:
        states = [
            number(path / "cur_state", "", 1.0, now_s)
            for path in self._coolers.now(now_s)
            if _cools_the_processor(read_text(path / "type") or "")
        ]
        known = [state for state in states if state is not None]
        if not known:
            return None
        most = max(known, key=lambda state: state.value)
        return Measured(float(most.value > 0.0), "", most.source, now_s)

    def _limited(self, now_s: float) -> Measured | None:
        limit = number(self._folder / "scaling_max_freq", "MHz", 1e-3, now_s)
        if limit is None:
            return None
        self._usual_mhz = max(self._usual_mhz, limit.value)
        return Measured(float(limit.value < 0.99 * self._usual_mhz), "", limit.source, now_s)


def _cools_the_processor(kind: str) -> bool:
    """Whether a cooling device is a processor's: `cpufreq-cpu0`, older `thermal-cpufreq-0`, `Processor` of ACPI."""
    return "cpufreq" in kind or kind == "Processor"
