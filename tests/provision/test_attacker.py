"""An attacker between host and device, on a real pty, who listens, changes, delays, repeats or forges gains nothing."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.provision.host.cable_client import Client, DeviceError
from edge.provision.protocol import framing, messages
from edge.provision.protocol.fields import Message
from edge.provision.protocol.port import PtyPort, SerialPort
from edge.provision.protocol.replies import DeviceInfo, Done, Enrolled, Person, Progress
from edge.provision.protocol.session import Kind
from tests.provision.harness import CODE, OnTable, photos_of_man, send_all

NAME = "Wilhelmina Harker"
PASSWORD = "correct horse battery staple"  # noqa: S105
Attack = Callable[[str, int, bytes], list[bytes]]  # (direction, number of the payload, payload) → payloads instead


def honest(_direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload]


class Middle:
    """Two pseudo-terminals with the attacker between them; the device's loop runs at the second."""

    def __init__(self, table: OnTable, folder: Path, attack: Attack) -> None:
        self.trace = bytearray()
        self._attack = attack
        self._table = table
        self._host_side = PtyPort(folder / "host")
        self._device_side = PtyPort(folder / "device")
        self._port = SerialPort(str(folder / "device"))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=loop) for loop in (self._device_loop, self._carry)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for port in (self._port, self._device_side, self._host_side):
            port.close()

    def _device_loop(self) -> None:
        while not self._over.is_set():
            if data := self._port.read():
                self._table.device.feed(data, self._port.write)

    def _carry(self) -> None:
        ways = {
            "to device": (self._host_side, self._device_side, framing.Decoder(), [0]),
            "to host": (self._device_side, self._host_side, framing.Decoder(), [0]),
        }
        for port in (self._host_side, self._device_side):
            os.set_blocking(port._master, False)
        while not self._over.is_set():
            for direction, (source, target, decoder, count) in ways.items():
                try:
                    data = os.read(source._master, 1 << 16)
                except BlockingIOError:
                    time.sleep(0.0005)  # no bytes in this direction yet
                    continue
                self.trace += data
                for payload in decoder.feed(data):
                    if isinstance(payload, bytes):
                        for instead in self._attack(direction, count[0], payload):
                            target.write(framing.encode(instead))
                        count[0] += 1


@contextmanager
def middle(
    table: OnTable, folder: Path, attack: Attack = honest, code: bytes = CODE
) -> Iterator[tuple[Middle, Client]]:
    with ExitStack() as stack:
        between = stack.enter_context(closing(Middle(table, folder, attack)))
        port = stack.enter_context(closing(SerialPort(str(folder / "host"))))
        yield between, Client(port, code, random.Random(5).randbytes, time.monotonic)


def test_a_complete_session_shows_a_listener_no_secret_no_name_and_no_photo(table: OnTable, tmp_path: Path) -> None:
    photo = photos_of_man(1)[0]
    with middle(table, tmp_path) as (between, host):
        host.connect()
        host.call(messages.SetMqtt(host="broker.lan", username="mina", password=PASSWORD), Done)
        host.call(messages.EnrolBegin(name=NAME, source="photos"), Progress)
        assert send_all(host, [photo])[0].accepted == 1
        person: Person = host.call(messages.EnrolFinish(), Enrolled).person
        assert host.call(messages.Info(), DeviceInfo).people == 1
    assert len(between.trace) > len(photo)
    heard = unstuffed(between.trace)
    windows = [photo[i : i + 12] for i in range(0, len(photo) - 12, 200)]
    for secret in (CODE, PASSWORD.encode(), NAME.encode(), person.id.encode(), b"broker.lan", b"mina", *windows):
        assert secret not in heard
        assert secret not in between.trace


def unstuffed(trace: bytes | bytearray) -> bytes:
    return b"".join(p for p in framing.Decoder().feed(bytes(trace)) if isinstance(p, bytes))


