"""Battery, heat and throttling from the kernel's files. What cannot be read is left out, never guessed.

Each source is asked once a second and answers with what it has; where two know the same quantity, the earlier one in
the list is believed. Files are looked up anew when one vanishes, and every `_LOOKUP_S` for those that appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge.config import PowerConfig
from edge.errors import ConfigError
from edge.power.plausible import Plausibility
from edge.power.readings import QUANTITIES, Measured, Reading, Supply

_LOOKUP_S = 10.0
_SYS = Path("/sys")
_CELL_V = (2.6, 4.4)  # between what the voltage of one lithium cell can be
_ON_BATTERY, _CHARGING = frozenset({"Discharging"}), frozenset({"Charging", "Full", "Not charging"})
_MONITORS = frozenset({"ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina3221"})
_PI_UNDERVOLTAGE, _PI_HELD_BACK = 0x1, 0xE  # live bits of get_throttled: capped, throttled, soft limit

Facts = dict[str, Measured]


class Source(Protocol):
    """One place that knows something of power."""

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return what is known now; nothing where nothing can be read."""


class Sensors:
    """All sources of a device behind one plausibility check."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._plausible = Plausibility()

    def read(self, now_s: float) -> Reading:
        """Ask every source once."""
        facts: Facts = {}
        supply: Supply = "unknown"
        for source in self._sources:
            told, known = source.sample(now_s)
            supply = told if supply == "unknown" else supply
            facts = known | facts
        return self._plausible.check(
            Reading(now_s, supply, **{name: facts[name] for name in QUANTITIES if name in facts})
        )

    @property
    def rejected(self) -> int:
        """How many values were not believed."""
        return self._plausible.rejected


def open_sensors(config: PowerConfig) -> Sensors:
    """Return the sensors that `[power] sensor` names; raises DependencyError or SensorError."""
    heat: list[Source] = [ThermalZones(), PiFirmware(), CpuFrequency()]
    kind, _, rest = config.sensor.partition(":")
    if kind == "none":
        return Sensors(heat)
    if kind == "auto":
        return Sensors([*heat, HwmonMonitor(config.battery_cells), KernelBattery()])
    if kind == "serial":
        from edge.power.serial_gauge import open_gauge  # noqa: PLC0415 - pyserial is an optional extra

        return Sensors([*heat, open_gauge(rest)])
    if kind == "i2c":
        from edge.power.ina import open_monitor  # noqa: PLC0415 - only where it is asked for

        bus, address, chip = rest.split(":")
        return Sensors([*heat, open_monitor(int(bus), int(address, 16), chip, config.shunt_ohm, config.battery_cells)])
    raise ConfigError(f"[power] sensor = {config.sensor!r}: not known", "config/edge.toml lists the choices")


class _Folder:
    """A folder of /sys/class whose entries come and go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Path] = []
        self._looked_s = float("-inf")

    def entries(self, now_s: float) -> list[Path]:
        """Return what is there, sorted by name."""
        if now_s - self._looked_s >= _LOOKUP_S:
            self._looked_s = now_s
            try:
                self._entries = sorted(self._path.iterdir())
            except OSError:
                self._entries = []
        return self._entries

    def look_again(self) -> None:
        """Forget what was there."""
        self._looked_s = float("-inf")


