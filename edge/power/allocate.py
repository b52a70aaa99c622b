"""Where the energy does most good: rates that minimise the delay until a face is recognised, for a given power.

A face is recognised after a delay that is a sum of terms weight ÷ rate: half an interval until it is first seen, then
looks until it is confirmed and enough crops are fit, then embeddings. Who leaves before that is missed, so less delay
is more recognised encounters, with less to gain the higher a rate already is. Power is a sum of cost × rate. The least
delay for a power has rate = √(weight ÷ cost) × s between the limits of each rate, with one s for all: the second that
another joule saves is then worth the same everywhere. What is spent grows with s in straight pieces, so s is found
exactly. Sans-IO.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_NO_COST_W = 1e-9  # a rate that draws nothing is as high as it may be


@dataclass(frozen=True, slots=True)
class Lever:
    """One rate that may be chosen."""

    weight: float  # what a second of its interval adds to the delay, relative to the others
    cost_w: float  # power that one hertz draws, given how often its demand occurs
    low_hz: float
    high_hz: float


def allocate(levers: Sequence[Lever], power_w: float) -> list[float]:
    """Return the rate of each lever such that together they draw `power_w`, or as near as the limits allow."""
    rows = [
        (math.sqrt(lever.weight / max(lever.cost_w, _NO_COST_W)), lever.cost_w, lever.low_hz, lever.high_hz)
        for lever in levers
    ]

    def rates(s: float) -> list[float]:
        return [low if gain * s < low else min(gain * s, high) for gain, _, low, high in rows]

    def spent(s: float) -> float:
        return sum([row[1] * rate for row, rate in zip(rows, rates(s), strict=True)])

    knees = sorted([limit / row[0] for row in rows for limit in row[2:]])
    i = bisect_left(knees, power_w, key=spent)  # the first knee at which enough is spent
    if i == 0 or i == len(knees):
        return rates(knees[min(i, len(knees) - 1)])
    least, most = spent(knees[i - 1]), spent(knees[i])
    return rates(knees[i - 1] + (power_w - least) / max(most - least, 1e-12) * (knees[i] - knees[i - 1]))


def spent_w(levers: Sequence[Lever], rates_hz: Sequence[float]) -> float:
    """Return the power that rates draw."""
    return sum(lever.cost_w * rate for lever, rate in zip(levers, rates_hz, strict=True))
