"""`/sys/class/power_supply`: the batteries of the system together, and whether a charger feeds it.

Drivers leave files out, round values, and update them at different times. A file with a nonsensical value loses this
value and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge.power.gauge import judge
from edge.power.notes import Note
from edge.power.readings import Facts, Measured
from edge.power.sysfs import SYS, Entries, above_zero, number, product, read_text
from edge.vocabulary import Supply

_BATTERIES = frozenset({"Battery", "UPS"})
_OVERFULL = 1.1  # a full battery may report up to 10 % above its learned capacity
# Names that the kernel's drivers give the batteries of mice, keyboards, pens and game pads (drivers/hid), and words of
# models and makers.
_PERIPHERAL = re.compile(
    r"^hid|hidpp|wacom|sony_controller|ps-controller|nintendo|joycon|steam[-_]?controller|xpad|gip|wiimote|apple_mfi"
    r"|magic ?(mouse|trackpad|keyboard)|mouse|keyboard|headset|headphone|earbud|game ?pad|joystick|stylus"
    r"|track(pad|ball)|touchpad|dual(shock|sense)|xbox|logitech|steelseries|corsair|razer",
    re.IGNORECASE,
)
_PERIPHERAL_BUS = re.compile(
    r"/(0003|0005):[0-9A-F]{4}:[0-9A-F]{4}\.|/input/|/bluetooth/"
)  # HID over USB and Bluetooth
_PATTERN = "class/power_supply/*"


class KernelBattery:
    """All batteries of the system as one. A mouse's battery is left out, with or without a hint of its driver."""

    def __init__(self, root: Path = SYS) -> None:
        self._entries = Entries(root, _PATTERN)
        self.notes: tuple[Note, ...] = ()

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return charge, voltage, current and power, as far as the drivers give them."""
        packs: list[_Pack] = []
        plugged: list[bool] = []
        notes: list[Note] = []
        for path, kind in _of_the_system(self._entries, now_s):
            if kind not in _BATTERIES:
                plugged += _plugged(path)
            elif read_text(path / "present") == "0":
                continue
            elif _plugged_in(path):
                notes.append(Note("foreign", f"{path.name} is the battery of something plugged in, and is left out"))
            else:
                status = read_text(path / "status") or ""
                facts, note = judge(_pack(path, now_s, charging=status == "Charging"), path.name)
                notes += [] if note is None else [note]
                if facts or note is None:
                    packs.append(_Pack(path.name, status, facts))
        packs, left_out = _feeding(packs)
        self.notes = (*notes, *left_out)
        supply = _supply([pack.status for pack in packs], plugged)
        facts = packs[0].facts if len(packs) == 1 else _together([pack.facts for pack in packs])
        if supply == "mains":
            facts.pop("power_w", None)
        return supply, facts


class _Pack(NamedTuple):
    """One battery."""

    name: str
    status: str
    facts: Facts


class KernelCharger:
    """A charger where no battery gives the supply: the last source of it."""

    def __init__(self, root: Path = SYS) -> None:
        self._entries = Entries(root, _PATTERN)

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        """Return `mains` where one is online."""
        chargers = [path for path, kind in _of_the_system(self._entries, now_s) if kind not in _BATTERIES]
        return "mains" if any(any(_plugged(path)) for path in chargers) else "unknown", {}


def _of_the_system(entries: Entries, now_s: float) -> list[tuple[Path, str]]:
    """Return each power supply of the system with its type."""
    found = [(path, read_text(path / "type")) for path in entries.now(now_s)]
    if any(kind is None for _, kind in found):
        entries.look_again()
    return [(path, kind) for path, kind in found if kind is not None and read_text(path / "scope") != "Device"]


def _plugged_in(path: Path) -> bool:
    """Whether it is a mouse's battery, where its driver does not give the scope: by names and by its bus."""
    words = [path.name, *(read_text(path / name) or "" for name in ("model_name", "manufacturer"))]
    return any(map(_PERIPHERAL.search, words)) or _PERIPHERAL_BUS.search(os.path.realpath(path)) is not None


