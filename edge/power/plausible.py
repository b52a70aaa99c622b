"""Which readings to believe: those within the range of their quantity; jumps must be seen twice. Sans-IO.

A change of what feeds the device counts after two readings too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edge.power.readings import RANGES, Measured, Range, Reading
from edge.vocabulary import Supply

_CONFIRM_S = 0.9  # a second opinion counts when it is at least so much younger: a burst of reads is one glitch
_KEEP_S = 5.0  # how long the last believed value stands in for one that is in doubt


class Plausibility:
    """Holds what was last believed of each quantity."""

    def __init__(self) -> None:
        self._believed: dict[str, Measured] = {}
        self._doubted: dict[str, Measured] = {}
        self._supply: tuple[Supply, float] = "unknown", float("-inf")  # believed, and when it was last read
        self._new_supply: tuple[Supply, float] = self._supply  # in doubt, and since when
        self.rejected = 0

    def check(self, reading: Reading) -> Reading:
        """Return the reading with impossible values left out and sudden ones withheld until confirmed.

        In place of a withheld value stands the last believed one, with its own time, for at most 5 s.
        """
        changes: dict[str, Any] = {}
        for name in RANGES:
            new: Measured | None = getattr(reading, name)
            told = None if new is None else self._judge(name, new)
            if told is not new:
                changes[name] = told
        supply = self._judge_supply(reading.supply, reading.t_s)
        if supply != reading.supply:
            changes["supply"] = supply
        return replace(reading, **changes) if changes else reading

    def _judge(self, name: str, new: Measured) -> Measured | None:
        limits, last = RANGES[name], self._believed.get(name)
        if not limits.low <= new.value <= limits.high:  # NaN is in no range
            self.rejected += 1
            return self._instead(last, new)
        if not (math.isinf(limits.jump) or (last is not None and _near(new, last, limits))):
            doubted = self._doubted.get(name)
            if doubted is None or not _near(new, doubted, limits):
                self._doubted[name] = new
                self.rejected += 1
                return self._instead(last, new)
            if new.t_s - doubted.t_s < _CONFIRM_S:
                return self._instead(last, new)
        self._doubted.pop(name, None)
        self._believed[name] = new
        return new

    def _judge_supply(self, new: Supply, t_s: float) -> Supply:
        believed, seen_s = self._supply
        doubted, since_s = self._new_supply
        if new == believed or (new == doubted and t_s - since_s >= _CONFIRM_S):
            self._supply = self._new_supply = new, t_s
            return new
        if new != doubted:
            self._new_supply = new, t_s
            self.rejected += 1
        return believed if 0 <= t_s - seen_s <= _KEEP_S else "unknown"

    @staticmethod
    def _instead(last: Measured | None, new: Measured) -> Measured | None:
        return last if last is not None and 0 <= new.t_s - last.t_s <= _KEEP_S else None


def _near(a: Measured, b: Measured, limits: Range) -> bool:
    return abs(a.value - b.value) <= limits.jump + limits.drift * max(0.0, a.t_s - b.t_s)
