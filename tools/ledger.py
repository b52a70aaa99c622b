"""The consumer's side, as docs/events.md asks for it: deduplicate, and ack only what leaves no gap. Sans-IO.

Not used on the device; it is the reference for consumers of events, for the demo and for the tests.
"""

from __future__ import annotations

from edge.events.event import Event
from edge.events.messages import Ack


class Ledger:
    """Which events of one device have arrived."""

    def __init__(self) -> None:
        self._up_to: dict[str, int] = {}  # boot → highest seq without a gap below it
        self._beyond: dict[str, set[int]] = {}  # boot → what arrived beyond a gap

    def receive(self, event: Event) -> bool:
        """Note an event; True if it is new, False if it has come before."""
        up_to, beyond = self._up_to.setdefault(event.boot, 0), self._beyond.setdefault(event.boot, set())
        if event.seq <= up_to or event.seq in beyond:
            return False
        beyond.add(event.seq)
        self._close_gap(event.boot)
        return True

    def will_not_come(self, oldest: Ack) -> None:
        """Take `publisher.oldest` of a state: what is missing of that boot below it was dropped on the device."""
        self._up_to[oldest.boot] = max(self._up_to.get(oldest.boot, 0), oldest.seq - 1)
        self._close_gap(oldest.boot)

    def ack(self, boot: str) -> Ack:
        """Return what may be published on `…/ack`: everything up to it has arrived or never will."""
        return Ack(boot=boot, seq=self._up_to.get(boot, 0))

    def _close_gap(self, boot: str) -> None:
        beyond = self._beyond.setdefault(boot, set())
        while self._up_to[boot] + 1 in beyond:
            self._up_to[boot] += 1
            beyond.remove(self._up_to[boot])
        beyond.difference_update([seq for seq in beyond if seq <= self._up_to[boot]])
