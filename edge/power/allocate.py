"""Where the energy does most good: rates that minimise the delay until a face is recognised, for a given power.

A face is recognised after a delay that is a sum of terms weight ÷ rate: half an interval until it is first seen, then
looks until it is confirmed and enough crops are fit, then embeddings. Who leaves before that is missed, so less delay
is more recognised encounters, with less to gain the higher a rate already is. Power is a sum of cost × rate. The least
delay for a power has rate ∝ √(weight ÷ cost), between the limits of each rate: one price μ for a watt, the same for
all, sets them. Sans-IO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDS = 40  # halvings of the price's logarithm over 30 decades: far below one percent of a rate


@dataclass(frozen=True, slots=True)
class Lever:
    """One rate that may be chosen."""

    weight: float  # what a second of its interval adds to the delay, relative to the others
    cost_w: float  # power that one hertz draws, given how often its demand occurs
    low_hz: float
    high_hz: float

    def rate(self, price: float) -> float:
        """Return the rate at a price of power."""
        ideal = math.sqrt(self.weight / max(self.cost_w * price, 1e-30))
        return min(max(ideal, self.low_hz), self.high_hz)


def allocate(levers: Sequence[Lever], power_w: float) -> list[float]:
    """Return the rate of each lever such that together they draw `power_w`, or as near as the limits allow."""
    if spent_w(levers, [lever.high_hz for lever in levers]) <= power_w:
        return [lever.high_hz for lever in levers]
    low, high = -15.0, 15.0  # decimal logarithm of the price
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        if spent_w(levers, [lever.rate(10.0**middle) for lever in levers]) > power_w:
            low = middle
        else:
            high = middle
    return [lever.rate(10.0**high) for lever in levers]


def spent_w(levers: Sequence[Lever], rates_hz: Sequence[float]) -> float:
    """Return the power that rates draw."""
    return sum(lever.cost_w * rate for lever, rate in zip(levers, rates_hz, strict=True))
