"""`edge-daemon run` on real video against a real broker: the events, and the limits of both processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.events.event import Event
from tests.conftest import Clips, Enrolled
from tools.rig.brokers import Amqtt, Consumer, until
from tools.rig.workbench import Bench, Running

STOPS_WITHIN_S = 15.0  # both processes, on a machine that is busy with other tests
PIXEL_LIBRARIES = re.compile(r"numpy|cv2|onnxruntime|litert|tflite")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Amqtt]:
    one = Amqtt(tmp_path)
    yield one
    one.kill()


def watch(bench: Bench, clips: list[Path], port: int, *, loop: bool = False, realtime: bool = True) -> None:
    """Configure the device to play these clips, and to send events to this port."""
    paths = [str(clip) for clip in clips]
    bench.configure(
        {
            "camera": {"source": "video", "paths": paths, "fps": 30, "loop": loop, "realtime": realtime},
            "recognition": {"encounter_timeout_s": 0.5},
            "mqtt": {"port": port},
        }
    )


def child(running: Running, name: str) -> int:
    """Return the process id of a command that `run` started."""
    parent = running.process.pid
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            return int(pid)
    pytest.fail(f"{name} does not run")


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def story(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event.event_type, event.person) for event in events]


# ── what arrives ──


def test_enrolled_man_gives_exactly_one_match_and_one_end(
    man_bench: Bench, enrolled: Enrolled, clips: Clips, broker: Amqtt
) -> None:
    watch(man_bench, [clips.man_later, clips.street], broker.port)
    broker.start()
    with Consumer(broker.port, device="bench") as consumer:
        with man_bench.start("run") as running:
            assert running.ends() == 0, running.said
        until(lambda: consumer.availability == b"offline", "the farewell")
    assert story(consumer.received) == [("match", enrolled.man), ("end", enrolled.man)]
    assert [event.seq for event in consumer.received] == [1, 2]
    assert consumer.received[0].band == "certain"
    assert man_bench.waiting() == []
    assert consumer.state.vision is not None
    assert consumer.state.vision.events == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_signal_stops_both_cleanly(
    man_bench: Bench, enrolled: Enrolled, clips: Clips, broker: Amqtt, number: signal.Signals
) -> None:
    watch(man_bench, [clips.man_later], broker.port, loop=True)
    broker.start()
    with Consumer(broker.port, device="bench") as consumer, man_bench.start("run") as running:
        until(lambda: consumer.new, "a match")
        until(lambda: consumer.availability == b"online", "the greeting")
        children = [child(running, name) for name in ("vision", "publish")]
        os.killpg(running.process.pid, number)  # as a terminal does
        assert running.ends(STOPS_WITHIN_S) == 0, running.said
        assert all(gone(pid) for pid in children)
        until(lambda: consumer.availability == b"offline", "the farewell")
        assert story(consumer.received) == [("match", enrolled.man), ("end", enrolled.man)]
    assert "killed" not in running.said
    assert "Traceback" not in running.said
    assert man_bench.status()["vision"]["reason"] == "stopping"


def test_the_publisher_sends_remaining_events_after_vision_has_stopped(
    man_bench: Bench, clips: Clips, broker: Amqtt
) -> None:
    watch(man_bench, [clips.man_later], broker.port, loop=True)
    broker.start()
    with Consumer(broker.port, device="bench") as consumer, man_bench.start("run") as running:
        until(lambda: consumer.new, "a match")
        vision, publisher = (child(running, name) for name in ("vision", "publish"))
        with closing(sqlite3.connect(man_bench.settings.data.outbox, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")  # so that the publisher is not stopped during a write
            os.kill(publisher, signal.SIGSTOP)
        running.process.terminate()
        until(lambda: gone(vision), "the end of vision")
        os.kill(publisher, signal.SIGCONT)
        assert running.ends() == 0, running.said
        until(lambda: len(consumer.new) == 2, "the end of the visit")


def test_broker_that_comes_late_gets_every_event_once_in_order_under_its_first_id(
    man_bench: Bench, clips: Clips, broker: Amqtt
) -> None:
    watch(man_bench, [clips.man_later, clips.street], broker.port, loop=True, realtime=False)
    with man_bench.start("run") as running:
        until((man_bench.data / "outbox" / "outbox.db").exists, "an outbox")
        until(lambda: len(man_bench.waiting()) >= 6, "three visits, with nobody to tell them to")
        early = man_bench.waiting()
        broker.start()
        with Consumer(broker.port, device="bench") as consumer:
            until(lambda: len(consumer.new) > len(early), "what happened before and since")
            assert running.stop(STOPS_WITHIN_S) == 0, running.said
            until(lambda: consumer.availability == b"offline", "the farewell")
        left = man_bench.waiting()
    everything = consumer.received + left
    assert [event.id for event in everything[: len(early)]] == [event.id for event in early]
    assert [event.seq for event in everything] == list(range(1, len(everything) + 1))
    assert len(everything) == man_bench.status()["vision"]["events"]


def test_workbench_that_is_killed_leaves_no_process_behind(man_bench: Bench, clips: Clips) -> None:
    watch(man_bench, [clips.man_later], 1, loop=True)
    with man_bench.start("run") as running:
        running.says("playing man.avi")
        children = [child(running, name) for name in ("vision", "publish")]
        running.process.send_signal(signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in children), "the end of both")


# ── what neither may do ──


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root may look into these processes")
def test_vision_has_no_network_and_publisher_no_pixels(man_bench: Bench, clips: Clips) -> None:
    probe = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, check=False
    )  # a test of the machine, not of the product
    if probe.returncode != 0:
        pytest.skip("skipped: this kernel lets no process leave the network")
    watch(man_bench, [clips.man_later], 1, loop=True)
    with man_bench.start("run") as running:
        running.says("playing man.avi")
        running.says("cannot be reached")
        vision, publisher = (child(running, name) for name in ("vision", "publish"))
        libraries = Path(f"/proc/{publisher}/maps").read_text()
        assert not PIXEL_LIBRARIES.search(libraries)
        assert PIXEL_LIBRARIES.search(Path(f"/proc/{vision}/maps").read_text()), "the check itself does not work"
        ours, seen, sent = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", vision, publisher))
        assert seen != ours
        assert sent == ours
        interfaces = Path(f"/proc/{vision}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_vision_opens_no_socket_that_could_reach_a_network(man_bench: Bench, clips: Clips) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("skipped: strace is not installed")
    watch(man_bench, [clips.man_later], 1, realtime=False)
    trace = man_bench.folder / "trace"
    traced = [strace, "-f", "--seccomp-bpf", "-e", "trace=%network", "-o", str(trace)]
    command = [sys.executable, "-m", "edge.cli.daemon", "vision", "--config", str(man_bench.path)]
    done = subprocess.run([*traced, *command], capture_output=True, text=True, timeout=60, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("skipped: strace may not trace here")
    assert done.returncode == 0, done.stderr
    assert man_bench.status()["vision"]["events"] == 2
    calls = trace.read_text()
    assert "+++ exited with 0 +++" in calls, "the trace is empty"
    assert set(re.findall(r"socket\((\w+)", calls)) <= {"AF_UNIX"}, calls
    assert not re.findall(r"(?:connect|bind|send\w*)\(.*sa_family=AF_(?!UNIX)", calls), calls
