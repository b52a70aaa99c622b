"""paho's client with limits: neither packets of a broker nor packets that it does not read can fill the memory.

paho reads packets of up to 256 MB, keeps up to 65,535 messages of QoS 2 until they are released, and queues answers
without end for a broker that does not read them.
"""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.events import cloud

MAX_INCOMING_BYTES = 4096  # asked of a v5 broker, and held against any: the longest valid request is far shorter
_MAX_WAITING_PACKETS = 256  # of at most 2.5 KB each; 20 events, their answers and a greeting are far fewer
_PUBLISH = 0x30
_QOS_2 = 0x04


_NOT_AUTHORISED = 0x87
CLOSED = "the broker has closed it"
_ENDED: dict[int, str] = {
    paho.MQTT_ERR_CONN_LOST: CLOSED,
    paho.MQTT_ERR_KEEPALIVE: "the broker has answered no ping",
    paho.MQTT_ERR_PROTOCOL: "the broker sent what is not MQTT",
}


def ended(code: int) -> str:
    """Return why a connection is over, for an error of paho's loop."""
    return _ENDED.get(code, "the connection has ended")


def words(reason: ReasonCode) -> str:
    """Return what the broker answers to a message or a subscription: its access list speaks, mostly."""
    return "not authorised" if reason.value == _NOT_AUTHORISED else str(reason).lower()


class LongPacketError(Exception):
    """A packet's length is beyond the limit."""

    def __init__(self, length_bytes: int, topic: str) -> None:
        super().__init__(length_bytes, topic)
        self.length_bytes, self.topic = length_bytes, topic


class MisbehavedError(Exception):
    """The broker violates the protocol; the text says how."""


class BoundedClient(paho.Client):
    """Raises LongPacketError or MisbehavedError from `loop` and `publish`; the connection is of no use then."""

    def _sock_recv(self, bufsize: int) -> bytes:
        packet = self._in_packet
        length_bytes = packet["remaining_length"] if packet["have_remaining"] else 0
        if packet["command"] & 0xF0 == _PUBLISH and packet["command"] & _QOS_2:
            raise MisbehavedError("it sent a message of QoS 2, and was asked for QoS 1")
        if length_bytes > MAX_INCOMING_BYTES:
            head = bytes(packet["packet"])
            end = 2 + int.from_bytes(head[:2], "big") if packet["command"] & 0xF0 == _PUBLISH else 0
            if len(head) >= min(end, MAX_INCOMING_BYTES):
                raise LongPacketError(length_bytes, head[2:end].decode("utf-8", "replace"))
            bufsize = min(bufsize, MAX_INCOMING_BYTES)
        return super()._sock_recv(bufsize)

    def _packet_queue(self, *arguments: Any, **named: Any) -> Any:
        if len(self._out_packet) >= _MAX_WAITING_PACKETS:
            raise MisbehavedError(f"it reads nothing: {_MAX_WAITING_PACKETS} packets wait for it")
        return super()._packet_queue(*arguments, **named)


def connect_properties(session_expiry_s: int) -> Properties:
    """Return the properties of a CONNECT: the longest packet, s for which the session outlives its connection."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_INCOMING_BYTES
    properties.SessionExpiryInterval = session_expiry_s
    return properties


def ending_properties() -> Properties:
    """Return the properties of a DISCONNECT after which the broker keeps nothing of the session."""
    properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0
    return properties


def cloud_properties(attributes: cloud.Attributes) -> Properties:
    """Return the properties of a PUBLISH that carries CloudEvents attributes."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = cloud.CONTENT_TYPE
    properties.UserProperty = list(attributes)
    return properties
