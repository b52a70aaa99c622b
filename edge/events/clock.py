"""Reads the clocks for the events: the only place here that does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edge.clock import now_s, wall_s
from edge.events.waiting import Moment

_KERNEL_BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def _kernel_boot() -> str:
    """Return the kernel's name for its present start; empty where /proc hides it, then no age is known."""
    try:
        return _KERNEL_BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def moment(t_s: float | None = None) -> Moment:
    """Return the moment of a reading of `edge.clock.now_s`; None: now."""
    t_s = now_s() if t_s is None else t_s
    return Moment(wall_ms=int(wall_s(t_s) * 1000), uptime_ms=int(t_s * 1000), kernel_boot=_kernel_boot())
