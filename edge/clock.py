"""The two clocks: a monotonic one that counts suspend, and the wall clock for what is published."""

from __future__ import annotations

import time


def now_s() -> float:
    """Return seconds of a clock that never jumps and goes on while the device sleeps (CLOCK_BOOTTIME on Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def wall_s(t_s: float) -> float:
    """Return the Unix time of a moment of the monotonic clock; a moment in the future counts as now."""
    return time.time() - max(0.0, now_s() - t_s)
