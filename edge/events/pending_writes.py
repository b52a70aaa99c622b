"""What the publisher must write to the outbox: kept in memory until the disk accepts it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from edge.clock import now_s
from edge.errors import OutboxError
from edge.events.event import Event
from edge.events.flow import Pace
from edge.events.outbox import Outbox

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
# Limits on what any client of the broker can cause: one write in this time.
_ACKS_EVERY_S = 0.1
_WISHES_EVERY_S = 1.0


class Disk:
    """Access to the outbox. After a failure it is used again a second later; each failure is logged once."""

    def __init__(self) -> None:
        self._after_s = 0.0
        self._problem = ""

    def ready(self, t_s: float) -> bool:
        """Whether the disk may be used at this time, s."""
        return t_s >= self._after_s

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Run a block that needs the outbox. An OutboxError ends the block and is logged."""
        try:
            yield
        except OutboxError as e:
            self._after_s = now_s() + _RETRY_S
            if e.what != self._problem:
                _log.error("%s", e)
            self._problem = e.what
        else:
            self._problem = ""


class PendingWrites:
    """Delivered events, acknowledgements and settings that are not yet in the outbox."""

    def __init__(self, outbox: Outbox, disk: Disk) -> None:
        self._outbox, self._disk = outbox, disk
        self._delivered: list[Event] = []
        self._acks: dict[str, int] = {}  # boot → highest acknowledged seq
        self._settings: dict[str, bool] = {}
        self._ack_pace, self._setting_pace = Pace(_ACKS_EVERY_S), Pace(_WISHES_EVERY_S)

    def delivered(self, event: Event) -> None:
        """Note that the broker has an event: it can be deleted."""
        self._delivered.append(event)

    def acknowledged(self, boot: str, seq: int) -> None:
        """Note that the consumer has all events of a boot up to `seq`."""
        self._acks[boot] = max(seq, self._acks.get(boot, 0))
        self._ack_pace.ask()

    def set(self, key: str, value: bool) -> None:
        """Note a setting that came over MQTT."""
        self._settings[key] = value
        self._setting_pace.ask()

    def write(self, t_s: float, *, last: bool = False) -> bool:
        """Write what is due; return whether all of it was written. The rest is tried again in the next call.

        `last`: this is the last call, so nothing is delayed by its pace.
        """
        if not (self._delivered or self._acks or self._settings) or not self._disk.ready(t_s):
            return False
        acks = bool(self._ack_pace.due(t_s)) or last
        settings = bool(self._setting_pace.due(t_s)) or last
        if not (self._delivered or acks or settings):
            return False
        written = False
        with self._disk.use():
            self._write(acks=acks, settings=settings)
            written = True
        for left, pace in ((self._acks, self._ack_pace), (self._settings, self._setting_pace)):
            if left and not pace.waiting:
                pace.ask()  # the disk did not accept it
        return written

    def _write(self, *, acks: bool, settings: bool) -> None:
        if self._delivered:
            self._outbox.delivered(self._delivered)
            self._delivered.clear()
        for boot in list(self._acks) if acks else ():
            self._outbox.acknowledge(boot, self._acks[boot])
            del self._acks[boot]
        for key in list(self._settings) if settings else ():
            self._outbox.put_setting(key, self._settings[key])
            _log.info("%s set to %s", key, self._settings[key])
            del self._settings[key]
