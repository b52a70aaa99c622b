"""Real brokers (amqtt from pip, mosquitto where installed), and a consumer of events."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.events.event import Event, decode
from edge.events.messages import State
from tools.ledger import Ledger
from tools.rig import Missing

_TAKEN: list[socket.socket] = []  # kept open
_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def until(condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
    """Wait for a condition; raises AssertionError with `what` after the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {deadline_s:.0f} s in vain: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@cache
def silent_port() -> int:
    """Return a port of this machine that refuses connections during the life of this process.

    The port is bound but not listened on, so no broker can use it: no message of a test can reach one.
    """
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _TAKEN.append(taken)
    port: int = taken.getsockname()[1]
    return port


class Broker:
    """A broker process that keeps its port over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environ: dict[str, str] = {}  # what it needs beside ours
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the broker, and wait until it accepts connections."""
        with (self.folder / "broker.log").open("ab") as log:
            environ = {**os.environ, **self.environ}
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environ)
        until(self._answers, "the broker takes connections")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "broker.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """Kill the broker, like a power failure."""
        self.end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def reload(self) -> None:
        """Make the broker reload passwords and ACLs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)


class Amqtt(Broker):
    """amqtt: MQTT 3.1.1 only, without persistence."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", _AMQTT, str(self.port)]


class Mosquitto(Broker):
    """mosquitto with MQTT 5; `lines` of its configuration follow the listener."""

    def __init__(self, folder: Path, *lines: str) -> None:
        super().__init__(folder)
        self._binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if self._binary is None:
            raise Missing("mosquitto is not installed (apt install mosquitto)")
        user = ["user root"] if os.geteuid() == 0 else []  # else it could not read the test's folder
        text = [*user, f"listener {self.port} 127.0.0.1", *(lines or ["allow_anonymous true"])]
        (folder / "mosquitto.conf").write_text("\n".join(text) + "\n")

    def command(self) -> list[str]:
        assert self._binary is not None
        return [self._binary, "-c", str(self.folder / "mosquitto.conf")]


def password_lines(folder: Path, users: dict[str, str]) -> list[str]:
    """Write a password file for mosquitto; returns its configuration lines. Raises Missing without mosquitto."""
    if (tool := shutil.which("mosquitto_passwd")) is None:
        raise Missing("mosquitto_passwd is not installed (apt install mosquitto)")
    plain = folder / "users"
    plain.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
    plain.chmod(0o600)
    subprocess.run([tool, "-U", str(plain)], check=True)
    return ["allow_anonymous false", f"password_file {plain}"]


class Consumer:
    """Receives all topics of one device as docs/events.md describes: deduplicates, and acks up to a gap."""

    def __init__(
        self,
        port: int,
        *,
        device: str = "glasses",
        acks: bool = False,
        login: tuple[str, str] | None = None,
        tls: tuple[Path, Path, Path] | None = None,  # CA, certificate, key
    ) -> None:
        self.base = f"edge/{device}"
        self.received: list[Event] = []  # with duplicates
        self.new: list[Event] = []  # without
        self.last: dict[str, bytes] = {}  # topic → newest payload
        self._acks = acks
        self._ledger = Ledger()
        self._ready = threading.Event()
        self._port = port
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"consumer-{device}", protocol=paho.MQTTv311, clean_session=False
        )
        if login is not None:
            self.client.username_pw_set(*login)
        if tls is not None:
            self.client.tls_set(ca_certs=str(tls[0]), certfile=str(tls[1]), keyfile=str(tls[2]))
        self.client.reconnect_delay_set(min_delay=0.05, max_delay=0.2)  # type: ignore[arg-type]  # fractions work
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._on_message

    def __enter__(self) -> Self:
        self.client.connect_async("127.0.0.1", self._port)
        self.client.loop_start()
        assert self._ready.wait(20), "the consumer could not subscribe"
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(f"{self.base}/#", 1), ("homeassistant/#", 1)])

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic != f"{self.base}/event":
            self.last[message.topic] = payload
            if self._acks and message.topic == f"{self.base}/state" and self.state.publisher.oldest is not None:
                self._ledger.will_not_come(self.state.publisher.oldest)
                self._ack(self.state.publisher.oldest.boot)
            return
        if not payload:
            return  # `edge-daemon doctor` asks whether the device may publish there
        event = decode(payload)
        self.received.append(event)
        if self._ledger.receive(event):
            self.new.append(event)
        if self._acks:
            self._ack(event.boot)

    def _ack(self, boot: str) -> None:
        self.client.publish(f"{self.base}/ack", msgspec.json.encode(self._ledger.ack(boot)), qos=1)

    @property
    def availability(self) -> bytes | None:
        return self.last.get(f"{self.base}/availability")

    @property
    def state(self) -> State:
        return msgspec.json.decode(self.last[f"{self.base}/state"], type=State)

    @property
    def has_state(self) -> bool:
        return f"{self.base}/state" in self.last

    def say(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Publish a message and wait until the broker has confirmed it."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)
