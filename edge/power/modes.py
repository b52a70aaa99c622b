"""The mode and its reason, from a table of causes: each has a level where it begins, one where it ends, and a mode.

A cause begins at once. It ends after its signal has stayed at or below the second level for the hysteresis time. A mode
can therefore become stricter at any moment, and milder only after that time. A signal that becomes unknown ends its
cause too, unless the row is marked `kept`: a chip does not cool because its sensor is lost. The strictest mode of the
causes that hold applies. The first cause of that mode in the table is the reason. Sans-IO.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge.vocabulary import Mode, PowerReason

STRICTNESS: tuple[Mode, ...] = ("active", "saver", "critical", "suspended")


@dataclass(frozen=True, slots=True)
class Cause:
    """One row: the cause begins at `begins` and above, and ends at `ends` and below.

    `kept`: an unknown signal does not end it.
    """

    reason: PowerReason
    mode: Mode
    signal: str
    begins: float
    ends: float
    kept: bool = False


CAUSES: tuple[Cause, ...] = (
    #     reason, mode, signal, begins, ends, kept
    Cause("battery_low", "suspended", "below_suspend", 0.0, -2.0),  # percent of charge under the limit
    Cause("hot", "suspended", "above_suspend", 0.0, -5.0, kept=True),  # °C over the limit
    Cause("battery_low", "critical", "below_reserve", 0.0, -2.0),
    Cause("hot", "critical", "above_overheated", 0.0, -5.0, kept=True),
    Cause("undervoltage", "critical", "undervoltage", 0.5, 0.5),  # 0 or 1
    Cause("hot", "saver", "above_hot", 0.0, -5.0, kept=True),
    Cause("throttled", "saver", "throttled", 0.5, 0.5),  # 0 or 1
    Cause("sensor_lost", "saver", "blind_s", 3.0, 0.0),  # seconds since the charge was last measured
    Cause("infeasible", "saver", "shortfall", 0.01, -0.02),  # share of the wanted time that floor rates miss
    Cause("budget", "saver", "restraint", 0.85, 0.78),  # 1 − affordable ÷ full rate while watching
)


class Modes:
    """The causes that hold."""

    def __init__(self, hysteresis_s: float) -> None:
        self._hysteresis_s = hysteresis_s
        self._holding: dict[Cause, float] = {}  # when its signal was last above the second level

    def update(self, signals: Mapping[str, float | None], now_s: float) -> tuple[Mode, PowerReason]:
        """Take the present signals and return mode and reason; a signal that is None or NaN begins no cause."""
        for cause in CAUSES:
            value = signals.get(cause.signal)
            level = math.nan if value is None else value  # NaN is neither above nor below
            if level >= cause.begins:
                self._holding[cause] = now_s
            elif cause in self._holding:
                if level > cause.ends or (cause.kept and math.isnan(level)):
                    self._holding[cause] = now_s
                elif now_s - self._holding[cause] >= self._hysteresis_s:
                    del self._holding[cause]
        if not self._holding:
            return "active", "normal"
        mode = max((cause.mode for cause in self._holding), key=STRICTNESS.index)
        return mode, next(cause.reason for cause in CAUSES if cause in self._holding and cause.mode == mode)
