"""The publisher's rules, without a socket or a clock: what is under way, when to try again, which topic is whose."""

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
        """What all of them begin with."""
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
        """The consumer's cumulative acks."""
        return f"{self.base}/ack"

    @property
    def set_filter(self) -> str:
        """All settable keys, and those that are not."""
        return f"{self.base}/+/set"

    def sets(self, *, muted: bool) -> list[str]:
        """Return what to subscribe to for the wishes; with some topic `muted`, only those that can be set."""
        return [f"{self.base}/{field.name}/set" for field in SETTABLE] if muted else [self.set_filter]

    def set_key(self, topic: str) -> str | None:
        """Return the key of a `…/<key>/set` topic, None for another topic."""
        head, tail = f"{self.base}/", "/set"
        if not (topic.startswith(head) and topic.endswith(tail) and len(topic) > len(head) + len(tail)):
            return None
        return topic[len(head) : -len(tail)]


class Backoff:
    """Exponential back-off with full jitter: a whole fleet does not return at the same instant.

    The n-th delay is uniform in 0 … min(cap, base × 2ⁿ), and never under `floor`.
    """

    def __init__(self, base_s: float = 1.0, cap_s: float = 60.0, floor_s: float = 0.1) -> None:
        self._base_s, self._cap_s, self._floor_s = base_s, cap_s, floor_s
        self._tries = 0

    def reset(self) -> None:
        """Begin anew after a success."""
        self._tries = 0

    def slow_down(self) -> None:
        """Go to the longest delays at once: the peer said no, and will say it again."""
        self._tries = 32

    def next_s(self, uniform: float) -> float:
        """Return the next delay in s; `uniform` is a random number, 0 ≤ it < 1."""
        ceiling_s = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return max(self._floor_s, uniform * ceiling_s)


class Pace:
    """Lets something through at most once in `every_s`; what came meanwhile is counted, and comes as one.

    So what any client may ask for costs no more than that, however often it asks.
    """

    def __init__(self, every_s: float) -> None:
        self.waiting = 0  # asked for and not yet let through
        self._every_s = every_s
        self._after_s = float("-inf")

    def ask(self) -> None:
        """Note that it is wanted."""
        self.waiting += 1

    def due(self, t_s: float) -> int:
        """Return how often it was asked for since it was last let through, if it may be now; else 0."""
        if not self.waiting or t_s < self._after_s:
            return 0
        asked, self.waiting, self._after_s = self.waiting, 0, t_s + self._every_s
        return asked


class DeliveryWindow:
    """Which events are under way on one connection, and which come next.

    In flight: sent, and the broker has not answered. Unacked (only with `acks`): the broker has it, the consumer has
    not said so. The broker's queue for an absent consumer is finite, so both are bounded.
    """

    def __init__(self, *, acks: bool, window: int = 20, unacked_max: int = 500) -> None:
        self.acks = acks
        self.window = window  # more than 20 in flight stall a default mosquitto
        self.unacked_max = unacked_max  # mosquitto drops what is beyond 1000 for an absent consumer
        self.cursor = 0  # row behind which the next one is
        self._in_flight: dict[int, Row] = {}  # message id → row
        self._unacked: deque[Event] = deque()  # in the order of sending
        self._sent: dict[str, int] = {}  # boot → highest seq sent: what an ack may speak of

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
        """Note a sending; True if the event had been sent before by this process."""
        event = row.event
        self._in_flight[mid] = row
        self.cursor = row.row
        if self.acks:
            self._unacked.append(event)
        again = event.seq <= self._sent.get(event.boot, 0)
        self._sent[event.boot] = max(event.seq, self._sent.get(event.boot, 0))
        return again

    def answered(self, mid: int) -> Row | None:
        """Return the row of the broker's answer and free its place; None for a message that is no event."""
        return self._in_flight.pop(mid, None)

    def acked(self, ack: Ack) -> int:
        """Return up to which seq of its boot an ack may trim: never beyond what was sent."""
        seq = min(ack.seq, self._sent.get(ack.boot, 0))
        self._unacked = deque(e for e in self._unacked if e.boot != ack.boot or e.seq > seq)
        return seq

    def rewind(self) -> None:
        """Begin again at the oldest event that waits: on a new connection, after a denial, when no ack comes."""
        self.cursor = 0
        self._in_flight.clear()
        self._unacked.clear()
