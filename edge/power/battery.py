"""A lithium-ion cell's open-circuit voltage against its charge, and charge against energy. Sans-IO.

The table is the usual one of a lithium polymer cell at rest. A real cell's differs by some 20 mV, and what the load
takes away over the inner resistance is known no better: `share_from_voltage` says how sure it is.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

_STEP = 0.05
_REST_V = (  # open-circuit voltage at a charge of 0, 5, … 100 %
    *(3.27, 3.61, 3.69, 3.71, 3.73, 3.75, 3.77, 3.79, 3.80, 3.82, 3.84),
    *(3.85, 3.87, 3.91, 3.95, 3.98, 4.02, 4.08, 4.11, 4.15, 4.20),
)
RESISTANCE_OHM = 0.12  # of a cell of some ampere hours with its wires and protection
_VOLT_SPREAD = 0.03  # standard deviation of table, resistance and sensor together

# Energy that a charge of 0, 5, … 100 % still holds, as a share of that of a full cell.
_AREAS = [0.0, *accumulate((low + high) / 2 for low, high in pairwise(_REST_V))]
_ENERGY = tuple(area / _AREAS[-1] for area in _AREAS)


def energy_share(charge_share: float) -> float:
    """Return which share of the energy is left at a share of the charge, both 0..1."""
    position = min(max(charge_share, 0.0), 1.0) / _STEP
    i = min(int(position), len(_ENERGY) - 2)
    return _ENERGY[i] + (position - i) * (_ENERGY[i + 1] - _ENERGY[i])


def rest_voltage(charge_share: float) -> float:
    """Return the open-circuit voltage of one cell, V, at a share of the charge, 0..1."""
    position = min(max(charge_share, 0.0), 1.0) / _STEP
    i = min(int(position), len(_REST_V) - 2)
    return _REST_V[i] + (position - i) * (_REST_V[i + 1] - _REST_V[i])


def share_from_voltage(cell_v: float, current_a: float) -> tuple[float, float]:
    """Return the share of energy left and its standard deviation, from one cell's voltage under a load.

    On the flat middle of the curve a few millivolts are ten percent, near the end they are nothing: the spread follows
    the slope over the range in which the voltage may be wrong.
    """
    rest_v = cell_v + RESISTANCE_OHM * current_a
    low, high = _charge(rest_v - _VOLT_SPREAD), _charge(rest_v + _VOLT_SPREAD)
    share = energy_share(_charge(rest_v))
    return share, max(0.5 * (energy_share(high) - energy_share(low)), 0.006)


def _charge(rest_v: float) -> float:
    if rest_v <= _REST_V[0]:
        return 0.0
    if rest_v >= _REST_V[-1]:
        return 1.0
    i = bisect_right(_REST_V, rest_v) - 1
    return _STEP * (i + (rest_v - _REST_V[i]) / (_REST_V[i + 1] - _REST_V[i]))
