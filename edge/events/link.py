"""One MQTT connection over paho: messages become plain values, faults become LinkError. No decisions are made here.

Each attempt is a fresh client, and the device keeps no session: the outbox says what is to be sent. With MQTT 5 the
broker may keep its half for a while, with the acks and settings that come meanwhile. MQTT 3.1.1 cannot limit that time,
so its sessions are clean.
"""

from __future__ import annotations

import contextlib
import queue
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttConfig
from edge.errors import PublisherError
from edge.events.client import (
    CLOSED,
    MAX_INCOMING_BYTES,
    BoundedClient,
    LongPacketError,
    MisbehavedError,
    cloud_properties,
    connect_properties,
    ended,
    ending_properties,
    words,
)
from edge.events.cloud import Attributes
from edge.events.credentials import Credentials, credentials
from edge.events.messages import Link
from edge.events.refusals import UNSUPPORTED_PROTOCOL, Advice, advice, no_greeting, unreachable

WINDOW = 20  # messages in flight; more stall a default mosquitto
_DIAL_S = 15.0  # name resolution, TCP and TLS together
_CONNACK_S = 10.0
_CONNACK_V5_S = 2.0  # a broker of 3.1.1 may not answer at all (amqtt); a slow one is tried again with 3.1.1
_V5_AGAIN_S = 3600.0  # time until version 5 is tried again on a broker that does not speak it
_POLL_S = 0.1  # longest reaction to a stop while dialling
_MAX_UNANSWERED = 64  # own messages; with more the connection counts as lost


class LinkError(PublisherError):
    """The connection failed or was lost. `link` is the reason in one word.

    `slow`: the broker will refuse again. `unexplained`: it has closed the connection without a reason.
    """

    unexplained = False

    def __init__(self, link: Link, what: str, remedy: str = "", *, slow: bool = False) -> None:
        super().__init__(what, remedy)
        self.link: Link = link
        self.slow = slow

    @classmethod
    def advised(cls, where: str, advice: Advice) -> Self:
        """Return the error for the advice on a refusal or on a failed connection attempt."""
        return cls(advice.link, f"{where}: {advice.what}", advice.remedy, slow=advice.slow)


class TooLongError(LinkError):
    """The broker sends a packet longer than the limit. `topic` is its topic, or the part of it that was read."""

    def __init__(self, what: str, topic: str) -> None:
        super().__init__("lost", what, "empty the retained message there, and see who may publish to this device")
        self.topic = topic


class _NoMqtt5Error(LinkError):
    """The broker did not answer an MQTT 5 greeting as one that speaks it would.

    `certain`: it said that it does not speak it, or did not answer at all. It may also have hung up for another reason.
    """

    certain = False


class Answered(NamedTuple):
    """The broker's PUBACK or SUBACK; a `code` of 0x80 and more is a refusal."""

    mid: int
    code: int
    text: str


class Received(NamedTuple):
    """A message on a topic we subscribe to."""

    topic: str
    payload: bytes


def _event_window(receive_maximum: int) -> int:
    """Return how many events may be in flight: paho's limit, less the messages sent at a connection's start."""
    return WINDOW if receive_maximum >= WINDOW else max(1, receive_maximum - 4)


