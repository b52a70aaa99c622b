"""What a broker keeps of a device, and how many devices that lost their broker come back, with MQTT 5 and 3.1.1."""

from __future__ import annotations

import contextlib
import heapq
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.config import MqttConfig, parse
from edge.errors import ConfigError
from edge.events.attempts import Attempts
from edge.events.flow import Backoff
from edge.events.link import Answered, Dialler, LinkError, Received
from tools.rig import Missing
from tools.rig.brokers import Consumer, Mosquitto, until

CONNECT, DISCONNECT, PUBLISH = 0x10, 0xE0, 0x30
WELCOME_5 = b"\x20\x03\x00\x00\x00"
WELCOME_3 = b"\x20\x02\x00\x00"
NO_MQTT_5 = b"\x20\x02\x00\x01"  # the answer of a broker of 3.1.1
SESSION_EXPIRY, MAXIMUM_PACKET = 0x11, 0x27


def packet(peer: socket.socket) -> bytes:
    """Read one short packet."""
    head = peer.recv(2, socket.MSG_WAITALL)
    return head + peer.recv(head[1], socket.MSG_WAITALL) if len(head) == 2 else b""


def greeting(connect: bytes) -> tuple[int, bool, int | None]:
    """Return version, whether the start is clean, and the session expiry interval, of a CONNECT."""
    version, flags = connect[8], connect[9]
    if version == 4:
        return version, bool(flags & 2), None
    length, properties = connect[12], connect[13:]
    found: dict[int, int] = {}
    while len(properties) > len(connect) - 13 - length:
        found[properties[0]] = struct.unpack(">I", properties[1:5])[0]
        properties = properties[5:]
    assert found[MAXIMUM_PACKET] == 4096
    return version, bool(flags & 2), found.get(SESSION_EXPIRY)


