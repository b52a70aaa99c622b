"""`/sys/class/hwmon`: current monitors and the undervoltage alarm of a Raspberry Pi; and what a monitor's sign means.

Everywhere behind these sources a positive current leaves the battery, and a negative one charges it.
"""

from __future__ import annotations

from pathlib import Path

from edge.power.battery import CELL_V
from edge.power.readings import Facts, Measured
from edge.power.sysfs import SYS, Entries, number, product, read_text
from edge.vocabulary import Supply

_MONITORS = frozenset({"ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina3221"})
# Less leaves a battery only while a charger carries the board: the smallest one draws 0.4 W, 12 mA of eight cells, and
# the monitors themselves are off by 10 mA at most, with a shunt of 0.01 Ω.
LEAST_LOAD_A = 0.010


class HwmonMonitor:
    """INA219, INA226, INA3221 and their kin. `turned`: the shunt is wired the other way round."""

    def __init__(self, cells: int, root: Path = SYS, *, turned: bool = False) -> None:
        self._entries = Entries(root, "class/hwmon/*")
        self._cells, self._sign = cells, -1.0 if turned else 1.0

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return the power that flows through the first monitor, and the battery's voltage where it sits there."""
        for path in self._entries.now(now_s):
            name = read_text(path / "name")
            if name is None:
                self._entries.look_again()
            elif name in _MONITORS:
                supply, facts = self._monitor(path, now_s)
                if "power_w" in facts or supply != "unknown":
                    return supply, facts
        return "unknown", {}

    def _monitor(self, path: Path, now_s: float) -> tuple[Supply, Facts]:
        channel = next((n for n in (1, 2, 3) if read_text(path / f"in{n}_label") == "VDD_IN"), 1)  # Jetson's input
        voltage = number(path / f"in{channel}_input", "V", 1e-3, now_s)
        current = number(path / f"curr{channel}_input", "A", self._sign * 1e-3, now_s)
        power = number(path / f"power{channel}_input", "W", 1e-6, now_s)
        return monitor_facts(voltage, current, power, self._cells)


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
    """Sort what a current monitor says: on a battery the sign of the current tells whether the device lives on it."""
    at_battery = voltage is not None and cells > 0 and CELL_V[0] <= voltage.value / cells <= CELL_V[1]
    supply: Supply = "unknown"
    if current is not None:
        if at_battery:
            supply = "battery" if current.value >= LEAST_LOAD_A else "mains"
        current = Measured(abs(current.value), "A", current.source, current.t_s)
    facts = {
        "voltage_v": voltage if at_battery else None,
        "current_a": current if at_battery else None,
        "power_w": None if supply == "mains" else power or product(voltage, current),
    }
    return supply, {name: value for name, value in facts.items() if value is not None}