class Dialler:
    """Opens connections: with MQTT 5 or, where the broker does not support it, with 3.1.1.

    Only version 5 distinguishes a denied event from a delivered one, so it is tried first. A broker that does not speak
    it is greeted with 3.1.1 for an hour: a second greeting each time doubles the work of a broker to which many devices
    return, and a broker that does not answer costs 2 s. `waiting` is called during all of this.
    `session_expiry_s`: how long a broker with version 5 keeps the session of a lost connection.
    """

    def __init__(
        self,
        mqtt: MqttConfig,
        *,
        client_id: str,
        will_topic: str | None,
        session_expiry_s: int = 0,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._mqtt = mqtt
        self._session_expiry_s = session_expiry_s
        self._waiting = waiting
        self._client_id = client_id
        self._will_topic = will_topic
        self._v5_from_s = 0.0

    def open(self, stop: threading.Event, *, resume: bool = False) -> Connection:
        """Return a connection that the broker accepted; raises LinkError, or PublisherError about a file.

        `resume`: take up the session that the broker may have kept; otherwise it forgets it.
        """
        known = credentials(self._mqtt)
        if time.monotonic() < self._v5_from_s:
            return self._with_3(known, stop)
        try:
            return self._attempt(known, stop, v5=True, resume=resume)
        except _NoMqtt5Error as e:
            certain = e.certain
        connection = self._attempt(known, stop, v5=False)
        if certain:
            self._v5_from_s = time.monotonic() + _V5_AGAIN_S
        return connection

    def _with_3(self, known: Credentials, stop: threading.Event) -> Connection:
        """Greet with 3.1.1; a broker that is there and does not accept may be another one: version 5 is tried next."""
        try:
            return self._attempt(known, stop, v5=False)
        except LinkError as e:
            if e.link != "unreachable":
                self._v5_from_s = 0.0
            raise

    def _attempt(self, known: Credentials, stop: threading.Event, *, v5: bool, resume: bool = False) -> Connection:
        connection = Connection(
            self._mqtt,
            known,
            client_id=self._client_id,
            will_topic=self._will_topic,
            session=Session(v5=v5, expiry_s=self._session_expiry_s, resume=resume),
        )
        try:
            connection.dial(stop, self._waiting)
            connection.greet(stop, self._waiting)
        except LinkError:
            connection.close()
            raise
        return connection


class Session(NamedTuple):
    """The version of MQTT and, with version 5, what the broker keeps: for how long, s, and whether of before."""

    v5: bool
    expiry_s: int = 0
    resume: bool = False


class Connection:
    """One connection; usable once `dial` and `greet` have returned."""

    def __init__(
        self, mqtt: MqttConfig, known: Credentials, *, client_id: str, will_topic: str | None, session: Session
    ) -> None:
        self.v5 = v5 = session.v5
        self._session = session
        self.window = WINDOW
        self._mqtt = mqtt
        self._inbox: deque[Answered | Received] = deque()
        self._connack: int | None = None  # reason code
        self._gone = ""  # why the connection ended; empty: it did not
        self._hung_up: int | None = None  # reason code of the broker's DISCONNECT
        self._too_long: TooLongError | None = None
        self._unanswered: dict[int, float] = {}  # message id → when it was sent
        client = BoundedClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if v5 else True,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
            reconnect_on_failure=False,  # also keeps paho from falling back to MQTT 3.1 by itself
        )
        if will_topic is not None:
            client.will_set(will_topic, b"offline", qos=1, retain=True)
        client.max_inflight_messages_set(WINDOW)
        if mqtt.username:
            client.username_pw_set(mqtt.username, known.password)
        if known.tls is not None:
            client.tls_set_context(known.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_answer
        client.on_subscribe = self._on_suback
        client.on_message = self._on_message
        self._client = client

    def dial(self, stop: threading.Event, waiting: Callable[[], None]) -> None:
        """Connect TCP and TLS in a thread: name resolution cannot be interrupted, and a stop must not wait for it."""
        outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def connect() -> None:
            try:
                self._client.connect(
                    self._mqtt.host,
                    self._mqtt.port,
                    self._mqtt.keepalive_s,
                    clean_start=not self._session.resume if self.v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                    properties=connect_properties(self._session.expiry_s) if self.v5 else None,
                )
            except (OSError, ValueError) as e:
                outcome.put(e)
            else:
                outcome.put(None)

        threading.Thread(target=connect, name="mqtt-dial", daemon=True).start()
        deadline_s = time.monotonic() + _DIAL_S
        while True:
            try:
                error = outcome.get(timeout=_POLL_S)
                break
            except queue.Empty:
                waiting()
                if stop.is_set() or time.monotonic() > deadline_s:
                    error = TimeoutError("no answer in time")
                    break
        if error is not None:
            raise LinkError.advised(self._where, unreachable(error, tls=self._mqtt.tls))

    @property
    def _where(self) -> str:
        return f"broker {self._mqtt.host}:{self._mqtt.port}"

    def greet(self, stop: threading.Event, waiting: Callable[[], None]) -> None:
        """Wait for the broker's answer to our CONNECT; raises LinkError."""
        deadline_s = time.monotonic() + (_CONNACK_V5_S if self.v5 else _CONNACK_S)
        while self._connack is None and not self._gone and not stop.is_set() and time.monotonic() < deadline_s:
            self._loop(_POLL_S)
            waiting()
        if self._connack is None:
            found = no_greeting(self._gone, tls=self._mqtt.tls)
            if not self.v5 or stop.is_set():
                raise LinkError.advised(self._where, found)
            error = _NoMqtt5Error.advised(self._where, found)
            error.certain = not self._gone
            raise error
        if self._connack == UNSUPPORTED_PROTOCOL and self.v5:
            error = _NoMqtt5Error("refused", f"{self._where}: does not speak MQTT 5")
            error.certain = True
            raise error
        if self._connack >= 0x80:
            raise LinkError.advised(f"{self._where} refuses the connection", advice(self._connack))

    def turn(self, timeout_s: float) -> list[Answered | Received]:
        """Wait up to `timeout_s` for traffic and return it; raise LinkError once all earlier messages were returned."""
        if not self._gone:
            self._loop(timeout_s)
        arrived = list(self._inbox)
        self._inbox.clear()
        if not arrived and self._too_long:
            raise self._too_long
        if not arrived and self._gone:
            raise self._lost()
        return arrived

    def _loop(self, timeout_s: float) -> None:
        try:
            code = self._client.loop(timeout_s)
        except LongPacketError as e:
            self._gone = f"it sent a packet of {e.length_bytes} bytes, the limit is {MAX_INCOMING_BYTES}"
            if e.topic:
                what = f"{self._where}: {e.length_bytes} bytes on {e.topic[:120]!r}, the limit is {MAX_INCOMING_BYTES}"
                self._too_long = TooLongError(what, e.topic)
            return
        except MisbehavedError as e:
            self._gone = str(e)
            return
        except (OSError, ValueError, IndexError, KeyError, struct.error, MQTTException) as e:
            self._gone = f"it sent what is not MQTT ({e})"  # paho does not catch its parser's errors
            return
        if code != paho.MQTT_ERR_SUCCESS:
            self._gone = self._gone or ended(code)

    def send(self, topic: str, payload: bytes, *, retain: bool = False, attributes: Attributes = ()) -> int:
        """Send a QoS 1 message and return its id; raise LinkError if too many of our messages are unanswered."""
        try:
            if len(self._unanswered) >= _MAX_UNANSWERED:
                raise MisbehavedError(f"it answers nothing: {_MAX_UNANSWERED} messages wait for it")
            properties = cloud_properties(attributes) if self.v5 and attributes else None
            mid = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        except MisbehavedError as e:
            self._gone = str(e)
            raise self._lost() from None
        self._unanswered.setdefault(mid, time.monotonic())
        return mid

    @property
    def unanswered_s(self) -> float:
        """Age of the oldest own message without an answer, s; 0 where the broker has answered all."""
        return time.monotonic() - min(self._unanswered.values()) if self._unanswered else 0.0

    def _lost(self) -> LinkError:
        if self._hung_up is not None and self._hung_up >= 0x80:
            return LinkError.advised(f"{self._where} hangs up", advice(self._hung_up))
        lost = LinkError("lost", f"{self._where}: connection lost: {self._gone}", "it is tried again by itself")
        lost.unexplained = self._gone == CLOSED
        return lost

    def subscribe(self, topics: list[str]) -> int | None:
        """Subscribe to these topics at QoS 1 and return the id of the request."""
        return self._client.subscribe([(topic, 1) for topic in topics])[1]

    def close(self, *, forget: bool = False) -> None:
        """Disconnect, so that the broker does not send the last will, and close the socket.

        `forget`: the broker forgets the session too.
        """
        with contextlib.suppress(MisbehavedError):
            self._client.disconnect(properties=ending_properties() if forget and self._session.expiry_s else None)
        if self._client.socket() is not None and not self._gone:
            self._loop(0.0)
        if (left := self._client.socket()) is not None:
            left.close()  # paho keeps the socket if the connection ended with an exception

    def _on_connect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._connack = reason.value
        self.window = _event_window(getattr(properties, "ReceiveMaximum", WINDOW))

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, flags: paho.DisconnectFlags, reason: ReasonCode, _props: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._hung_up = reason.value
        self._gone = self._gone or CLOSED

    def _on_answer(self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _props: Any) -> None:
        self._unanswered.pop(mid, None)
        self._inbox.append(Answered(mid, reason.value, words(reason)))

    def _on_suback(
        self, _client: paho.Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _props: Any
    ) -> None:
        worst = max(reasons, key=lambda reason: reason.value)
        self._inbox.append(Answered(mid, worst.value, words(worst)))

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # not MQTT; no topic of ours
        self._inbox.append(Received(topic, bytes(message.payload)))