@contextlib.contextmanager
def broker(talk: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[int, list[bytes]]]:
    """Hand each connection and its CONNECT to `talk`; yields the port, and all CONNECTs that came."""
    server = socket.create_server(("127.0.0.1", 0))
    greetings: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer, contextlib.suppress(OSError):
                    greetings.append(packet(peer))
                    talk(peer, greetings[-1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], greetings
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(20)


def dialler(port: int, expiry_s: int = 60) -> Dialler:
    mqtt = MqttConfig(host="127.0.0.1", port=port)
    return Dialler(mqtt, client_id="edge-one", will_topic="edge/one/availability", session_expiry_s=expiry_s)


def test_a_broker_with_mqtt_5_keeps_the_session_of_a_lost_connection_for_a_while_and_of_a_clean_end_not() -> None:
    farewells: list[bytes] = []

    def talk(peer: socket.socket, _connect: bytes) -> None:
        peer.sendall(WELCOME_5)
        farewells.append(packet(peer))

    with broker(talk) as (port, greetings):
        ours = dialler(port, expiry_s=300)
        ours.open(threading.Event()).close()
        ours.open(threading.Event(), resume=True).close(forget=True)
    assert [greeting(connect) for connect in greetings] == [(5, True, 300), (5, False, 300)]
    lost, ended = farewells
    assert lost[0] == ended[0] == DISCONNECT
    assert SESSION_EXPIRY not in lost[2:]
    assert ended[-5:] == bytes([SESSION_EXPIRY, 0, 0, 0, 0])


def test_without_an_expiry_and_with_3_1_1_nothing_is_kept() -> None:
    def old(peer: socket.socket, connect: bytes) -> None:
        peer.sendall(WELCOME_3 if greeting(connect)[0] == 4 else NO_MQTT_5)
        packet(peer)

    def new(peer: socket.socket, _connect: bytes) -> None:
        peer.sendall(WELCOME_5)
        packet(peer)

    with broker(old) as (port, greetings):
        dialler(port).open(threading.Event(), resume=True).close(forget=True)
    assert greeting(greetings[-1]) == (4, True, None)
    with broker(new) as (port, greetings):
        dialler(port, expiry_s=0).open(threading.Event()).close(forget=True)
    assert greeting(greetings[-1]) == (5, True, 0)


def test_a_broker_of_3_1_1_is_greeted_once_by_a_device_that_returns() -> None:
    upgraded = threading.Event()

    def talk(peer: socket.socket, connect: bytes) -> None:
        version = greeting(connect)[0]
        if upgraded.is_set():
            peer.sendall(WELCOME_5 if version == 5 else NO_MQTT_5)
        else:
            peer.sendall(WELCOME_3 if version == 4 else NO_MQTT_5)
        packet(peer)

    with broker(talk) as (port, greetings):
        ours = dialler(port)
        for _ in range(3):
            ours.open(threading.Event()).close()
        assert [greeting(connect)[0] for connect in greetings] == [5, 4, 4, 4]
        upgraded.set()
        with pytest.raises(LinkError):
            ours.open(threading.Event())
        with contextlib.closing(ours.open(threading.Event())) as connection:
            assert connection.v5, "version 5 is tried again where 3.1.1 is refused"


def test_a_real_broker_hands_over_what_came_while_the_connection_was_lost(tmp_path: Path) -> None:
    try:
        real = Mosquitto(tmp_path)
    except Missing as e:
        pytest.skip(f"skipped: {e}")
    real.start()
    try:
        with Consumer(real.port, device="one") as consumer:
            assert came_while_away(dialler(real.port, expiry_s=60), consumer) == [Received("edge/one/ack", b"{}")]
            assert came_while_away(dialler(real.port, expiry_s=0), consumer) == []
    finally:
        real.kill()


def came_while_away(ours: Dialler, consumer: Consumer) -> list[Received]:
    """Subscribe, lose the connection, have an ack published, and take the session up again."""
    lost = ours.open(threading.Event())
    mid = lost.subscribe(["edge/one/ack"])
    until(lambda: any(isinstance(a, Answered) and a.mid == mid for a in lost.turn(0.1)), "the subscription")
    wire = lost._client.socket()
    assert isinstance(wire, socket.socket)
    wire.shutdown(socket.SHUT_RDWR)
    until(lambda: consumer.availability == b"offline", "the last will")
    consumer.say("edge/one/ack", b"{}")
    with contextlib.closing(ours.open(threading.Event(), resume=True)) as connection:
        connection.send("edge/one/availability", b"online", retain=True)
        came: list[Answered | Received] = []
        while not any(isinstance(a, Answered) for a in came):  # the PUBACK comes behind what was kept
            came += connection.turn(5.0)
        until(lambda: consumer.availability == b"online", "the consumer has seen it")
    consumer.last.clear()
    return [a for a in came if isinstance(a, Received)]


def attempts(devices: int, waits: Callable[[], Backoff], away_s: float, each_second: int) -> tuple[Counter[int], float]:
    """Return how many attempts come in each second after the loss, and when all are back.

    The broker is away for `away_s`, and then accepts `each_second`; an attempt beyond that fails.
    """
    rng = random.Random(3)
    followed = [Attempts(MqttConfig(), f"edge-{n}", waits()) for n in range(devices)]
    error = LinkError("unreachable", "away")
    due = [(one.failed(error, 0.0, rng.random()).delay_s, n) for n, one in enumerate(followed)]
    heapq.heapify(due)
    tried: Counter[int] = Counter()
    accepted: Counter[int] = Counter()
    back_s = 0.0
    while due:
        at_s, number = heapq.heappop(due)
        tried[int(at_s)] += 1
        if at_s >= away_s and accepted[int(at_s)] < each_second:
            accepted[int(at_s)] += 1
            back_s = at_s
        else:
            delay_s = followed[number].failed(error, at_s, rng.random()).delay_s
            heapq.heappush(due, (at_s + delay_s, number))
    return tried, back_s


@pytest.mark.parametrize("away_s", [0.0, 5.0, 120.0])
def test_a_thousand_devices_that_return_do_not_storm(away_s: float) -> None:
    mqtt = MqttConfig(reconnect_s=20.0, reconnect_max_s=60.0)
    tried, back_s = attempts(1000, lambda: Backoff(mqtt.reconnect_s, mqtt.reconnect_max_s), away_s, each_second=100)
    assert max(tried.values()) <= 100, "in no second more than the broker accepts, whose one second is a tenth of all"
    assert back_s <= away_s + 60.0, "all are back within the longest wait"


def test_the_waits_of_one_device_would_be_a_storm_of_a_thousand() -> None:
    tried, _ = attempts(1000, Backoff, 0.0, each_second=100)
    assert tried[0] > 900


def test_waits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="reconnect_s <= reconnect_max_s"):
        parse("[mqtt]\nreconnect_s = 90.0\n", "edge.toml")
