"""Rates that minimise the delay until a face is recognised, for a given power. Sans-IO.

The delay is a sum of terms weight ÷ rate: half an interval until the face is first seen, then looks until it is
confirmed and enough crops are fit, then embeddings. A person who leaves earlier is missed. A shorter delay therefore
recognises more encounters. The gain falls as a rate rises. Power is a sum of cost × rate.

The least delay has rate = √(weight ÷ cost) × s within the limits of each rate, with one s for all rates: another joule
then shortens the delay equally for every rate. The power is piecewise linear in s, so s is found exactly.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_NO_COST_W = 1e-9  # a rate that costs nothing goes to its upper limit


@dataclass(frozen=True, slots=True)
class Lever:
    """One rate to choose."""

    weight: float  # delay that a second of its interval adds, relative to the others
    cost_w: float  # power of one hertz, given how often its demand occurs
    low_hz: float
    high_hz: float


def allocate(levers: Sequence[Lever], power_w: float) -> list[float]:
    """Return the rate of each lever. Together they draw `power_w`, or as near to it as the limits allow."""
    rows = [
        (math.sqrt(lever.weight / max(lever.cost_w, _NO_COST_W)), lever.cost_w, lever.low_hz, lever.high_hz)
        for lever in levers
    ]

    def rates(s: float) -> list[float]:
        return [low if gain * s < low else min(gain * s, high) for gain, _, low, high in rows]

    def spent(s: float) -> float:
        return sum([row[1] * rate for row, rate in zip(rows, rates(s), strict=True)])

    knees = sorted([limit / row[0] for row in rows for limit in row[2:]])
    i = bisect_left(knees, power_w, key=spent)  # the first knee that draws at least `power_w`
    if i == 0 or i == len(knees):
        return rates(knees[min(i, len(knees) - 1)])
    least, most = spent(knees[i - 1]), spent(knees[i])
    return rates(knees[i - 1] + (power_w - least) / max(most - least, 1e-12) * (knees[i] - knees[i - 1]))


def spent_w(levers: Sequence[Lever], rates_hz: Sequence[float]) -> float:
    """Return the power that rates draw."""
    return sum(lever.cost_w * rate for lever, rate in zip(levers, rates_hz, strict=True))
