"""What the publisher says of itself: to the log, to `status` on the device, and in the retained `…/state`."""

from __future__ import annotations

import logging

from edge.errors import EdgeError, EventError
from edge.events.event import rfc3339
from edge.events.messages import Link, PublisherState, State, VisionState, encode_state
from edge.events.outbox import Outbox

_log = logging.getLogger(__name__)

_SPACING_S = 1.0  # states sent because something changed come no closer
_PROBLEM_MAX_BYTES = 2000


class Status:
    """Counters and the state of the connection; each change of it is logged once and stored for `status`."""

    def __init__(self, outbox: Outbox, device: str, every_s: float) -> None:
        self.link: Link = "connecting"
        self.published = 0
        self.resent = 0
        self.denied = 0
        self.bytes_sent = 0
        self.rejected_sets = 0
        self.changed = True  # set by the owner: something may be news
        self._outbox = outbox
        self._device = device
        self._every_s = every_s
        self._problem = ""
        self._vision: VisionState | None = None
        self._sent_s = float("-inf")
        self._told: object = None

    def say(self, link: Link, problem: str = "") -> None:
        """Note how the connection stands, where it is news."""
        if (link, problem) == (self.link, self._problem):
            return
        self.link, self._problem = link, problem
        if problem:
            _log.warning("%s", problem)
        else:
            _log.info("broker: %s", link)
        try:
            self._outbox.put_report("publisher", encode_state(self._publisher()))
            self._outbox.put_report("problem", problem.encode()[:_PROBLEM_MAX_BYTES])
        except EdgeError as e:
            _log.error("%s", e)  # the connection goes on: what is said of it matters less

    def refresh(self) -> None:
        """Have the next `message` sent at once: the connection is new."""
        self._sent_s = float("-inf")

    def message(self, t_s: float, wall_ms: int, *, settled: bool) -> bytes | None:
        """Return the state to send at `t_s`, None if it is not due; raises OutboxError.

        Due every `every_s`, and when what changed is something that a consumer would act on. Not `settled`: events
        are in flight, and a depth that counts them would be news for a moment only.
        """
        since_s = t_s - self._sent_s
        due = since_s >= self._every_s
        if not due and not (self.changed and settled and since_s >= _SPACING_S):
            return None
        self.changed = False
        self._read_vision()
        ours = self._publisher()
        told = self._digest(ours)
        if not due and told == self._told:
            return None
        self._told, self._sent_s = told, t_s
        self._outbox.put_report("publisher", encode_state(ours))
        return encode_state(State(device=self._device, time=rfc3339(wall_ms), vision=self._vision, publisher=ours))

    def _digest(self, ours: PublisherState) -> object:
        """Return what makes a state news: the depth's number of digits, losses, modes, and refused requests."""
        depth = len(str(ours.depth)) if ours.depth else 0
        vision = self._vision and (self._vision.mode, self._vision.reason, self._vision.recognition)
        return depth, ours.dropped, ours.damaged_files, ours.link, ours.rejected_sets, vision

    def _read_vision(self) -> None:
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
