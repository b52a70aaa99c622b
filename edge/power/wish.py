"""Whether the wanted run time is followed, and why not. Sans-IO."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edge.power.gauge import fits
from edge.power.notes import NoteKind
from edge.power.readings import Reading
from edge.vocabulary import Wish

WORDS: Mapping[Wish, tuple[str, str]] = {
    "none": ("no run time is wished", ""),
    "off": ("not followed: the governor is off", "set [power] governor = true"),
    "followed": ("followed", ""),
    "on_mains": ("begins when the charger is left", ""),
    "no_battery": ("not followed: no battery is read", "docs/power.md lists the sensors that can be read"),
    "wrong_cells": (
        "not followed: the voltage that is read is not that of the cells",
        "count the cells in series and set [power] battery_cells; connect a monitor to the battery, not to a rail",
    ),
    "gauge_unusable": (
        "not followed: the battery's gauge says what cannot be",
        "check its wires, and let it learn by a full charge and discharge",
    ),
}
"""For each wish: the text for a person, and the remedy."""


def wish(
    run_time: str, *, governor: bool, followed: bool, reading: Reading, cells: int, notes: Collection[NoteKind]
) -> Wish:
    """Return whether the wanted run time is followed, from the governor's state and the sensors' values."""
    if not run_time:
        return "none"
    if not governor:
        return "off"
    if followed:
        return "followed"
    if reading.supply == "mains":
        return "on_mains"
    volts = reading.voltage_v
    if "cells" in notes or (volts is not None and cells and not fits(volts.value, cells)):
        return "wrong_cells"
    return "gauge_unusable" if "gauge" in notes else "no_battery"


def charge_is_read(reading: Reading, cells: int) -> bool:
    """Tell whether a gauge or a voltage gives the remaining charge."""
    volts = reading.voltage_v
    return reading.percent is not None or (volts is not None and fits(volts.value, cells))