def test_a_wrong_code_gets_one_try_per_arming_and_no_data_of_the_device(table: OnTable, tmp_path: Path) -> None:
    with middle(table, tmp_path, code=b"00000000") as (between, host):
        with pytest.raises(DeviceError, match="code is not this device's"):
            host.connect()
        with pytest.raises(DeviceError, match="not armed"):
            host.connect()
    assert b"glasses" not in unstuffed(between.trace)
    with middle(table, tmp_path) as (_, host), pytest.raises(DeviceError, match="not armed"):
        host.connect()  # even with the right code: the owner sees that somebody has tried


def sealed(payload: bytes) -> bool:
    return payload[0] == Kind.SEALED


def repeat(direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload] * (1 + (direction == "to device" and sealed(payload)))


def flip(direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload[:-1] + bytes([payload[-1] ^ 1])] if direction == "to device" and sealed(payload) else [payload]


def flip_back(direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload[:-1] + bytes([payload[-1] ^ 1])] if direction == "to host" and sealed(payload) else [payload]


def cut_short(direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload[:-4]] if sealed(payload) else [payload]


def exchange_a_share(direction: str, _number: int, payload: bytes) -> list[bytes]:
    """Impersonate both ends to each other, without the code."""
    if payload[0] == Kind.EXCHANGE:
        return [bytes([payload[0], payload[1]]) + bytes(31) + b"\x01"]
    return [payload]


def lie_about_the_version(direction: str, _number: int, payload: bytes) -> list[bytes]:
    return [payload[:2] + b"\x02\x00\x01" + payload[4:]] if payload[0] == Kind.WELCOME else [payload]


class Hold:
    """Delay a request until the next one has passed."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def __call__(self, direction: str, _number: int, payload: bytes) -> list[bytes]:
        if direction == "to host" or not sealed(payload):
            return [payload]
        self._held.insert(0, payload)
        return [] if len(self._held) < 2 else self._held


class Reflect:
    """Return the host's own request as the device's answer."""

    def __call__(self, direction: str, _number: int, payload: bytes) -> list[bytes]:
        if direction == "to device":
            self._last = payload
            return [payload]
        return [self._last] if sealed(payload) else [payload]


@pytest.mark.parametrize(
    "attack",
    [flip, flip_back, cut_short, exchange_a_share, lie_about_the_version, Hold(), Reflect()],
    ids=lambda a: getattr(a, "__name__", type(a).__name__),
)
def test_changed_messages_are_refused_and_have_no_effect(table: OnTable, tmp_path: Path, attack: Attack) -> None:
    requests: list[Message] = [messages.SetName(name="stolen"), messages.SetPrivacy(publish_names=True)]
    with middle(table, tmp_path, attack) as (_, host), pytest.raises(EdgeError):
        ask(host, *requests)
    # Where only answers are changed, the device has executed the first request; the conversation ends after it.
    heard = attack == flip_back or isinstance(attack, Reflect)
    assert table.config.device.id == ("stolen" if heard else "glasses")
    assert heard or not table.config.privacy.publish_names


def ask(host: Client, *requests: Message) -> None:
    """Send several requests at once, as a host does with chunks."""
    host.connect()
    for reply in host.stream(iter(requests)):
        assert isinstance(reply, Done | DeviceInfo | Progress)


def test_a_repeated_request_is_done_once_and_ends_the_conversation(table: OnTable, tmp_path: Path) -> None:
    with middle(table, tmp_path, repeat) as (_, host), pytest.raises(EdgeError):
        ask(host, messages.EnrolBegin(name=NAME, source="photos"), messages.Info())
    assert not table.device.is_open


def test_a_conversation_recorded_yesterday_opens_nothing_today(table: OnTable, tmp_path: Path) -> None:
    recorded: list[bytes] = []

    def record(direction: str, _number: int, payload: bytes) -> list[bytes]:
        if direction == "to device":
            recorded.append(payload)
        return [payload]

    with middle(table, tmp_path, record) as (_, host):
        host.connect()
        host.call(messages.SetName(name="kitchen"), Done)
        host.call(messages.SetName(name="hall"), Done)
        host.call(messages.SetName(name="attic"), Done)
    table.restart()
    table.device._session._random = random.Random(99).randbytes
    answers: list[bytes] = []
    for payload in recorded[:-2]:
        table.device.feed(framing.encode(payload), answers.append)
    assert table.config.device.id == "attic"
    assert not table.device.is_open
