"""Reads the clocks for events; no other module of this package does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edge.clock import now_s, wall_s
from edge.events.waiting import Moment

_KERNEL_BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def _kernel_boot() -> str:
    """Return the kernel's boot id; empty where /proc hides it. Without it, ages of events are unknown."""
    try:
        return _KERNEL_BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def moment(t_s: float | None = None) -> Moment:
    """Return the moment of `t_s`, a value of `edge.clock.now_s`; None: now."""
    t_s = now_s() if t_s is None else t_s
    return Moment(wall_ms=int(wall_s(t_s) * 1000), uptime_ms=int(t_s * 1000), kernel_boot=_kernel_boot())
