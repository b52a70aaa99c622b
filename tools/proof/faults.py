"""Inject hangs and crashes into every stage and process, under a supervisor that follows the unit files.

Several devices run in parallel. Each runs the real commands with an injected fault (`tools/proof/faulty.py`) under
`tools/rig/supervisor.py`, which restarts processes as the unit files say. A process is back in service when it has
reported readiness and then fed its watchdog. Vision feeds its watchdog only after frames have passed the pipeline.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.footage import locate
from tools.demo import make_clips, read_frames
from tools.proof.faulty import KINDS, STAGES
from tools.rig.brokers import Consumer, Mosquitto, until
from tools.rig.publishing import add, configured, depth, vision
from tools.rig.stream import Stream
from tools.rig.supervisor import Supervisor
from tools.rig.workbench import Bench, write_clip

CLAIM = "After a hang or a crash anywhere, the device is back in service within 15 s, and nothing acknowledged is lost."

LIMIT_S = 15.0
_LIMIT_SHORT_S = 45.0  # for the short form, on a busy machine
_EACH = 200  # faults a stage or process
_LANES = 7  # parallel vision processes: two cores cannot start more of them in time
_SEED = 20_261_125
_WAIT_S = 60.0
_IN_VISION = [stage for stage in STAGES if stage not in {"publisher", "provision"}]
_UNITS = {"vision": "edge-vision", "publish": "edge-publisher", "provision": "edge-provision"}
_CAMERA = {"sleep": signal.SIGSTOP, "crash": signal.SIGKILL}  # signal for the camera's process

Faults = list[tuple[str, str]]  # (stage, kind)


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts and times; raises AssertionError where one takes too long or something is lost."""
    kinds = [kind for kind, _ in zip(itertools.cycle(KINDS), range(_EACH), strict=False)]
    plans: dict[str, Faults] = {
        "vision": [("embedder", "hang"), ("detector", "crash"), ("outbox", "error")],
        "publisher": [("publisher", "error")],
        "provision": [("provision", "crash")],
        "camera": [("camera", "crash")],
    }
    if not short:
        plans = {name: [(stage, kind) for kind in kinds for stage in (name,)] for name in ("publisher", "provision")}
        plans |= {"vision": [(stage, kind) for kind in kinds for stage in _IN_VISION]}
        plans |= {"camera": [("camera", kind) for kind in itertools.islice(itertools.cycle(_CAMERA), _EACH)]}
    with tempfile.TemporaryDirectory(prefix="edge-faults-") as name:
        results = _Results(sum(map(len, plans.values())), say)
        everything = Path(name)
        enrolled = _enrolled(everything / "enrolled")
        waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for fault in plans["vision"]:
            waiting.put(fault)
        lanes: list[Callable[[Path], None]] = [
            lambda folder: _publisher(folder, plans["publisher"], results),
            lambda folder: _provision(folder, plans["provision"], results),
            lambda folder: _camera(folder, enrolled, plans["camera"], results),
            *[lambda folder: _vision(folder, enrolled, waiting, results)] * (2 if short else _LANES),
        ]
        with ThreadPoolExecutor(len(lanes)) as pool:
            folders = [everything / f"lane{number}" for number in range(len(lanes))]
            for folder in folders:
                folder.mkdir()
            for done in [pool.submit(lane, folder) for lane, folder in zip(lanes, folders, strict=True)]:
                done.result()
    results.judge(_LIMIT_SHORT_S if short else LIMIT_S)
    return results.figures()


