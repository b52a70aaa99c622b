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

    @property
    def gain(self) -> float:
        """Its rate at s = 1, limits aside."""
        return math.sqrt(self.weight / max(self.cost_w, _NO_COST_W))

    def rate(self, s: float) -> float:
        """Return its rate at s."""
        return min(max(self.gain * s, self.low_hz), self.high_hz)


def allocate(levers: Sequence[Lever], power_w: float) -> list[float]:
    """Return the rate of each lever such that together they draw `power_w`, or as near as the limits allow."""
    knees = sorted(limit / lever.gain for lever in levers for limit in (lever.low_hz, lever.high_hz))
    below, spent_below = knees[0], spent_w(levers, [lever.low_hz for lever in levers])
    for knee in knees:
        spent = spent_w(levers, [lever.rate(knee) for lever in levers])
        if spent >= power_w:
            part = (power_w - spent_below) / (spent - spent_below) if spent > spent_below else 0.0
            s = below + max(0.0, part) * (knee - below)
            return [lever.rate(s) for lever in levers]
        below, spent_below = knee, spent
    return [lever.high_hz for lever in levers]


def spent_w(levers: Sequence[Lever], rates_hz: Sequence[float]) -> float:
    """Return the power that rates draw."""
    return sum(lever.cost_w * rate for lever, rate in zip(levers, rates_hz, strict=True))
