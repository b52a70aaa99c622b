"""Targets of fuzzing: each takes any bytes and checks properties that hold for all of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping

from edge.errors import ProvisionError
from edge.provision.device import control_socket
from edge.provision.protocol import messages
from edge.provision.protocol.framing import Damage, Decoder, encode
from edge.provision.protocol.limits import MAX_PAYLOAD_BYTES
from edge.provision.protocol.session import (
    Alert,
    DeviceSession,
    Ended,
    HostSession,
    Kind,
    Opened,
    Output,
    Received,
    Refusal,
    Send,
    State,
)

CODE = b"K7QM3XPD"


def framing(data: bytes) -> None:
    """Any bytes give payloads and errors, the same when fed one by one; the memory is bounded."""
    whole, piecewise, bytewise = Decoder(), Decoder(), Decoder()
    found = whole.feed(data)
    cut = len(data) // 3
    assert piecewise.feed(data[:cut]) + piecewise.feed(data[cut:]) == found
    assert [f for i in range(len(data)) for f in bytewise.feed(data[i : i + 1])] == found
    assert len(whole._held) <= MAX_PAYLOAD_BYTES + 1000
    for payload in found:
        if isinstance(payload, bytes):
            assert Decoder().feed(encode(payload)) == [payload]


class _Sessions:
    """Open sessions of both kinds, made once: a handshake takes a hundred times as long as a fuzz input."""

    def __init__(self) -> None:
        rng = random.Random(1)
        self._refusal: Refusal | None = None
        self.host = HostSession(CODE, rng.randbytes)
        self.device = DeviceSession(lambda: CODE, rng.randbytes, self._spend, lambda: None)
        outputs: list[Output] = [self.host.start()]
        end: DeviceSession | HostSession = self.device
        while self.host.state is not State.OPEN:
            (send,) = (o for o in outputs if isinstance(o, Send))
            outputs = end.receive(send.payload)
            end = self.host if end is self.device else self.device
        self._refusal = Refusal(Alert.NOT_ARMED)  # a key exchange takes milliseconds, too long for fuzzing

    def _spend(self) -> Refusal | None:
        return self._refusal

    def reopened(self) -> tuple[HostSession, DeviceSession]:
        return copy.copy(self.host), copy.copy(self.device)


_sessions: list[_Sessions] = []


def session(data: bytes) -> None:
    """Payloads without the keys open nothing, reveal nothing and raise nothing, in any state."""
    if not _sessions:
        _sessions.append(_Sessions())
    host, device = _sessions[0].reopened()
    rng = random.Random(data[:1])
    fresh_device = DeviceSession(lambda: CODE, rng.randbytes, lambda: Refusal(Alert.NOT_ARMED), lambda: None)
    fresh_host = HostSession(CODE, rng.randbytes)
    fresh_host.state = State.GREETED
    payloads: list[bytes | Damage] = [p for p in data.split(b"\xff\xff") if p] or [Damage.CHECKSUM]
    for end in (host, device, fresh_host, fresh_device):
        for payload in payloads:
            for output in end.receive(payload):
                assert not isinstance(output, Received | Opened)
                if isinstance(output, Send):
                    assert len(output.payload) < 64
                    assert output.payload[0] in {Kind.WELCOME, Kind.EXCHANGE, Kind.ALERT}
                else:
                    assert isinstance(output, Ended)
                    assert isinstance(output.alert, Alert)
        assert len(end._transcript) <= 4


def requests(data: bytes) -> None:
    """Any bytes are a request within its limits, or the declared error."""
    _decoded(data, messages.decode_request)


def replies(data: bytes) -> None:
    """Any bytes are a reply within its limits, or the declared error."""
    _decoded(data, messages.decode_reply)


def control_requests(data: bytes) -> None:
    """Any bytes are a control request within its limits, or the declared error."""
    _decoded(data, lambda raw: control_socket.decode_request(bytearray(raw)))


def _decoded(data: bytes, decode: Callable[[bytes], object]) -> None:
    try:
        message = decode(data)
    except ProvisionError:
        return
    assert type(message).__struct_fields__ is not None  # type: ignore[attr-defined]


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "framing": framing,
    "session": session,
    "requests": requests,
    "replies": replies,
    "control": control_requests,
}
