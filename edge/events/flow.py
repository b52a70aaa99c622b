"""The publisher's rules, without a socket or a clock: events in flight, delays between attempts, topics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge.events.event import Event
from edge.events.messages import SETTABLE, Ack
from edge.events.waiting import Row


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device."""

    prefix: str
    device: str

    @property
    def base(self) -> str:
        """The start of all topics."""
        return f"{self.prefix}/{self.device}"

    @property
    def availability(self) -> str:
        """Retained `online` or `offline`."""
        return f"{self.base}/availability"

    @property
    def event(self) -> str:
        """QoS 1, not retained."""
        return f"{self.base}/event"

    @property
    def state(self) -> str:
        """Retained."""
        return f"{self.base}/state"

    @property
    def ack(self) -> str:
        """Cumulative acks of the consumer."""
        return f"{self.base}/ack"

    @property
    def set_filter(self) -> str:
        """Filter for all keys, settable or not."""
        return f"{self.base}/+/set"

    def sets(self, *, muted: bool) -> list[str]:
        """Return the subscriptions for settings. `muted`: only the keys that can be set; else `set_filter`."""
        return [f"{self.base}/{field.name}/set" for field in SETTABLE] if muted else [self.set_filter]

    def set_key(self, topic: str) -> str | None:
        """Return the key of a `…/<key>/set` topic, None for another topic."""
        head, tail = f"{self.base}/", "/set"
        if not (topic.startswith(head) and topic.endswith(tail) and len(topic) > len(head) + len(tail)):
            return None
        return topic[len(head) : -len(tail)]


class Backoff:
    """Exponential back-off with full jitter: the devices of a fleet reconnect at different times.

    The n-th delay is uniform in 0 … min(cap, base × 2ⁿ), and at least `floor`.
    """

    def __init__(self, base_s: float = 1.0, cap_s: float = 60.0, floor_s: float = 0.1) -> None:
        self._base_s, self._cap_s, self._floor_s = base_s, cap_s, floor_s
        self._tries = 0

    def reset(self) -> None:
        """Start again with short delays after a success."""
        self._tries = 0

    def slow_down(self) -> None:
        """Go to the longest delays at once: the peer refused, and will refuse again."""
        self._tries = 32

    def next_s(self, uniform: float) -> float:
        """Return the next delay in s; `uniform` is a random number, 0 ≤ it < 1."""
        ceiling_s = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return max(self._floor_s, uniform * ceiling_s)


class Pace:
    """Limits requests to one in `every_s`. Requests in between are counted and served together.

    The cost of requests of any client is limited to this rate.
    """

    def __init__(self, every_s: float) -> None:
        self.waiting = 0  # requests not yet served
        self._every_s = every_s
        self._after_s = float("-inf")

    def ask(self) -> None:
        """Count a request."""
        self.waiting += 1

    def due(self, t_s: float) -> int:
        """Return the number of waiting requests where they may be served now, else 0."""
        if not self.waiting or t_s < self._after_s:
            return 0
        asked, self.waiting, self._after_s = self.waiting, 0, t_s + self._every_s
        return asked


class DeliveryWindow:
    """The events of one connection that are in flight or unacked, and the position of the next one.

    In flight: sent, without an answer of the broker. Unacked (only with `acks`): sent, without an ack of the consumer.
    Both are limited, since the broker's queue for an absent consumer is finite.
    """

    def __init__(self, *, acks: bool, window: int = 20, unacked_max: int = 500) -> None:
        self.acks = acks
        self.window = window  # more than 20 in flight stall a default mosquitto
        self.unacked_max = unacked_max  # mosquitto queues at most 1000 messages for an absent consumer
        self.cursor = 0  # number of the last row that was sent
        self._in_flight: dict[int, Row] = {}  # message id → row
        self._unacked: deque[Event] = deque()  # in the order of sending
        self._sent: dict[str, int] = {}  # boot → highest seq sent; an ack may name no higher one

    @property
    def in_flight(self) -> int:
        """Events that the broker has not answered."""
        return len(self._in_flight)

    @property
    def unacked(self) -> int:
        """Events that the consumer has not acknowledged."""
        return len(self._unacked)

    @property
    def room(self) -> int:
        """How many events may be sent now."""
        room = self.window - len(self._in_flight)
        return max(0, min(room, self.unacked_max - len(self._unacked)) if self.acks else room)

    def sent(self, mid: int, row: Row) -> bool:
        """Record a sent row; True if this process had sent the event before."""
        event = row.event
        self._in_flight[mid] = row
        self.cursor = row.row
        if self.acks:
            self._unacked.append(event)
        again = event.seq <= self._sent.get(event.boot, 0)
        self._sent[event.boot] = max(event.seq, self._sent.get(event.boot, 0))
        return again

    def answered(self, mid: int) -> Row | None:
        """Return the row that the broker answered and free its place; None for a message that is no event."""
        return self._in_flight.pop(mid, None)

    def acked(self, ack: Ack) -> int:
        """Take an ack; return the highest seq of its boot that may be deleted: at most the highest one sent."""
        seq = min(ack.seq, self._sent.get(ack.boot, 0))
        self._unacked = deque(e for e in self._unacked if e.boot != ack.boot or e.seq > seq)
        return seq

    def rewind(self) -> None:
        """Return to the oldest waiting event: on a new connection, after a denial, or without an ack in time."""
        self.cursor = 0
        self._in_flight.clear()
        self._unacked.clear()