@dataclass
class _Results:
    """Results of all lanes."""

    wanted: int
    say: Callable[[str], None]
    back_s: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # by (stage, kind)
    watchdogs: int = 0
    acknowledged: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stage: str, kind: str, took_s: float) -> None:
        with self.lock:
            self.back_s.setdefault((stage, kind), []).append(took_s)
            done = sum(map(len, self.back_s.values()))
        if done % 50 == 0:
            self.say(f"{done} of {self.wanted} faults")

    def kept(self, acknowledged: int, watchdogs: int) -> None:
        with self.lock:
            self.acknowledged += acknowledged
            self.watchdogs += watchdogs

    def judge(self, limit_s: float) -> None:
        """Raise AssertionError where a recovery took longer than the limit."""
        for (stage, kind), took_s in self.back_s.items():
            assert max(took_s) <= limit_s, f"{stage}: back {max(took_s):.1f} s after a {kind}; {self.figures()}"

    def figures(self) -> dict[str, Any]:
        def times(chosen: Callable[[str, str], bool]) -> list[float]:
            return [s for at, all_s in self.back_s.items() if chosen(*at) for s in all_s]

        stages = sorted({stage for stage, _ in self.back_s})
        return {
            "faults": len(times(lambda *_: True)),
            "faults_a_stage": {stage: len(times(lambda s, _, w=stage: s == w)) for stage in stages},  # type: ignore[misc]
            "slowest_back_s": {
                stage: round(max(times(lambda s, _, w=stage: s == w)), 1)  # type: ignore[misc]
                for stage in stages
            },
            "median_back_s": {
                kind: round(statistics.median(found), 1)
                for kind in KINDS
                if (found := times(lambda _, k, w=kind: k == w))  # type: ignore[misc]
            },
            "killed_by_watchdog": self.watchdogs,
            "acknowledged_events": self.acknowledged,
            "lost": 0,
        }


def _enrolled(folder: Path) -> Bench:
    """Return a device with an enrolled man, whose camera shows him come and go."""
    folder.mkdir()
    bench = Bench(folder)
    bench.configure()
    man = make_clips(folder)[0]
    answer = bench.call("people", "add", "The man", "--from", folder / "enrolment")
    assert answer.code == 0, answer.errors
    seen, street = list(read_frames(man.path))[:15], list(read_frames(locate("bikes")))
    nobody = [frame[: seen[0].shape[0], : seen[0].shape[1]] for frame in street[:8]]
    write_clip(folder / "visits.avi", [*seen, *nobody])
    return bench


def _device(folder: Path, enrolled: Bench, camera: dict[str, Any]) -> Bench:
    bench = Bench(folder)
    shutil.copytree(enrolled.data, bench.data)
    bench.configure(
        {
            "camera": {"fps": 10} | camera,
            "detector": {"rate_hz": 10},
            "recognition": {"rate_hz": 10, "encounter_timeout_s": 0.2},
        }
    )
    return bench


def _vision(folder: Path, enrolled: Bench, waiting: queue.SimpleQueue[tuple[str, str]], results: _Results) -> None:
    """Inject the waiting faults into the stages of one vision process."""
    camera = {"source": "video", "paths": [str(enrolled.folder / "visits.avi")], "loop": True}
    bench = _device(folder, enrolled, camera)
    with _supervised(folder, "vision", _IN_VISION) as running, contextlib.suppress(queue.Empty):
        while True:
            stage, kind = waiting.get_nowait()
            _strike(running, folder, stage, kind, results)
    acknowledged = {tuple(line.split()) for line in (folder / "acknowledged").read_text().splitlines()}
    there = {(event.boot, str(event.seq)) for event in bench.waiting()}
    assert acknowledged <= there, f"{len(acknowledged - there)} events that the outbox took are gone"
    people = bench.call("people", "list", "--json")
    assert "The man" in people.output, people.errors
    results.kept(len(acknowledged), running.watchdogs)


