"""`/sys/class/hwmon`: current monitors and the undervoltage alarm of a Raspberry Pi; the sign of a monitor's current.

In all results of these sources a positive current discharges the battery, and a negative one charges it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge.power.gauge import cells_note, fits
from edge.power.notes import Note
from edge.power.readings import Facts, Measured
from edge.power.sysfs import SYS, Entries, above_zero, number, product, read_text
from edge.vocabulary import Supply

_MONITORS = frozenset({"ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina3221"})
_BATTERY = re.compile(r"bat|cell|pack", re.IGNORECASE)
_RAIL = re.compile(r"vdd|vcc|rail|\dv\d?|sys|usb|cpu|gpu|soc", re.IGNORECASE)  # of a channel's label
# A smaller current means that a charger powers the board: the smallest board draws 0.4 W, 12 mA from eight cells. The
# monitors have an error of at most 10 mA, with a shunt of 0.01 Ω.
LEAST_LOAD_A = 0.010


class HwmonMonitor:
    """INA219, INA226, INA3221 and similar chips. `turned`: the shunt is wired the other way round."""

    def __init__(self, cells: int, root: Path = SYS, *, turned: bool = False) -> None:
        self._entries = Entries(root, "class/hwmon/*")
        self._cells, self._sign = cells, -1.0 if turned else 1.0
        self.notes: tuple[Note, ...] = ()

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the values of the channel at the battery; without one, the power through the input or a channel."""
        channels = [channel for path in self._monitors(now_s) for channel in self._channels(path, now_s)]
        self.notes = ()
        if not channels:
            return "unknown", {}
        chosen = min(channels, key=lambda channel: channel.rank(self._cells))
        supply, facts = monitor_facts(chosen.voltage, chosen.current, chosen.power, self._cells)
        if chosen.voltage is not None and self._cells and not chosen.at_battery(self._cells):
            self.notes = (cells_note(chosen.voltage.value, self._cells, chosen.name),)
        return supply, facts

    def _monitors(self, now_s: float) -> list[Path]:
        names = [(path, read_text(path / "name")) for path in self._entries.now(now_s)]
        if any(name is None for _, name in names):
            self._entries.look_again()
        return [path for path, name in names if name in _MONITORS]

    def _channels(self, path: Path, now_s: float) -> list[_Channel]:
        """Return the channels with a voltage, a current or a power."""
        found = []
        for n in (1, 2, 3):
            voltage = number(path / f"in{n}_input", "V", 1e-3, now_s)
            current = number(path / f"curr{n}_input", "A", self._sign * 1e-3, now_s)
            power = number(path / f"power{n}_input", "W", 1e-6, now_s)
            if power is not None or (voltage is not None and current is not None):
                label = read_text(path / f"in{n}_label") or ""
                name = f"{path.name} ({read_text(path / 'name')}{f', {label}' if label else ''})"
                found.append(_Channel(name, label, voltage, current, power))
        return found


@dataclass(frozen=True, slots=True)
class _Channel:
    """One voltage and current of a monitor."""

    name: str
    label: str
    voltage: Measured | None
    current: Measured | None
    power: Measured | None

    def at_battery(self, cells: int) -> bool:
        rail = _RAIL.search(self.label) is not None and not _BATTERY.search(self.label)
        return self.voltage is not None and fits(self.voltage.value, cells) and not rail

    def rank(self, cells: int) -> tuple[bool, bool, bool, float]:
        """Return how far it is from the battery: its label, its voltage, the input of the board, the usual voltage."""
        at_battery = self.at_battery(cells)
        off_v = abs(self.voltage.value - 3.7 * cells) if self.voltage is not None and at_battery else 0.0
        return not at_battery, not _BATTERY.search(self.label), self.label != "VDD_IN", off_v


class PiUndervoltage:
    """The alarm of the kernel's `rpi_volt`."""

    def __init__(self, root: Path = SYS) -> None:
        self._entries = Entries(root, "class/hwmon/*")

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return whether the supply is too weak, where there is such an alarm."""
        for path in self._entries.now(now_s):
            if read_text(path / "name") == "rpi_volt":
                alarm = number(path / "in0_lcrit_alarm", "", 1.0, now_s)
                return "unknown", {} if alarm is None else {"undervoltage": alarm}
        return "unknown", {}


def monitor_facts(
    voltage: Measured | None, current: Measured | None, power: Measured | None, cells: int
) -> tuple[Supply, Facts]:
    """Return supply and facts of a current monitor: at a battery the sign of the current shows the supply."""
    at_battery = voltage is not None and fits(voltage.value, cells)
    supply: Supply = "unknown"
    if current is not None:
        if at_battery:
            supply = "battery" if current.value >= LEAST_LOAD_A else "mains"
        current = Measured(abs(current.value), "A", current.source, current.t_s)
    facts = {
        "voltage_v": voltage if at_battery else None,
        "current_a": current if at_battery else None,
        "power_w": None if supply == "mains" else above_zero(power) or above_zero(product(voltage, current)),
    }
    return supply, {name: value for name, value in facts.items() if value is not None}
