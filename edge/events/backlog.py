"""The vision process's writes of events: to the outbox, and to memory while the outbox fails.

A full disk must not stop recognition. An event gets its id, its number and its time when it happens. It keeps them
while it waits here, and the order is kept.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path
from typing import Literal

from msgspec import UNSET

from edge.errors import EventError, OutboxError
from edge.events.event import Event, display_name, encode, rfc3339, uuid7
from edge.events.messages import Settings, VisionState
from edge.events.outbox import Outbox
from edge.events.waiting import Moment

_log = logging.getLogger(__name__)


def new_boot() -> str:
    """Draw the id of one run of the vision process: 16 hex digits."""
    return os.urandom(8).hex()


class Backlog:
    """The events of one run of the vision process, numbered from 1 without a gap.

    Only a violated schema raises (EventError, a fault of the caller). While the disk fails, events are held in memory,
    up to `capacity`. Beyond that the oldest is dropped and counted, and its number stays a gap. `problem` is the fault
    of the disk, None without one.
    """

    def __init__(
        self, path: Path, *, device: str, boot: str, max_events: int, max_age_s: float, capacity: int = 1000
    ) -> None:
        self.boot = boot
        self.problem: str | None = None  # in words: an exception would keep its callers' frames, and all they hold
        self._path, self._max_events, self._max_age_s = path, max_events, max_age_s
        self._device = device
        self._capacity = capacity
        self._held: deque[tuple[Event, Moment]] = deque()
        self._lost = 0  # dropped from memory and not yet counted on the disk
        self._seq = 0
        self._outbox: Outbox | None = None
        self._settings = Settings()
        self.retry()

    @property
    def held(self) -> int:
        """Events that are only in memory."""
        return len(self._held)

    @property
    def appended(self) -> int:
        """Events of this run so far."""
        return self._seq

    def append(
        self,
        *,
        event_type: Literal["match", "unknown", "end"],
        encounter: int,
        person: str | None,
        band: Literal["certain", "likely"] | None,
        model: str,
        born: Moment,
        name: str | None = None,
        live: bool | None = None,
    ) -> int:
        """Take one event and return its `seq`; on the disk when this returns, unless `held` says otherwise.

        `model` is the hash of the model file, any length from 16 hex digits. `name` only where the owner turned
        names on; it is cut to the length that may be sent. `live` None: unknown; an `end` carries none. Raises
        EventError.
        """
        shown = display_name(name) if name is not None else None
        event = Event(
            id=uuid7(born.wall_ms, os.urandom(10)),
            device=self._device,
            boot=self.boot,
            seq=self._seq + 1,
            time=rfc3339(born.wall_ms),
            event_type=event_type,
            encounter=encounter,
            person=person,
            band=band,
            model=model[:16],
            name=UNSET if shown is None else shown,
            live=UNSET if event_type == "end" else "unknown" if live is None else live,
        )
        encode(event)  # refuse an invalid one now: it must not block the events after it
        self._seq = event.seq
        self._held.append((event, born))
        if len(self._held) > self._capacity and not self.retry():
            self._held.popleft()
            self._lost += 1
            _log.error("outbox: event dropped, %d are held in memory and the disk accepts none", self._capacity)
        self.retry()
        return event.seq

    def retry(self) -> bool:
        """Move held events to the disk; True when none is left. Call it periodically while `held` is not 0."""
        try:
            outbox = self._open()
            while self._held:
                outbox.append(*self._held[0])
                self._held.popleft()
            if self._lost:
                outbox.note_lost(self._lost)
                self._lost = 0
        except OutboxError as e:
            self._report(e)
            return False
        self._report(None)
        return True

    def forget(self) -> None:
        """Drop the events in memory without counting them: after a reset they never existed."""
        self._held.clear()
        self._lost = 0

    def put_state(self, state: VisionState) -> bool:
        """Store the state for the publisher, for `status` and for the retained `…/state`; False: the disk refused it.

        Each call is a write to the disk: every few seconds is enough. Raises EventError.
        """
        try:
            self._open().put_state(state)
        except OutboxError as e:
            self._report(e)
            return False
        return True

    def last_state(self) -> VisionState | None:
        """Return the state that was stored last, also by an earlier run; None where there is none that can be read."""
        try:
            return self._open().get_state()
        except (OutboxError, EventError):
            return None

    def settings(self) -> Settings:
        """Return the settings received over MQTT; the last known ones while the outbox cannot be read."""
        try:
            self._settings = self._open().settings()
        except OutboxError as e:
            self._report(e)
        return self._settings

    def close(self) -> None:
        """Store held events if the disk accepts them, and close the outbox; lost events are logged."""
        if not self.retry():
            _log.error("outbox: %d events held in memory are lost with the end of this process", len(self._held))
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _open(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox.open(self._path, max_events=self._max_events, max_age_s=self._max_age_s)
        return self._outbox

    def _report(self, problem: OutboxError | None) -> None:
        """Keep the problem, and log it when it has changed."""
        before, self.problem = self.problem, None if problem is None else str(problem)
        if problem is not None and self.problem != before:
            _log.error("%s; events are held in memory", problem)
        elif problem is None and before is not None:
            _log.warning("outbox: writable again, nothing is held any more")
