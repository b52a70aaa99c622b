"""The publisher's own state: in the log, in `status` on the device, and in the retained `…/state`."""

from __future__ import annotations

import logging

from edge.errors import EdgeError, EventError
from edge.events.event import rfc3339
from edge.events.messages import Link, PublisherState, State, VisionState, encode_state
from edge.events.outbox import Outbox

_log = logging.getLogger(__name__)

_SPACING_S = 1.0  # least time between two states that are sent because of a change
_PROBLEM_MAX_BYTES = 2000


class Status:
    """Counters and the state of the connection. Each change of the connection is logged once and stored."""

    def __init__(self, outbox: Outbox, device: str, every_s: float) -> None:
        self.link: Link = "connecting"
        self.published = 0
        self.resent = 0
        self.denied = 0
        self.bytes_sent = 0
        self.rejected_sets = 0
        self.changed = True  # set by the publisher where the state may have changed
        self._outbox = outbox
        self._device = device
        self._every_s = every_s
        self.problem = ""
        self._vision: VisionState | None = None
        self._sent_s = float("-inf")
        self._sent_digest: object = None

    def say(self, link: Link, problem: str = "", *, quiet: bool = False) -> None:
        """Take the state of the connection; log and store it if it changed. `quiet`: only store it."""
        if (link, problem) == (self.link, self.problem):
            return
        self.link, self.problem = link, problem
        if quiet:
            _log.debug("broker: %s", link)
        elif problem:
            _log.warning("%s", problem)
        else:
            _log.info("broker: %s", link)
        try:
            self._outbox.put_report("publisher", encode_state(self._publisher()))
            self._outbox.put_report("problem", problem.encode()[:_PROBLEM_MAX_BYTES])
        except EdgeError as e:
            _log.error("%s", e)  # the connection matters more than its report

    @property
    def gauges(self) -> frozenset[str]:
        """What the device measures of itself, by the names of its entities."""
        vision = self._vision
        measured = {} if vision is None else {"battery": vision.battery_percent, "temperature": vision.temperature_c}
        return frozenset(name for name, value in measured.items() if value is not None)

    def refresh(self) -> None:
        """Make the next `message` due at once, for a new connection."""
        self._sent_s = float("-inf")

    def message(self, t_s: float, wall_ms: int, *, settled: bool) -> bytes | None:
        """Return the state to send at `t_s`, None if it is not due; raises OutboxError.

        A state is due every `every_s`, and after a change that matters to a consumer. Not `settled`: events are in
        flight, so a changed depth may be gone in a moment, and only `every_s` counts.
        """
        since_s = t_s - self._sent_s
        due = since_s >= self._every_s
        if not due and not (self.changed and settled and since_s >= _SPACING_S):
            return None
        self.changed = False
        self.read_vision()
        own = self._publisher()
        digest = self._digest(own)
        if not due and digest == self._sent_digest:
            return None
        self._sent_digest, self._sent_s = digest, t_s
        self._outbox.put_report("publisher", encode_state(own))
        return encode_state(State(device=self._device, time=rfc3339(wall_ms), vision=self._vision, publisher=own))

    def _digest(self, own: PublisherState) -> object:
        """Return the values whose change is sent: the depth's number of digits, losses, modes, refused requests."""
        depth = len(str(own.depth)) if own.depth else 0
        vision = self._vision and (
            self._vision.mode,
            self._vision.reason,
            self._vision.recognition,
            sorted((person, one.here) for person, one in self._vision.presence.items()),
        )
        return depth, own.dropped, own.damaged_files, own.link, own.rejected_sets, vision

    def read_vision(self) -> None:
        """Read what vision last said of itself; raises OutboxError."""
        try:
            self._vision = self._outbox.get_state()
        except EventError as e:
            _log.warning("%s", e)

    def _publisher(self) -> PublisherState:
        counts = self._outbox.counts()
        return PublisherState(
            link=self.link,
            depth=counts.depth,
            oldest=self._outbox.oldest(),
            published=self.published,
            resent=self.resent,
            denied=self.denied,
            dropped=counts.dropped,
            damaged_files=counts.damaged_files,
            bytes_sent=self.bytes_sent,
            rejected_sets=self.rejected_sets,
        )
