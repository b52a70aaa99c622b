"""Valid events and moments for tests."""

from __future__ import annotations

from typing import Any

import msgspec

from edge.events.event import Event, rfc3339, uuid7
from edge.events.messages import PublisherState
from edge.events.waiting import Moment

BOOT = "0123456789abcdef"
MODEL = "a9" * 8
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z

_MATCH = Event(
    id=uuid7(NOON_MS, bytes(range(10))),
    device="glasses-7",
    boot=BOOT,
    seq=1,
    time=rfc3339(NOON_MS),
    event_type="match",
    encounter=1,
    person="p-3f7c2aqx",
    band="certain",
    model=MODEL,
)


def match(seq: int = 1, **changes: Any) -> Event:
    """Return a valid match with these fields changed."""
    return msgspec.structs.replace(_MATCH, seq=seq, **changes)


def moment(wall_ms: int = NOON_MS, uptime_s: float = 1000.0, kernel_boot: str = "kernel-1") -> Moment:
    return Moment(wall_ms, int(uptime_s * 1000), kernel_boot)


def publisher_state(**changes: Any) -> PublisherState:
    state = PublisherState(
        link="connected",
        depth=0,
        oldest=None,
        published=4,
        resent=0,
        denied=0,
        dropped=0,
        damaged_files=0,
        bytes_sent=3910,
        rejected_sets=0,
    )
    return msgspec.structs.replace(state, **changes)
