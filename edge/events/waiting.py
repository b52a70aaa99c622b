"""An event that waits, and how old it is on a device whose wall clock may be wrong by years. Pure.

Most of these devices have no battery-backed clock. They start with a stale wall clock, say the time of their last
shutdown, and step it when the network comes. So an age is taken from the clock that counts since the kernel started;
within one start it is exact. An event of an earlier start is at least as old as the present one, and more is not known
of it: by the wall clock, minutes look like weeks. In doubt an event is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from edge.errors import EventError
from edge.events.event import Event, decode

_DAMAGED = "check the disk; the file is moved aside and a new one is begun"


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    wall_ms: int  # Unix time; may be stepped
    uptime_ms: int  # since the kernel started, suspend included; never stepped
    kernel_boot: str  # which start of the kernel `uptime_ms` counts from; empty: not known

    @classmethod
    def of(cls, wall_ms: object, uptime_ms: object, kernel_boot: object) -> Self:
        """Return the moment that three columns state; raises EventError where they state none."""
        if not (isinstance(wall_ms, int) and isinstance(uptime_ms, int) and isinstance(kernel_boot, str)):
            raise EventError("row: when the event was born cannot be read", _DAMAGED)
        return cls(wall_ms, uptime_ms, kernel_boot)


UNKNOWN = Moment(0, 0, "")  # of an event of which nothing else is known: it never expires


@dataclass(frozen=True, slots=True)
class Row:
    """One event in the outbox."""

    row: int  # rises with the order of appending
    event: Event
    born: Moment


def event_of(boot: object, seq: object, payload: object) -> Event:
    """Return the event of a row; raises EventError where it is none, or another than its columns name."""
    if not isinstance(payload, bytes):
        raise EventError("row: no event in it", _DAMAGED)
    event = decode(payload)
    if (event.boot, event.seq) != (boot, seq):
        raise EventError(f"row: {boot!r}, {seq!r} in its columns, another name in its event", _DAMAGED)
    return event


def _uptime_age_s(born: Moment, now: Moment) -> float | None:
    if not born.kernel_boot or born.kernel_boot != now.kernel_boot:
        return None
    return (now.uptime_ms - born.uptime_ms) / 1000.0


def expired(born: Moment, now: Moment, max_age_s: float) -> bool:
    """Whether an event is surely older than the limit."""
    if not born.kernel_boot or not now.kernel_boot:
        return False
    since_ms = born.uptime_ms if born.kernel_boot == now.kernel_boot else 0
    return (now.uptime_ms - since_ms) / 1000.0 > max_age_s


def is_late(born: Moment, now: Moment, late_after_s: float) -> bool:
    """Whether an event is sent later than its consumer may expect; where the age is not known, it is."""
    exact = _uptime_age_s(born, now)
    if exact is not None:
        return exact > late_after_s
    return not 0.0 <= (now.wall_ms - born.wall_ms) / 1000.0 <= late_after_s