def _publisher(folder: Path, plan: Faults, results: _Results) -> None:
    """Inject faults into the publisher while events arrive and a consumer acknowledges them."""
    broker = Mosquitto(folder)
    settings = configured(folder, broker.port, "acks = true")
    broker.start()
    over, appended = threading.Event(), 0

    def see() -> None:
        nonlocal appended
        with vision(settings) as backlog:
            while not over.wait(0.2):
                add(backlog)
                appended = backlog.appended

    seeing = threading.Thread(target=see)
    seeing.start()
    try:
        with Consumer(broker.port, acks=True) as consumer, _supervised(folder, "publish", ["publisher"]) as running:
            for stage, kind in plan:
                _strike(running, folder, stage, kind, results)
            over.set()
            seeing.join()
            until(lambda: len(consumer.new) == appended, "every event", _WAIT_S)
            until(lambda: depth(settings) == 0, "an outbox emptied by acks", _WAIT_S)
        results.kept(appended, running.watchdogs)
    finally:
        over.set()
        seeing.join()
        broker.kill()


def _provision(folder: Path, plan: Faults, results: _Results) -> None:
    """Inject faults into the provisioning process."""
    bench = Bench(folder)
    bench.configure()
    with _supervised(folder, "provision", ["provision"], "--pty", str(folder / "cable")) as running:
        for stage, kind in plan:
            _strike(running, folder, stage, kind, results)
    results.kept(0, running.watchdogs)


def _camera(folder: Path, enrolled: Bench, plan: Faults, results: _Results) -> None:
    """Stop or kill the camera's process. Vision must continue and open the camera again."""
    with Stream(list(read_frames(enrolled.folder / "visits.avi"))) as stream:
        _device(folder, enrolled, {"source": "mjpeg", "url": stream.url})
        with _supervised(folder, "vision", ["embedder"]) as running:
            until(lambda: _frames(running) > 0, "frames", _WAIT_S)
            for stage, kind in plan:
                until(lambda: len(_children(running.pid)) == 1, "one camera process", _WAIT_S)
                (old,) = _children(running.pid)
                os.kill(old, _CAMERA[kind])
                struck_s, frames = time.monotonic(), _frames(running)
                until(lambda: _another(running, old), "another camera process", _WAIT_S)  # noqa: B023
                frames = max(frames, _frames(running))
                until(lambda: _frames(running) > frames, f"frames after a {kind}", _WAIT_S)  # noqa: B023
                results.add(stage, kind, time.monotonic() - struck_s)
            assert running.starts == 1, "vision was restarted for its camera"
        results.kept(0, running.watchdogs)


@contextlib.contextmanager
def _supervised(folder: Path, command: str, stages: list[str], *more: str) -> Iterator[Supervisor]:
    """Run a device's command in a folder, with fault injection in these stages."""
    faulty = [sys.executable, "-m", "tools.proof.faulty", str(folder), ",".join(stages)]
    environ = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    whole = [*faulty, command, "--config", str(folder / "edge.toml"), *more]
    with Supervisor(_UNITS[command], whole, folder, environ) as running:
        until(lambda: running.alive_s, f"{command} at work; see {running.log}", _WAIT_S)
        yield running


def _strike(running: Supervisor, folder: Path, stage: str, kind: str, results: _Results) -> None:
    """Inject one fault, and wait until the process is back."""
    starts = running.starts
    after = random.Random(f"{_SEED}{stage}{kind}{starts}").randrange(4)
    (folder / "plan.new").write_text(f"{stage},{kind},{after}", encoding="ascii")
    (folder / "plan.new").replace(folder / "plan")
    until((folder / "struck").exists, f"{stage} is called", _WAIT_S)
    struck_s = float((folder / "struck").read_text())
    (folder / "struck").unlink()
    until(lambda: running.starts > starts and running.alive_s, f"{stage} back after a {kind}", _WAIT_S)
    results.add(stage, kind, running.alive_s - struck_s)


def _frames(running: Supervisor) -> int:
    """Return the frame count of vision's status line, "normal, 123 frames, 4 events"."""
    words = running.status.split()
    return int(words[words.index("frames,") - 1]) if "frames," in words else 0


def _another(running: Supervisor, old: int) -> bool:
    return any(child != old for child in _children(running.pid))


def _children(pid: int) -> list[int]:
    """Return the camera processes of a vision process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                camera = b"edge.cameras.capture" in (folder / "cmdline").read_bytes()
                if camera and int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(folder.name))
    return found
