"""The process at a real port, which runs while armed, with slow hosts and slow devices."""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import config
from edge.health import Notifier
from edge.processes import provision
from edge.provision.host.cable_client import Client
from edge.provision.protocol import framing, messages, replies
from edge.provision.protocol.code import canonical
from edge.provision.protocol.session import HostSession, Kind, Send
from tests.provision.harness import OnTable, client
from tools.rig.brokers import until


class Line:
    """The host's end of a line with delays."""

    def __init__(self, master: int, delay: Callable[[], None] = lambda: None) -> None:
        self._master, self._delay = master, delay

    def read(self) -> bytes:
        ready, _, _ = select.select([self._master], [], [], 0.2)
        return os.read(self._master, 4096) if ready else b""

    def write(self, data: bytes) -> None:
        self._delay()
        os.write(self._master, data)


class Port:
    """A device at an existing serial port, as on a gadget."""

    def __init__(self, folder: Path) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, True)
        path = folder / "edge.toml"
        path.write_text(f'[device]\nid = "glasses"\ndata_dir = "{folder}"\n[provision]\nport = "{os.ttyname(slave)}"\n')
        settings = config.load(path)
        self.stop = threading.Event()
        self.code, _ = provision.arm(settings)
        self.ended: list[int] = []

        def serve() -> None:
            self.ended.append(provision.run(settings, path, self.stop, Notifier("")))

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        time.sleep(0.3)  # until the port is in raw mode; earlier bytes are echoed
        self._slave = slave

    def close(self) -> None:
        self.stop.set()
        self.thread.join(20)
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path)
    yield made
    made.close()


def test_a_host_may_be_slow_between_its_guess_and_the_proof(port: Port) -> None:
    sent: list[None] = []

    def slowly() -> None:
        sent.append(None)
        time.sleep(0.0 if len(sent) < 3 else 1.0)  # slow from its key share on

    client = Client(Line(port.master, slowly), canonical(port.code), random.Random(1).randbytes, time.monotonic)
    client.connect()
    assert client.call(messages.Info(), replies.DeviceInfo).name == "glasses"
    client.close()
    assert port.ended == []


def test_a_device_may_take_longer_than_a_greeting(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.provision.host.cable_client._GREETING_S", 0.5)
    reads = 0

    class Slow(Line):
        def read(self) -> bytes:
            nonlocal reads
            data = super().read()
            if data:
                reads += 1
                time.sleep(1.0)  # each answer takes longer than the timeout of a greeting
            return data

    client = Client(Slow(port.master), canonical(port.code), random.Random(1).randbytes, time.monotonic)
    client.connect()
    assert reads == len([Kind.WELCOME, Kind.EXCHANGE, Kind.PROOF])
    client.close()


def exchanged(table: OnTable) -> None:
    """Bring a device to the state in which it waits for a proof."""
    host = HostSession(b"WRONGONE", random.Random(1).randbytes)
    answers = framing.Decoder()
    sent = host.start()
    while not table.device.is_busy:
        said = bytearray()
        table.device.feed(framing.encode(sent.payload), said.extend)
        for payload in answers.feed(bytes(said)):
            sent = next(output for output in host.receive(payload) if isinstance(output, Send))


@pytest.mark.parametrize("noise", [b"\0", b"x", framing.encode(b"edge")[:-1]])
def test_bytes_without_a_proof_do_not_keep_the_device_busy(table: OnTable, noise: bytes) -> None:
    exchanged(table)
    began_s = table.clocks.now
    while table.device.is_busy:
        table.clocks.now += 10
        table.device.feed(noise, lambda _: None)
        table.device.tick()
        assert table.clocks.now < began_s + 80, "unauthenticated bytes keep the device waiting"
    assert table.clocks.now > began_s + 50


def test_a_host_with_occasional_requests_stays_connected(table: OnTable) -> None:
    host = client(table)
    host.connect()
    for _ in range(5):
        table.clocks.now += 800
        table.device.tick()
        host.call(messages.Info(), replies.DeviceInfo)
    table.clocks.now += 901
    table.device.feed(b"\0", lambda _: None)
    table.device.tick()
    assert not table.device.is_open


def test_a_host_that_sends_no_proof_is_disconnected(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.provision.device.conversation._PROOF_S", 1.0)

    class Cut(Line):
        def write(self, data: bytes) -> None:
            writes.append(None)
            if len(writes) < 4:  # end of frame, greeting, key share, but no proof
                super().write(data)

    writes: list[None] = []
    monkeypatch.setattr("edge.provision.host.cable_client._ANSWER_S", 0.5)
    monkeypatch.setattr("edge.provision.host.cable_client._GREETINGS", 1)
    client = Client(Cut(port.master), canonical(port.code), random.Random(1).randbytes, time.monotonic)
    with pytest.raises(Exception, match="no device answers"):
        client.connect()
    until(lambda: port.ended == [0], "the process ends: its guess is spent")
