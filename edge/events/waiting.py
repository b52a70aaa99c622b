"""A waiting event, and its age on a device whose wall clock may be wrong by years. Pure.

Most of these devices have no battery-backed clock. They start with a stale wall clock, such as the time of their last
shutdown, and correct it when the network is up. Ages therefore come from the clock that counts since the kernel
started: within one start they are exact. An event of an earlier start is at least as old as the present start. Its
exact age is not known, since a step of the wall clock may add weeks. An event of uncertain age is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from edge.errors import EventError
from edge.events.event import Event, decode

_DAMAGED = "check the disk; the file is moved aside and a new one is created"


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    wall_ms: int  # Unix time; may be stepped
    uptime_ms: int  # since the kernel started, suspend included; never stepped
    kernel_boot: str  # id of the kernel's start from which `uptime_ms` counts; empty: unknown

    @classmethod
    def of(cls, wall_ms: object, uptime_ms: object, kernel_boot: object) -> Self:
        """Return the moment in three columns; raise EventError for invalid values."""
        if not (isinstance(wall_ms, int) and isinstance(uptime_ms, int) and isinstance(kernel_boot, str)):
            raise EventError("row: the time of the event cannot be read", _DAMAGED)
        return cls(wall_ms, uptime_ms, kernel_boot)


UNKNOWN = Moment(0, 0, "")  # an event of this moment never expires


@dataclass(frozen=True, slots=True)
class Row:
    """One event in the outbox."""

    row: int  # rises with the order of appending
    event: Event
    born: Moment


def event_of(boot: object, seq: object, payload: object) -> Event:
    """Return the event of a row; raise EventError if it is missing, invalid or does not match the columns."""
    if not isinstance(payload, bytes):
        raise EventError("row: it holds no event", _DAMAGED)
    event = decode(payload)
    if (event.boot, event.seq) != (boot, seq):
        raise EventError(f"row: its event does not match its columns {boot!r}, {seq!r}", _DAMAGED)
    return event


def _uptime_age_s(born: Moment, now: Moment) -> float | None:
    if not born.kernel_boot or born.kernel_boot != now.kernel_boot:
        return None
    return (now.uptime_ms - born.uptime_ms) / 1000.0


def expired(born: Moment, now: Moment, max_age_s: float) -> bool:
    """Whether an event is certainly older than the limit."""
    if not born.kernel_boot or not now.kernel_boot:
        return False
    since_ms = born.uptime_ms if born.kernel_boot == now.kernel_boot else 0
    return (now.uptime_ms - since_ms) / 1000.0 > max_age_s


def is_late(born: Moment, now: Moment, late_after_s: float) -> bool:
    """Whether an event is sent later than its consumer expects; True where the age is unknown."""
    exact = _uptime_age_s(born, now)
    if exact is not None:
        return exact > late_after_s
    return not 0.0 <= (now.wall_ms - born.wall_ms) / 1000.0 <= late_after_s
