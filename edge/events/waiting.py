"""An event that waits, and how old it is on a device whose wall clock may be wrong by years. Pure.

Most of these devices have no battery-backed clock. They start with a stale wall clock and step it when the network
comes. So an age is taken from the clock that counts since the kernel started, wherever both moments belong to the
same start of the kernel; that age is exact. Across starts only the wall clock is left, and it is believed only where
its answer is plausible. In doubt an event is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.events.event import Event

DOUBT_S = 30 * 86_400.0  # an age this far beyond the limit, across starts of the kernel, is a clock step and no age


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    wall_ms: int  # Unix time; may be stepped
    uptime_ms: int  # since the kernel started, suspend included; never stepped
    kernel_boot: str  # which start of the kernel `uptime_ms` counts from; empty: not known


@dataclass(frozen=True, slots=True)
class Row:
    """One event in the outbox."""

    row: int  # rises with the order of appending
    event: Event
    born: Moment


def _uptime_age_s(born: Moment, now: Moment) -> float | None:
    if not born.kernel_boot or born.kernel_boot != now.kernel_boot:
        return None
    return (now.uptime_ms - born.uptime_ms) / 1000.0


def expired(born: Moment, now: Moment, max_age_s: float) -> bool:
    """Whether an event is surely older than the limit; a negative or implausible age never expires."""
    exact = _uptime_age_s(born, now)
    if exact is not None:
        return exact > max_age_s
    return max_age_s < (now.wall_ms - born.wall_ms) / 1000.0 < max_age_s + DOUBT_S


def is_late(born: Moment, now: Moment, late_after_s: float) -> bool:
    """Whether an event is sent later than its consumer may expect; where the age is not known, it is."""
    exact = _uptime_age_s(born, now)
    if exact is not None:
        return exact > late_after_s
    return not 0.0 <= (now.wall_ms - born.wall_ms) / 1000.0 <= late_after_s
