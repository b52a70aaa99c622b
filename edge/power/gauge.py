"""Plausibility of a battery gauge's values, for every kind of connection. Sans-IO."""

from __future__ import annotations

from edge.power.cell import CELL_V
from edge.power.notes import Note
from edge.power.readings import Facts, Measured

_FULL_PERCENT, _OVERFULL_PERCENT = 100.0, 110.0  # a full battery may report up to 10 % above its learned capacity
_NO_BATTERY_V, _NO_BATTERY_PERCENT = 1.0, 1.0  # below the values of every cell under load
_NOT_EMPTY_V = 3.75  # of a cell: a quarter of its charge is left
_USUAL_CELL_V = 3.8


def judge(facts: Facts, name: str) -> tuple[Facts, Note | None]:
    """Return the plausible facts of a gauge, and a note on the others.

    A gauge without a battery gives 0 V and 0 %. A gauge without a value gives 255 % or similar.
    """
    percent, voltage = facts.get("percent"), facts.get("voltage_v")
    volts = None if voltage is None else voltage.value
    if volts is not None and 0.0 <= volts < _NO_BATTERY_V and (percent is None or percent.value <= _NO_BATTERY_PERCENT):
        said = f"{name} says {volts:.2f} V" + ("" if percent is None else f" and {percent.value:.0f} %")
        return {}, Note("gauge", f"{said}: no battery is connected to this gauge", "check its wires to the battery")
    if percent is None:
        return facts, None
    without = {key: fact for key, fact in facts.items() if key != "percent"}
    if _FULL_PERCENT < percent.value <= _OVERFULL_PERCENT:
        return {**facts, "percent": Measured(_FULL_PERCENT, percent.unit, percent.source, percent.t_s)}, None
    if not 0.0 <= percent.value <= _FULL_PERCENT:
        remedy = "let the gauge learn by a full charge and discharge; until then the voltage tells the charge"
        return without, Note("gauge", f"{name} says {percent.value:.0f} %: not a charge", remedy)
    if percent.value == 0.0 and volts is not None and volts / cells_of(volts) >= _NOT_EMPTY_V:
        remedy = "let the gauge learn by a full charge and discharge; until then the voltage tells the charge"
        return without, Note("gauge", f"{name} says 0 % at {volts:.2f} V: the battery is not empty", remedy)
    return facts, None


def cells_of(volts: float) -> int:
    """Return how many cells in series most likely have this voltage."""
    return max(1, round(volts / _USUAL_CELL_V))


def fits(volts: float, cells: int) -> bool:
    """Whether this number of cells in series can have this voltage; 0 cells: it is not the battery's."""
    return cells > 0 and CELL_V[0] <= volts / cells <= CELL_V[1]


def cells_note(volts: float, cells: int, name: str) -> Note:
    """Return the note on a voltage that does not fit `cells` cells."""
    likely = cells_of(volts)
    counted = "1 cell" if cells == 1 else f"{cells} cells"
    if fits(volts, likely) and likely != cells and volts / likely >= 3.0:
        remedy = f"count the cells in series: [power] battery_cells = {likely} fits; 0 where it is no battery's voltage"
    else:
        remedy = "connect a monitor to the battery itself; [power] battery_cells = 0 says that this one is at a rail"
    return Note(
        "cells", f"{name} says {volts:.2f} V, which [power] battery_cells = {cells} ({counted}) cannot have", remedy
    )
