"""Plausibility of readings: a value must be within the range of its quantity, and a jump must be read twice. Sans-IO.

A change of the supply counts after two readings too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edge.power.readings import RANGES, Measured, Range, Reading
from edge.vocabulary import Supply

_CONFIRM_S = 0.9  # least time between a jump and the reading that confirms it: one glitch can last several reads
_KEEP_S = 5.0  # how long the last accepted value replaces an unconfirmed one


class Plausibility:
    """Holds the last accepted value of each quantity."""

    def __init__(self) -> None:
        self._accepted: dict[str, Measured] = {}
        self._unconfirmed: dict[str, Measured] = {}
        self._supply: tuple[Supply, float] = "unknown", float("-inf")  # accepted, and when it was last read
        self._new_supply: tuple[Supply, float] = self._supply  # unconfirmed, and since when
        self.rejected = 0

    def check(self, reading: Reading) -> Reading:
        """Return the reading with impossible values left out and sudden ones withheld until confirmed.

        The last accepted value, with its own time, replaces a withheld one for at most 5 s.
        """
        changes: dict[str, Any] = {}
        for name in RANGES:
            new: Measured | None = getattr(reading, name)
            accepted = None if new is None else self._judge(name, new)
            if accepted is not new:
                changes[name] = accepted
        supply = self._judge_supply(reading.supply, reading.t_s)
        if supply != reading.supply:
            changes["supply"] = supply
        return replace(reading, **changes) if changes else reading

    def _judge(self, name: str, new: Measured) -> Measured | None:
        limits, last = RANGES[name], self._accepted.get(name)
        if not limits.low <= new.value <= limits.high:  # NaN is in no range
            self.rejected += 1
            return self._instead(last, new)
        if not (math.isinf(limits.jump) or (last is not None and _near(new, last, limits))):
            unconfirmed = self._unconfirmed.get(name)
            if unconfirmed is None or not _near(new, unconfirmed, limits):
                self._unconfirmed[name] = new
                self.rejected += 1
                return self._instead(last, new)
            if new.t_s - unconfirmed.t_s < _CONFIRM_S:
                return self._instead(last, new)
        self._unconfirmed.pop(name, None)
        self._accepted[name] = new
        return new

    def _judge_supply(self, new: Supply, t_s: float) -> Supply:
        accepted, seen_s = self._supply
        unconfirmed, since_s = self._new_supply
        if new == accepted or (new == unconfirmed and t_s - since_s >= _CONFIRM_S):
            self._supply = self._new_supply = new, t_s
            return new
        if new != unconfirmed:
            self._new_supply = new, t_s
            self.rejected += 1
        return accepted if 0 <= t_s - seen_s <= _KEEP_S else "unknown"

    @staticmethod
    def _instead(last: Measured | None, new: Measured) -> Measured | None:
        return last if last is not None and 0 <= new.t_s - last.t_s <= _KEEP_S else None


def _near(a: Measured, b: Measured, limits: Range) -> bool:
    return abs(a.value - b.value) <= limits.jump + limits.drift * max(0.0, a.t_s - b.t_s)
