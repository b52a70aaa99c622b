"""Outbox → MQTT: every event at least once, in order, under one id; deleted only when it has arrived.

One thread, one loop. While the broker is away, events wait in the outbox and the connection is retried with back-off
and jitter. Writes that follow from an answer of the broker or from a request are kept until the disk accepts them.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from edge.clock import now_s
from edge.config import Config
from edge.errors import EventError, PublisherError
from edge.events import cloud, discovery
from edge.events.announcements import Announcements
from edge.events.attempts import Attempts
from edge.events.event import as_late, encode
from edge.events.flow import Backoff, DeliveryWindow, Pace, Topics
from edge.events.link import Answered, Connection, Dialler, LinkError, Received, TooLongError
from edge.events.messages import parse_ack, parse_set
from edge.events.moments import moment
from edge.events.outbox import Outbox
from edge.events.pending_writes import Disk, PendingWrites
from edge.events.publisher_status import Status
from edge.events.waiting import Row, is_late

_log = logging.getLogger(__name__)

_TICK_S = 0.2  # period of the check whether vision wrote to the outbox: one PRAGMA and one stat
_GOODBYE_S = 1.0  # for the broker to take `offline` when we stop
_STALL_S = 30.0  # a connection without an answer to a PUBLISH for this long counts as lost
_TIDY_EVERY_S = 60.0
_REST_S = 1.0  # between two signs of life while the broker is away
_ACK_WAIT_MAX_S = 300.0
# Limits on what any client of the broker can cause: one description, write or line of the log in this time.
_DISCOVERY_EVERY_S = 5.0
_REFUSALS_EVERY_S = 10.0
_MUTED_FOR_S = 3600.0  # a retained message that is too long comes again with each subscription, and ends it


class Publisher:
    """Sends the outbox to the broker until a stop is requested. Faults are reported and retried, never raised.

    `ack_wait_s`: with acks on, the time without an ack after which events are sent again; it doubles each time.
    `alive` is called with a status line in each round of the loop, for a watchdog.
    """

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        *,
        backoff: Backoff | None = None,
        ack_wait_s: float = 10.0,
        alive: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._alive = alive
        self._mqtt = config.mqtt
        self._publish_names = config.privacy.publish_names
        self._outbox = outbox
        self._topics = Topics(config.mqtt.prefix, config.device.id)
        client_id = f"edge-{config.device.id}"
        self._dialler = Dialler(
            config.mqtt,
            client_id=client_id,
            will_topic=self._topics.availability,
            session_expiry_s=config.mqtt.session_expiry_s,
            waiting=lambda: alive("dialling the broker"),
        )
        self._status = Status(outbox, config.device.id, config.mqtt.state_every_s)
        self._announcements = Announcements(config.mqtt, self._topics, config.privacy.presence)
        self._uniform = random.SystemRandom().random
        waits = Backoff(config.mqtt.reconnect_s, config.mqtt.reconnect_max_s)
        self._attempts = Attempts(config.mqtt, client_id, backoff or waits)
        self._resumable = False  # whether the broker's half of the session may be taken up again
        self._denial_backoff = Backoff()
        self._delivery = DeliveryWindow(acks=config.mqtt.acks)
        self._generation = outbox.generation
        self._ack_wait_s = self._ack_wait_min_s = ack_wait_s
        self._disk = Disk()
        self._writes = PendingWrites(outbox, self._disk)
        self._discovery_pace, self._refusal_pace = Pace(_DISCOVERY_EVERY_S), Pace(_REFUSALS_EVERY_S)
        self._more = True  # whether the outbox may hold events behind the flow's cursor
        self._muted: dict[str, float] = {}  # topic → until when it is not subscribed to
        # earliest or latest times, on the clock of `now_s`
        self._send_after_s = self._tidy_s = self._answer_due_s = self._ack_due_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; then publish `offline` and return, within 2 s."""
        while not stop.is_set():
            try:
                self._serve(stop)
            except PublisherError as e:
                if stop.is_set():
                    break
                delay_s = self._failed(e)
                self._write()
                self._rest(stop, delay_s)
        self._write(last=True)
        # what was wrong to the end is still wrong
        problem = "" if self._status.link == "connected" else self._status.problem
        self._status.say("stopped", problem, quiet=bool(problem))

    def _failed(self, error: PublisherError) -> float:
        """Report why there is no connection; return the delay until the next attempt, s."""
        if isinstance(error, TooLongError):
            self._resumable = False
            self._muted[error.topic] = now_s() + _MUTED_FOR_S
            _log.warning("%.120r is not subscribed to for an hour", error.topic)
        retry = self._attempts.failed(error, now_s(), self._uniform())
        self._status.say(retry.link, retry.problem, quiet=retry.named_before)
        return retry.delay_s

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        """Wait until the broker is tried again."""
        end_s = now_s() + seconds
        while (left_s := end_s - now_s()) > 0 and not stop.is_set():
            self._alive(f"the broker is away ({self._status.link}), tried again in {left_s:.0f} s")
            stop.wait(min(left_s, _REST_S))

    def _serve(self, stop: threading.Event) -> None:
        """One connection, from greeting to loss or stop."""
        self._tidy()
        connection = self._dialler.open(stop, resume=self._resumable)
        self._resumable = False  # until the broker has done its work: what ended one connection would end the next
        try:
            self._welcome(connection)
            while not stop.is_set():
                self._turn(connection)
                self._alive(f"{self._status.link}, {self._status.published} events published")
            self._farewell(connection)
        finally:
            connection.close(forget=stop.is_set())

    def _welcome(self, connection: Connection) -> None:
        rival = self._attempts.welcome(now_s())
        self._status.say("connected", self._status.problem if rival else "", quiet=rival)
        self._status.refresh()
        version = "5" if connection.v5 else "3.1.1, which cannot tell a denied event from a delivered one"
        if not rival:
            _log.info("connected to %s:%d with MQTT %s", self._mqtt.host, self._mqtt.port, version)
        self._delivery.rewind()
        self._delivery.window = connection.window
        self._more = True
        self._send(connection, self._topics.availability, b"online", retain=True)
        self._take_back(connection)
        with self._disk.use():
            self._status.read_vision()
            self._announcements.learn(self._status.gauges)
        if self._mqtt.discovery:
            self._send_discovery(connection)
        if wanted := self._wanted():
            connection.subscribe(wanted)

    def _wanted(self) -> list[str]:
        """Return the topics to subscribe to: what came with too long a message is left out for a while."""
        self._muted = {topic: until_s for topic, until_s in self._muted.items() if now_s() < until_s}
        wanted = self._topics.sets(muted=bool(self._muted))
        if self._mqtt.acks:
            wanted.append(self._topics.ack)
        if self._mqtt.discovery:
            wanted.append(discovery.status_topic(self._mqtt.discovery_prefix))
        return [topic for topic in wanted if topic not in self._muted]

    def _farewell(self, connection: Connection) -> None:
        """Publish the last state and `offline`, since a clean disconnect sends no last will; take the last answers."""
        with contextlib.suppress(LinkError):
            self._status.refresh()
            self._send_state(connection, now_s())
            mid = self._send(connection, self._topics.availability, b"offline", retain=True)
            deadline_s = time.monotonic() + _GOODBYE_S
            while time.monotonic() < deadline_s:
                arrived = connection.turn(0.05)
                for incoming in arrived:
                    self._take(incoming)
                if any(isinstance(incoming, Answered) and incoming.mid == mid for incoming in arrived):
                    break

    def _turn(self, connection: Connection) -> None:
        """Take the broker's messages, write what follows from them, send what is due."""
        for incoming in connection.turn(_TICK_S):
            self._take(incoming)
        self._write()
        t_s = now_s()
        if self._discovery_pace.due(t_s):
            self._send_discovery(connection)
        if self._disk.ready(t_s):
            with self._disk.use():
                self._look(t_s)
                self._send_events(connection, t_s)
            self._send_state(connection, t_s)
        if t_s >= self._tidy_s:
            self._tidy()
        if self._attempts.calm(t_s):
            self._status.say("connected")
        if (self._delivery.in_flight and t_s > self._answer_due_s) or connection.unanswered_s > _STALL_S:
            raise LinkError("lost", f"the broker has answered nothing for {_STALL_S:.0f} s", "restart it")

    def _take(self, incoming: Answered | Received) -> None:
        if isinstance(incoming, Received):
            try:
                self._request(incoming)
            except EventError as e:
                self._refuse(incoming, e)
            return
        self._answer_due_s = now_s() + _STALL_S
        row = self._delivery.answered(incoming.mid)
        if incoming.code < 0x80:
            self._attempts.answered()
            self._resumable = True
            if row is not None:
                self._accepted(row)
        elif row is not None:
            self._denied(incoming)
        else:
            _log.warning("the broker refuses a state, an availability or a subscription: %s", incoming.text)

    def _refuse(self, message: Received, error: EventError) -> None:
        self._status.rejected_sets += 1
        self._status.changed = True
        self._refusal_pace.ask()
        if count := self._refusal_pace.due(now_s()):
            others = f", and {count - 1} more messages before it" if count > 1 else ""
            _log.warning("refused on %.120r: %s%s", message.topic, error.what, others)

    def _accepted(self, row: Row) -> None:
        self._status.published += 1
        if not self._delivery.acks:
            self._writes.delivered(row.event)
        if self._status.link == "event_denied":
            self._denial_backoff.reset()
            self._status.say("connected")
            self._more = True

    def _denied(self, answer: Answered) -> None:
        """Keep the event and try it again later, with growing delays."""
        self._status.denied += 1
        self._status.changed = True
        if self._status.link != "event_denied" or now_s() >= self._send_after_s:  # the first in flight speaks for all
            self._send_after_s = now_s() + self._denial_backoff.next_s(self._uniform())
            what = f"the broker denies {self._topics.event}: {answer.text}; events are kept and tried again"
            self._status.say("event_denied", f"{what}\n  → allow this user to publish there (mosquitto: acl_file)")

    def _request(self, message: Received) -> None:
        key = self._topics.set_key(message.topic)
        if key is not None:
            self._writes.set(key, parse_set(key, message.payload))
        elif message.topic == self._topics.ack:
            ack = parse_ack(message.payload)
            seq = self._delivery.acked(ack)
            if seq > 0:
                self._writes.acknowledged(ack.boot, seq)
                self._ack_wait_s = self._ack_wait_min_s
                self._ack_due_s = now_s() + self._ack_wait_s
        elif message.payload == discovery.BIRTH:
            self._discovery_pace.ask()

    def _write(self, *, last: bool = False) -> None:
        if self._writes.write(now_s(), last=last):
            self._more = self._status.changed = True

    def _look(self, t_s: float) -> None:
        """Notice what vision wrote, another file, a silent consumer, and the time to ask again after a denial."""
        flow = self._delivery
        if self._outbox.changed():
            self._more = self._status.changed = True
        if self._outbox.generation != self._generation:
            self._generation = self._outbox.generation
            flow.rewind()  # row numbers of the old file are not valid any more
        if flow.in_flight:
            return
        if self._status.link == "event_denied" and t_s >= self._send_after_s:
            flow.rewind()
            self._more = True
        elif flow.unacked and t_s > self._ack_due_s:
            flow.rewind()
            self._more = True
            self._ack_wait_s = min(self._ack_wait_s * 2, _ACK_WAIT_MAX_S)

    def _send_events(self, connection: Connection, t_s: float) -> None:
        room = self._delivery.room
        if self._status.link == "event_denied":  # one event is enough to ask whether it is still denied
            room = 1 if t_s >= self._send_after_s and not self._delivery.in_flight else 0
        if not self._more or room == 0:
            return
        rows = self._outbox.pending(room, self._delivery.cursor)
        self._more = len(rows) == room
        for row in rows:
            self._send_event(connection, row, t_s)

    def _send_event(self, connection: Connection, row: Row, t_s: float) -> None:
        event = row.event
        if not self._publish_names and event.name is not UNSET:
            event = msgspec.structs.replace(event, name=UNSET)  # the owner turned names off while it waited
        if is_late(row.born, moment(), self._mqtt.late_after_s):
            event = as_late(event)
        if not self._delivery.in_flight:
            self._answer_due_s = t_s + _STALL_S
        if not self._delivery.unacked:
            self._ack_due_s = t_s + self._ack_wait_s
        self._status.bytes_sent += len(self._topics.event.encode()) + len(payload := encode(event))
        mid = connection.send(self._topics.event, payload, attributes=cloud.attributes(event, self._topics.base))
        self._status.resent += self._delivery.sent(mid, row)

    def _send_state(self, connection: Connection, t_s: float) -> None:
        with self._disk.use():
            state = self._status.message(t_s, moment().wall_ms, settled=not self._delivery.in_flight)
            if state is not None:
                self._send(connection, self._topics.state, state, retain=True)
        if self._announcements.learn(self._status.gauges):
            self._discovery_pace.ask()

    def _tidy(self) -> None:
        self._tidy_s = now_s() + _TIDY_EVERY_S
        with self._disk.use():
            if self._outbox.drop_expired(moment()):
                self._status.changed = True
            self._outbox.tidy()

    def _send_discovery(self, connection: Connection) -> None:
        self._send(connection, self._announcements.topic, self._announcements.description(), retain=True)

    def _take_back(self, connection: Connection) -> None:
        """Empty the retained topics of an earlier name or setting: Home Assistant then removes their entities."""
        with self._disk.use():
            for topic in self._announcements.outdated(self._outbox):
                self._send(connection, topic, b"", retain=True)

    def _send(self, connection: Connection, topic: str, payload: bytes, *, retain: bool = False) -> int:
        self._status.bytes_sent += len(topic.encode()) + len(payload)
        return connection.send(topic, payload, retain=retain)
