"""The interop matrix: what the real publisher needs of a broker, tried on each. `python -m tools.fleet interop`.

The publisher runs as `edge-daemon publish` does, in a process of its own. A second client watches, and acknowledges.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge import config
from edge.config import Config
from edge.events.backlog import Backlog, new_boot
from edge.events.event import Event, decode
from edge.events.messages import Ack
from edge.events.moments import moment
from edge.events.outbox import Outbox
from tools.fleet.brokers import BROKERS, Place, version
from tools.rig import Missing
from tools.rig.brokers import until

CHECKS = ("connect", "auth", "retained", "will", "QoS 1", "acks", "3.1.1 fallback")
GREEN = "green"
_DEVICE = "interop"
_WAIT_S = 60.0  # a small or busy machine takes its time
_RETAINED = {"state", "availability"}
_NO_MQTT_5 = b"\x20\x02\x00\x01"  # CONNACK of 3.1.1: unacceptable protocol version
_CLIENTS = itertools.count(1)


class Watcher:
    """A client of MQTT 3.1.1, which every broker speaks: sees what the device sends, and can acknowledge.

    `parts`: subscribe to these topics of the device alone, one by one.
    """

    def __init__(self, place: Place, *parts: str) -> None:
        self.events: list[Event] = []
        self.last: dict[str, bytes] = {}  # last part of the topic → newest payload
        self.retained: set[str] = set()  # parts that came retained
        self._place, self._ready = place, threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"watcher-{next(_CLIENTS)}", protocol=paho.MQTTv311
        )
        self._client.username_pw_set(place.user, place.password)
        topics = [(f"edge/{_DEVICE}/{part}", 1) for part in parts or ("#",)]
        self._client.on_connect = lambda client, *_: client.subscribe(topics)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._received

    def __enter__(self) -> Self:
        self._client.connect(self._place.host, self._place.port)
        self._client.loop_start()
        if not self._ready.wait(_WAIT_S):
            raise AssertionError("the watcher cannot subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        part, payload = message.topic.rpartition("/")[2], bytes(message.payload)
        if part == "event" and payload:
            self.events.append(decode(payload))
        else:
            self.last[part] = payload
            if message.retain:
                self.retained.add(part)

    def ack(self, event: Event) -> None:
        """Acknowledge this event, and all before it."""
        payload = msgspec.json.encode(Ack(boot=event.boot, seq=event.seq))
        self._client.publish(f"edge/{_DEVICE}/ack", payload, qos=1).wait_for_publish(_WAIT_S)


class Device:
    """The outbox of one device and, while `publishing`, its real publisher."""

    def __init__(self, folder: Path, place: Place, *, acks: bool, password: str | None = None) -> None:
        folder.mkdir()
        self._folder = folder
        secret = folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(place.password if password is None else password, encoding="utf-8")
        text = (
            f'[device]\nid = "{_DEVICE}"\ndata_dir = "{folder}"\n[mqtt]\nhost = "{place.host}"\nport = {place.port}\n'
            f'username = "{place.user}"\npassword_file = "{secret}"\nacks = {str(acks).lower()}\ndiscovery = false\n'
        )
        (folder / "edge.toml").write_text(text, encoding="utf-8")
        self._config: Config = config.parse(text, "edge.toml")

    @contextlib.contextmanager
    def publishing(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the publisher; it is killed at the end."""
        command = [sys.executable, "-m", "edge.cli.daemon", "publish", "--config", str(self._folder / "edge.toml")]
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def see(self, count: int) -> None:
        """Write events, as vision does."""
        path = self._config.data.outbox
        with contextlib.closing(
            Backlog(path, device=_DEVICE, boot=new_boot(), max_events=1000, max_age_s=1e6)
        ) as backlog:
            for number in range(1, count + 1):
                backlog.append(
                    event_type="match", encounter=number, person="p-aaaaaaaa", band="certain", model="f1" * 8,
                    born=moment(), live=None,
                )  # fmt: skip

    def depth(self) -> int:
        """Return how many events wait."""
        with contextlib.closing(Outbox.of(self._config.data, self._config.outbox)) as outbox:
            return outbox.counts().depth

    def problem(self) -> str:
        """Return what the publisher says is wrong."""
        with contextlib.closing(Outbox.of(self._config.data, self._config.outbox)) as outbox:
            return (outbox.get_report("publisher") or b"").decode()

    @property
    def log(self) -> str:
        """Return what the publisher logged."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def spoken(self) -> str:
        """Return the version of MQTT that was agreed on; empty before."""
        found = re.search(r"with MQTT (5|3\.1\.1)", self.log)
        return found[1] if found else ""


def _await(condition: Callable[[], object], what: str) -> None:
    until(condition, what, _WAIT_S)


def _connect(folder: Path, place: Place) -> str:
    device = Device(folder, place, acks=False)
    with Watcher(place) as watcher, device.publishing():
        _await(lambda: watcher.last.get("availability") == b"online", "`online` after the connection")
        _await(lambda: device.spoken, "the version of MQTT in the log")
    return f"MQTT {device.spoken}"


def _auth(folder: Path, place: Place) -> str:
    device = Device(folder, place, acks=False, password="wrong")  # noqa: S106 - that is the point
    with device.publishing():
        _await(lambda: "login_refused" in device.problem(), "`login_refused` with a wrong password")
    return GREEN


def _retained(folder: Path, place: Place) -> str:
    with Watcher(place) as watcher, Device(folder, place, acks=False).publishing():
        _await(lambda: "state" in watcher.last, "the state")
        with Watcher(place) as late, contextlib.suppress(AssertionError):
            _await(lambda: late.retained >= _RETAINED, "state and availability for a late subscriber")
            return GREEN
        with Watcher(place, *_RETAINED) as late:
            _await(lambda: late.retained >= _RETAINED, "state and availability for a late subscriber")
    return "only to whoever names the topic, not for `edge/#`"


def _will(folder: Path, place: Place) -> str:
    with Watcher(place) as watcher, Device(folder, place, acks=False).publishing() as process:
        _await(lambda: watcher.last.get("availability") == b"online", "`online`")
        process.send_signal(signal.SIGKILL)
        _await(lambda: watcher.last.get("availability") == b"offline", "`offline` of a publisher that was killed")
    return GREEN


def _qos1(folder: Path, place: Place) -> str:
    device = Device(folder, place, acks=False)
    device.see(50)
    with Watcher(place) as watcher, device.publishing():
        _await(lambda: device.depth() == 0, "an empty outbox")
        _await(lambda: [event.seq for event in watcher.events] == list(range(1, 51)), "50 events once, in order")
    return GREEN


def _acks(folder: Path, place: Place) -> str:
    device = Device(folder, place, acks=True)
    device.see(5)
    with Watcher(place) as watcher, device.publishing():
        _await(lambda: len(watcher.events) >= 5, "5 events")
        if device.depth() != 5:
            raise AssertionError("the device forgot events that were not acknowledged")
        watcher.ack(watcher.events[2])
        _await(lambda: device.depth() == 2, "2 events on the device after an ack of 3")
        watcher.ack(watcher.events[4])
        _await(lambda: device.depth() == 0, "an empty outbox after an ack of all")
    return GREEN


def _fallback(folder: Path, place: Place) -> str:
    with _without_5(place) as old:
        device = Device(folder, old, acks=False)
        device.see(3)
        with Watcher(place) as watcher, device.publishing():
            _await(lambda: len(watcher.events) == 3, "3 events with 3.1.1")
        if device.spoken != "3.1.1":
            raise AssertionError(f"MQTT {device.spoken} was spoken")
    return GREEN


_TRIED: dict[str, Callable[[Path, Place], str]] = dict(
    zip(CHECKS, (_connect, _auth, _retained, _will, _qos1, _acks, _fallback), strict=True)
)


@contextlib.contextmanager
def _without_5(place: Place) -> Iterator[Place]:
    """Yield the broker behind a relay that refuses MQTT 5, as brokers do that do not speak it."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    opened: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                opened.append(near)
                greeting = near.recv(4096)
                if greeting[8:9] == b"\x05":
                    near.sendall(_NO_MQTT_5)
                    near.shutdown(socket.SHUT_WR)
                    continue
                far = socket.create_connection((place.host, place.port))
                opened.append(far)
                far.sendall(greeting)
                for pair in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                    threads[-1].start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield Place("127.0.0.1", server.getsockname()[1], place.password)
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        _close(opened, (accepting, *threads))