def _feeding(packs: list[_Pack]) -> tuple[list[_Pack], list[Note]]:
    """Leave out a battery with only a charge beside a measured one: it does not power the device."""
    measured = [pack for pack in packs if pack.facts.keys() & {"voltage_v", "full_wh", "power_w"}]
    kept = measured or packs
    what = "{} knows its charge alone, beside a battery that is measured, and is left out"
    return kept, [Note("foreign", what.format(pack.name)) for pack in packs if pack not in kept]


def _plugged(path: Path) -> list[bool]:
    """Return whether a charger is connected, None where it is unknown; 2 is a programmable USB supply."""
    online = read_text(path / "online")
    return [online != "0"] if online else []


def _supply(statuses: Sequence[str], plugged: Sequence[bool]) -> Supply:
    """Return the supply: one battery that is discharged decides it, a full one only together with its charger."""
    if "Discharging" in statuses:
        return "battery"
    if "Charging" in statuses:
        return "mains"
    if "Full" in statuses or "Not charging" in statuses:
        return "mains" if any(plugged) or not plugged else "battery"
    return "unknown"


def _together(packs: Sequence[Facts]) -> Facts:
    """Return several batteries as one: energies and powers are summed; a voltage of all of them does not exist."""
    charged = [pack for pack in packs if "percent" in pack]
    if not charged:
        return {}
    sizes = [pack["full_wh"].value for pack in charged if "full_wh" in pack]
    known = len(sizes) == len(charged)
    weights = sizes if known else [1.0] * len(charged)  # unknown sizes count as equal
    percent = sum(w * pack["percent"].value for w, pack in zip(weights, charged, strict=True)) / sum(weights)
    facts = {"percent": _summed(percent, [pack["percent"] for pack in charged])}
    if known:
        facts["full_wh"] = _summed(sum(sizes), [pack["full_wh"] for pack in charged])
    powers = [pack["power_w"] for pack in charged if "power_w" in pack]
    if powers:
        facts["power_w"] = _summed(sum(power.value for power in powers), powers)
    return facts


def _summed(value: float, parts: Sequence[Measured]) -> Measured:
    return Measured(value, parts[0].unit, " + ".join(part.source for part in parts), parts[0].t_s)


def _pack(path: Path, now_s: float, *, charging: bool) -> Facts:
    voltage = number(path / "voltage_now", "V", 1e-6, now_s)
    current = number(path / "current_now", "A", 1e-6, now_s)
    if current is not None:  # the sign depends on the driver; `status` gives the direction
        current = Measured(abs(current.value), "A", current.source, now_s)
    power = above_zero(number(path / "power_now", "W", 1e-6, now_s)) or above_zero(product(voltage, current))
    found = {
        "percent": _share(path, now_s) or number(path / "capacity", "%", 1.0, now_s),
        "full_wh": _full(path, voltage, now_s),
        "voltage_v": voltage,
        "current_a": current,
        "power_w": None if charging else power,  # the charging current is not the device's own
    }
    return {name: value for name, value in found.items() if value is not None}


def _share(path: Path, now_s: float) -> Measured | None:
    """Return the charge in %, finer than `capacity`, from the energy left and the capacity."""
    for kind in ("energy", "charge"):
        left = number(path / f"{kind}_now", "", 1.0, now_s)
        full = above_zero(number(path / f"{kind}_full", "", 1.0, now_s))
        if left is not None and full is not None and 0.0 <= left.value <= _OVERFULL * full.value:
            return Measured(min(100.0, 100.0 * left.value / full.value), "%", left.source, now_s)
    return None


def _full(path: Path, voltage: Measured | None, now_s: float) -> Measured | None:
    energy = above_zero(number(path / "energy_full", "Wh", 1e-6, now_s))
    if energy is not None:
        return energy
    charge = above_zero(number(path / "charge_full", "Ah", 1e-6, now_s))
    nominal = above_zero(number(path / "voltage_min_design", "V", 1e-6, now_s))
    seen = voltage or nominal
    if charge is None or seen is None:
        return None
    cells = max(1, round(seen.value / 3.8))
    volts = 3.75 * cells if nominal is None or nominal.value < 3.5 * cells else nominal.value
    return Measured(charge.value * volts, "Wh", charge.source, now_s)
