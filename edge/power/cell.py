"""A lithium-ion cell's open-circuit voltage against its charge, and charge against energy. Sans-IO.

The table is the usual one of a lithium polymer cell at rest. A real cell differs from it by about 15 mV. `energy.py`
learns this difference, and the voltage drop over the inner resistance under load.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

_STEP = 0.05
_REST_V = (  # open-circuit voltage at a charge of 0, 5, … 100 %
    *(3.27, 3.61, 3.69, 3.71, 3.73, 3.75, 3.77, 3.79, 3.80, 3.82, 3.84),
    *(3.85, 3.87, 3.91, 3.95, 3.98, 4.02, 4.08, 4.11, 4.15, 4.20),
)
CELL_V = (2.6, 4.4)  # possible range of one cell's voltage
LABEL_SHARE, LABEL_SPREAD = 0.85, 0.10  # capacity of a battery of unknown age as a share of its label: 70 to 100 %
RESISTANCE_OHM = 0.09  # of a cell of some ampere hours with its wires and protection
RESISTANCE_SPREAD = 0.6  # relative

# Energy left at a charge of 0, 5, … 100 %, as a share of that of a full cell.
_AREAS = [0.0, *accumulate((low + high) / 2 for low, high in pairwise(_REST_V))]
_ENERGY = tuple(area / _AREAS[-1] for area in _AREAS)


def energy_share(charge_share: float) -> float:
    """Return the share of energy left at a share of charge, both 0..1."""
    position = min(max(charge_share, 0.0), 1.0) / _STEP
    i = min(int(position), len(_ENERGY) - 2)
    return _ENERGY[i] + (position - i) * (_ENERGY[i + 1] - _ENERGY[i])


def rest_voltage(charge_share: float) -> float:
    """Return the open-circuit voltage of one cell, V, at a share of the charge, 0..1."""
    position = min(max(charge_share, 0.0), 1.0) / _STEP
    i = min(int(position), len(_REST_V) - 2)
    return _REST_V[i] + (position - i) * (_REST_V[i + 1] - _REST_V[i])


def charge_share(energy: float) -> float:
    """Return the share of charge left at a share of energy, both 0..1."""
    energy = min(max(energy, 0.0), 1.0)
    i = min(bisect_right(_ENERGY, energy) - 1, len(_ENERGY) - 2)
    return _STEP * (i + (energy - _ENERGY[i]) / (_ENERGY[i + 1] - _ENERGY[i]))


def slope_v(energy: float, spread: float) -> float:
    """Return the mean slope of the rest voltage against the share of energy, V, over `energy` ± `spread`.

    The curve has knees. Where the share of energy is uncertain, the mean slope predicts better than the tangent.
    """
    low, high = max(0.0, energy - spread), min(1.0, energy + spread)
    return (rest_voltage(charge_share(high)) - rest_voltage(charge_share(low))) / max(high - low, 1e-6)


def share_from_voltage(cell_v: float, current_a: float) -> float:
    """Return the share of energy left, 0..1, from one cell's voltage under load: a first guess."""
    rest_v = cell_v + RESISTANCE_OHM * current_a
    if rest_v <= _REST_V[0]:
        return 0.0
    if rest_v >= _REST_V[-1]:
        return 1.0
    i = bisect_right(_REST_V, rest_v) - 1
    return energy_share(_STEP * (i + (rest_v - _REST_V[i]) / (_REST_V[i + 1] - _REST_V[i])))