def read_text(path: Path) -> str | None:
    """Return the text of a kernel file, None where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, unit: str, scale: float, now_s: float) -> Measured | None:
    text = read_text(path)
    try:
        return None if text is None else Measured(float(text) * scale, unit, str(path), now_s)
    except ValueError:
        return None


class KernelBattery:
    """`/sys/class/power_supply`: the first battery of the system, and whether a charger is connected."""

    def __init__(self, root: Path = _SYS) -> None:
        self._folder = _Folder(root / "class" / "power_supply")

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return charge, voltage, current and power, whichever the driver gives."""
        supply: Supply = "unknown"
        facts: Facts = {}
        plugged = False
        for path in self._folder.entries(now_s):
            kind = read_text(path / "type")
            if kind is None:
                self._folder.look_again()
            elif kind != "Battery":
                plugged |= read_text(path / "online") == "1"
            elif not facts and supply == "unknown" and read_text(path / "scope") != "Device":  # a mouse has one too
                supply, facts = self._battery(path, now_s)
        if supply == "unknown" and plugged:
            supply = "mains"
        return supply, facts

    def _battery(self, path: Path, now_s: float) -> tuple[Supply, Facts]:
        status = read_text(path / "status")
        supply: Supply = "battery" if status in _ON_BATTERY else "mains" if status in _CHARGING else "unknown"
        if read_text(path / "present") == "0":
            return supply, {}
        voltage = _number(path / "voltage_now", "V", 1e-6, now_s)
        current = _number(path / "current_now", "A", 1e-6, now_s)
        if current is not None:  # drivers do not agree on the sign; `status` says which way it flows
            current = Measured(abs(current.value), "A", current.source, now_s)
        found = {
            "percent": self._share(path, now_s) or _number(path / "capacity", "%", 1.0, now_s),
            "full_wh": self._full(path, voltage, now_s),
            "voltage_v": voltage,
            "current_a": current,
            "power_w": _number(path / "power_now", "W", 1e-6, now_s) or _product(voltage, current),
        }
        if supply == "mains":
            found["power_w"] = None  # what flows into the battery is not what the device draws
        return supply, {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def _share(path: Path, now_s: float) -> Measured | None:
        """Return the charge in %, finer than `capacity`, from what is left and what fits in."""
        for kind in ("energy", "charge"):
            left = _number(path / f"{kind}_now", "", 1.0, now_s)
            full = _number(path / f"{kind}_full", "", 1.0, now_s)
            if left is not None and full is not None and full.value > 0:
                return Measured(100.0 * left.value / full.value, "%", left.source, now_s)
        return None

    @staticmethod
    def _full(path: Path, voltage: Measured | None, now_s: float) -> Measured | None:
        energy = _number(path / "energy_full", "Wh", 1e-6, now_s)
        if energy is not None:
            return energy
        charge = _number(path / "charge_full", "Ah", 1e-6, now_s)
        nominal = _number(path / "voltage_min_design", "V", 1e-6, now_s)
        if charge is None or voltage is None:
            return None
        cells = max(1, round(voltage.value / 3.8))
        volts = 3.75 * cells if nominal is None or nominal.value < 3.5 * cells else nominal.value
        return Measured(charge.value * volts, "Wh", charge.source, now_s)


class HwmonMonitor:
    """`/sys/class/hwmon`: INA219, INA226, INA3221 and their kin, and the undervoltage alarm of a Raspberry Pi."""

    def __init__(self, cells: int, root: Path = _SYS) -> None:
        self._folder = _Folder(root / "class" / "hwmon")
        self._cells = cells

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the power that flows through the first monitor, and the battery's voltage where it sits there."""
        supply: Supply = "unknown"
        facts: Facts = {}
        for path in self._folder.entries(now_s):
            name = read_text(path / "name")
            if name is None:
                self._folder.look_again()
            elif name == "rpi_volt":
                alarm = _number(path / "in0_lcrit_alarm", "", 1.0, now_s)
                facts |= {} if alarm is None else {"undervoltage": alarm}
            elif name in _MONITORS and "power_w" not in facts:
                supply, found = self._monitor(path, now_s)
                facts |= found
        return supply, facts

    def _monitor(self, path: Path, now_s: float) -> tuple[Supply, Facts]:
        channel = next((n for n in (1, 2, 3) if read_text(path / f"in{n}_label") == "VDD_IN"), 1)  # Jetson's input
        voltage = _number(path / f"in{channel}_input", "V", 1e-3, now_s)
        current = _number(path / f"curr{channel}_input", "A", 1e-3, now_s)
        power = _number(path / f"power{channel}_input", "W", 1e-6, now_s)
        return monitor_facts(voltage, current, power, self._cells)


def monitor_facts(
    voltage: Measured | None, current: Measured | None, power: Measured | None, cells: int
) -> tuple[Supply, Facts]:
    """Sort what a current monitor says: on a battery the sign of the current tells whether it is charged."""
    at_battery = voltage is not None and cells > 0 and _CELL_V[0] <= voltage.value / cells <= _CELL_V[1]
    supply: Supply = "unknown"
    if at_battery and current is not None:
        supply = "mains" if current.value < 0 else "battery"
        current = Measured(abs(current.value), "A", current.source, current.t_s)
    facts = {
        "voltage_v": voltage if at_battery else None,
        "current_a": current if at_battery else None,
        "power_w": None if supply == "mains" else power or _product(voltage, current),
    }
    return supply, {name: value for name, value in facts.items() if value is not None}


def _product(voltage: Measured | None, current: Measured | None) -> Measured | None:
    if voltage is None or current is None:
        return None
    return Measured(voltage.value * current.value, "W", f"{voltage.source} × {current.source}", voltage.t_s)


class ThermalZones:
    """`/sys/class/thermal`: the hottest zone."""

    def __init__(self, root: Path = _SYS) -> None:
        self._folder = _Folder(root / "class" / "thermal")

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the highest temperature that is one."""
        zones = [path for path in self._folder.entries(now_s) if path.name.startswith("thermal_zone")]
        found = [_number(path / "temp", "°C", 1e-3, now_s) for path in zones]
        if None in found:
            self._folder.look_again()
        real = [zone for zone in found if zone is not None and -40.0 <= zone.value <= 150.0]  # unused ones say −256
        return "unknown", {"temperature_c": max(real, key=lambda zone: zone.value)} if real else {}


class PiFirmware:
    """The Raspberry Pi firmware's `get_throttled`: whether it holds the processor back now, and why."""

    def __init__(self, root: Path = _SYS) -> None:
        self._path = root / "devices" / "platform" / "soc" / "soc:firmware" / "get_throttled"

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the live bits; those that say what has ever happened are no reason to act."""
        text = read_text(self._path)
        try:
            bits = None if text is None else int(text, 16)
        except ValueError:
            bits = None
        if bits is None:
            return "unknown", {}
        source = str(self._path)
        return "unknown", {
            "undervoltage": Measured(float(bool(bits & _PI_UNDERVOLTAGE)), "", source, now_s),
            "throttled": Measured(float(bool(bits & _PI_HELD_BACK)), "", source, now_s),
        }


class CpuFrequency:
    """cpufreq: the clock now, and whether its upper limit has been lowered, as cooling does."""

    def __init__(self, root: Path = _SYS) -> None:
        self._folder = root / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return clock and throttling where the kernel has cpufreq."""
        clock = _number(self._folder / "scaling_cur_freq", "MHz", 1e-3, now_s)
        if clock is None:
            return "unknown", {}
        facts: Facts = {"cpu_mhz": clock}
        limit = _number(self._folder / "scaling_max_freq", "MHz", 1e-3, now_s)
        most = _number(self._folder / "cpuinfo_max_freq", "MHz", 1e-3, now_s)
        if limit is not None and most is not None:
            facts["throttled"] = Measured(float(limit.value < 0.99 * most.value), "", limit.source, now_s)
        return "unknown", facts