def _close(opened: list[socket.socket], threads: Iterable[threading.Thread]) -> None:
    for one in opened:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(5)
    for one in opened:
        one.close()


def matrix(names: list[str], folder: Path, say: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Try everything on each broker; returns for each what came of each check: `green`, or what failed, in words."""
    found: dict[str, dict[str, str]] = {}
    for name in names or list(BROKERS):
        (folder / name).mkdir()
        try:
            with BROKERS[name](folder / name) as place:
                found[name] = {"version": version(name)}
                for check, attempt in _TRIED.items():
                    found[name][check] = _tried(attempt, folder / name / check.replace(" ", "-"), place)
                    say(f"{name}: {check}: {found[name][check]}")
        except Missing as e:
            found[name] = {"version": "", **dict.fromkeys(CHECKS, f"not tried: {e}")}
    return found


def _tried(attempt: Callable[[Path, Place], str], folder: Path, place: Place) -> str:
    try:
        return attempt(folder, place)
    except AssertionError as e:
        return f"failed: {e}"


def is_green(found: dict[str, dict[str, str]]) -> bool:
    """Whether every check passed on every broker."""
    return all(
        row[check] == GREEN or (check == "connect" and row[check].startswith("MQTT "))
        for row in found.values()
        for check in CHECKS
    )


def table(found: dict[str, dict[str, str]]) -> str:
    """Return the matrix as a table of Markdown."""
    lines = [f"| broker | {' | '.join(CHECKS)} |", f"|---|{'---|' * len(CHECKS)}"]
    for name, row in found.items():
        lines.append(f"| {name} {row['version']} | {' | '.join(row[check] for check in CHECKS)} |")
    return "\n".join(lines)
