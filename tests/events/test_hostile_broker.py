"""A broker that floods, does not read or does not answer loses its connection, and uses no memory of the device."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.events import client, pending_writes, publisher
from edge.events.flow import Pace
from edge.events.link import Connection, Dialler, LinkError
from edge.events.outbox import Outbox
from tools.rig.publishing import configured, publishing

WELCOME = b"\x20\x02\x00\x00"
TOPIC = b"edge/glasses/recognition/set"


def publish(topic: bytes, payload: bytes, qos: int = 0) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (b"\x00\x01" if qos else b"") + payload
    return bytes([0x30 | qos << 1, len(body)]) + body


@contextlib.contextmanager
def broker(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections of MQTT 3.1.1 one by one: CONNACK, then `talk`; yields the port."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer, contextlib.suppress(OSError):
                    greeting = peer.recv(1000)
                    if b"MQTT\x04" in greeting:
                        peer.sendall(WELCOME)
                        talk(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(20)


@contextlib.contextmanager
def connected(tmp_path: Path, port: int) -> Iterator[Connection]:
    mqtt = configured(tmp_path, port).mqtt
    connection = Dialler(mqtt, client_id="edge-glasses", will_topic="edge/glasses/availability").open(threading.Event())
    with contextlib.closing(connection):
        yield connection


def flooding(packet: bytes) -> Callable[[socket.socket], None]:
    def talk(peer: socket.socket) -> None:
        while True:
            peer.sendall(packet * 100)

    return talk


def turn(connection: Connection) -> None:
    """Run until the connection ends, at most a minute."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        connection.turn(1.0)


def silent(peer: socket.socket) -> None:
    while peer.recv(4096):
        pass


def test_a_message_of_quality_of_service_2_ends_the_connection(tmp_path: Path) -> None:
    with (
        broker(flooding(publish(TOPIC, b"true", qos=2))) as port,
        connected(tmp_path, port) as connection,
        pytest.raises(LinkError, match="QoS 2"),
    ):
        turn(connection)


def test_a_broker_that_floods_and_reads_nothing_is_left(tmp_path: Path) -> None:
    with broker(flooding(publish(TOPIC, b"true", qos=1))) as port, connected(tmp_path, port) as connection:
        ours = connection._client.socket()
        assert isinstance(ours, socket.socket)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)  # a small kernel buffer is soon full
        with pytest.raises(LinkError, match="reads nothing"):
            turn(connection)
        assert len(connection._client._out_packet) <= client._MAX_WAITING_PACKETS


def test_a_broker_that_answers_nothing_is_left(tmp_path: Path) -> None:
    with broker(silent) as port, connected(tmp_path, port) as connection:
        for _ in range(64):
            connection.send("edge/glasses/state", b"{}")
        assert connection.unanswered_s > 0
        with pytest.raises(LinkError, match="answers nothing: 64 messages"):
            connection.send("edge/glasses/state", b"{}")


def test_requests_that_any_client_may_send_are_limited_in_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writes: list[bool] = []
    put_setting = Outbox.put_setting

    def counted(self: Outbox, key: str, value: bool) -> None:
        writes.append(value)
        put_setting(self, key, value)

    monkeypatch.setattr(Outbox, "put_setting", counted)
    received = bytearray()
    over = threading.Event()

    def talk(peer: socket.socket) -> None:
        words = [publish(b"homeassistant/status", b"online"), publish(TOPIC, b"true"), publish(TOPIC, b"false")]
        words.append(publish(TOPIC, b"maybe"))
        for _ in range(2000):
            peer.sendall(b"".join(words))
        peer.sendall(publish(TOPIC, b"true"))
        peer.settimeout(2.0)
        with contextlib.suppress(TimeoutError):
            while more := peer.recv(1 << 16):
                received.extend(more)
        over.set()

    started_s = time.monotonic()
    with broker(talk) as port, publishing(configured(tmp_path, port)):
        assert over.wait(60)
    took_s = time.monotonic() - started_s  # on a busy machine the flood takes longer, and the limits allow more
    discoveries = received.count(b"homeassistant/device/edge-glasses/config")
    assert 1 <= discoveries <= 2 + took_s / publisher._DISCOVERY_EVERY_S
    assert 1 <= len(writes) <= 3 + took_s / pending_writes._WISHES_EVERY_S
    assert writes[-1] is True  # the last request applies
    refusals = [record for record in caplog.records if "refused on" in record.message]
    assert len(refusals) <= 2 + took_s / publisher._REFUSALS_EVERY_S


def test_the_rate_limit_counts_delayed_requests() -> None:
    pace = Pace(5.0)
    assert pace.due(0.0) == 0
    pace.ask()
    assert pace.due(0.0) == 1
    for _ in range(7):
        pace.ask()
    assert pace.due(4.9) == 0
    assert pace.due(5.0) == 7
    assert pace.due(20.0) == 0
