"""Messages to the service manager, on a real datagram socket."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.health import Notifier
from tests.conftest import Clips
from tools.rig.brokers import until
from tools.rig.workbench import DEADLINE_S, Bench


class Manager:
    """The receiving end, like systemd's."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE_S)
        self._socket.bind(address)

    def heard(self) -> dict[str, str]:
        """Wait for one message and return its assignments."""
        message = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in message.splitlines())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify"))
    yield one
    one.close()


def test_each_message_is_one_datagram_of_assignments(manager: Manager, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready("recognising")
    notifier.alive("normal, 3 frames")
    notifier.stopping()
    assert manager.heard() == {"READY": "1", "STATUS": "recognising"}
    assert manager.heard() == {"WATCHDOG": "1", "STATUS": "normal, 3 frames"}
    assert manager.heard() == {"STOPPING": "1"}


def test_abstract_address_is_understood(tmp_path: Path) -> None:
    name = f"edge-test-{tmp_path.name}-{id(tmp_path)}"
    manager = Manager("\0" + name)
    Notifier("@" + name).stopping()
    assert manager.heard() == {"STOPPING": "1"}
    manager.close()


def test_an_absent_manager_causes_no_error(manager: Manager, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    manager.close()
    for one in (notifier, Notifier(str(tmp_path / "nowhere")), Notifier("")):
        one.ready("recognising")
        one.alive("still here")


def test_vision_says_ready_then_alive_then_stopping(manager: Manager, man_bench: Bench, clips: Clips) -> None:
    camera = {"source": "video", "paths": [str(clips.man_later)], "fps": 30, "loop": True}
    man_bench.configure({"camera": camera})
    environ = {"NOTIFY_SOCKET": str(man_bench.folder / "notify")}
    with man_bench.start("vision", environ) as running:
        assert manager.heard()["READY"] == "1"
        alive = manager.heard()
        assert alive["WATCHDOG"] == "1"
        assert " frames, " in alive["STATUS"]
        running.process.terminate()
        while (last := manager.heard()) != {"STOPPING": "1"}:
            assert last["WATCHDOG"] == "1"
        assert running.ends() == 0


def test_watchdog_messages_are_limited_in_rate(manager: Manager, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    for frames in range(100):
        notifier.alive(f"normal, {frames} frames")
    notifier.stopping()
    assert manager.heard() == {"WATCHDOG": "1", "STATUS": "normal, 0 frames"}
    assert manager.heard() == {"STOPPING": "1"}


def test_the_publisher_is_ready_and_alive_while_the_broker_is_away(manager: Manager, bench: Bench) -> None:
    bench.configure({"mqtt": {"port": 1}})
    with bench.start("publish", {"NOTIFY_SOCKET": str(bench.folder / "notify")}) as running:
        assert manager.heard()["READY"] == "1"
        for _ in range(3):
            alive = manager.heard()
            assert alive["WATCHDOG"] == "1"
            assert alive["STATUS"].startswith("the broker is away (unreachable), tried again in")
        running.process.terminate()
        while (last := manager.heard()) != {"STOPPING": "1"}:
            assert last["WATCHDOG"] == "1"
        assert running.ends() == 0


def test_the_publisher_reloads_its_settings_on_sighup(manager: Manager, bench: Bench) -> None:
    bench.configure({"mqtt": {"port": 1}})
    with bench.start("publish", {"NOTIFY_SOCKET": str(bench.folder / "notify")}) as running:
        assert manager.heard()["READY"] == "1"
        bench.configure({"mqtt": {"host": "127.0.0.2", "port": 2}})
        running.process.send_signal(signal.SIGHUP)
        running.says("broker 127.0.0.2:2: cannot be reached")
        bench.path.write_text("[mqtt]\nport = 99999999\n")
        running.process.send_signal(signal.SIGHUP)
        running.says("the previous settings stay in use: ")
        assert running.stop() == 0


def test_vision_reloads_its_settings_on_sighup(man_bench: Bench, clips: Clips) -> None:
    camera = {"source": "video", "paths": [str(clips.man_later)], "fps": 30, "loop": True}
    man_bench.configure({"camera": camera})
    with man_bench.start("vision") as running:
        until(lambda: man_bench.status()["vision"] is not None, "vision says how it is")
        boot = man_bench.status()["vision"]["boot"]
        man_bench.configure({"camera": camera | {"fps": 7.0}})
        running.process.send_signal(signal.SIGHUP)
        until(lambda: man_bench.status()["vision"]["boot"] != boot, "it has begun anew")
        until(lambda: man_bench.status()["vision"]["capture_fps"] == 7.0, "with the settings of now")
        boot = man_bench.status()["vision"]["boot"]
        man_bench.path.with_suffix(".new").write_text(man_bench.path.read_text() + "\nnonsense = 1\n")
        man_bench.path.with_suffix(".new").replace(man_bench.path)
        running.process.send_signal(signal.SIGHUP)
        running.says("the previous settings stay in use: ")
        assert running.stop() == 0
