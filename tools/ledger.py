"""Reference consumer of one device's events, as docs/events.md describes: deduplicates, and acks only up to a gap.

It does no I/O. Subscriber, proofs and tests use it; the device does not.
"""

from __future__ import annotations

from edge.events.event import Event
from edge.events.messages import Ack


class Ledger:
    """The events of one device that have arrived."""

    def __init__(self) -> None:
        self._up_to: dict[str, int] = {}  # boot → highest seq without a gap below it
        self._beyond: dict[str, set[int]] = {}  # boot → numbers that arrived beyond a gap

    def receive(self, event: Event) -> bool:
        """Record an event; returns True where it is new, False where it has arrived before."""
        up_to, beyond = self._up_to.setdefault(event.boot, 0), self._beyond.setdefault(event.boot, set())
        if event.seq <= up_to or event.seq in beyond:
            return False
        beyond.add(event.seq)
        self._close_gap(event.boot)
        return True

    def will_not_come(self, oldest: Ack) -> None:
        """Process `publisher.oldest` of a state: missing events of that boot below it were dropped on the device."""
        self._up_to[oldest.boot] = max(self._up_to.get(oldest.boot, 0), oldest.seq - 1)
        self._close_gap(oldest.boot)

    def ack(self, boot: str) -> Ack:
        """Return the ack to publish on `…/ack`: all events up to it have arrived or were dropped."""
        return Ack(boot=boot, seq=self._up_to.get(boot, 0))

    def _close_gap(self, boot: str) -> None:
        beyond = self._beyond.setdefault(boot, set())
        while self._up_to[boot] + 1 in beyond:
            self._up_to[boot] += 1
            beyond.remove(self._up_to[boot])
        beyond.difference_update([seq for seq in beyond if seq <= self._up_to[boot]])
