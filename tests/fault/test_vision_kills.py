"""Vision killed a hundred times at random moments: store and outbox open, and acknowledged data is present."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.identity.keys import load_key
from edge.identity.store import Store
from edge.models.manifest import load_manifest
from edge.processes.assembly import build_aligner, build_detector, build_embedder
from edge.records import Frame
from tests.conftest import Enrolled
from tests.footage import Image, still, video
from tools.rig.brokers import until
from tools.rig.workbench import Bench, write_clip

KILLS = 100
LANES = 2  # processor cores of a small machine
SEED = 20_260_131
LONGEST_START_S = 0.4  # kills that wait for no event come within this time after the start
LONGEST_STEP_S = 0.03  # kills after an event come within this time, a few frames
MOST_EVENTS = 2  # highest number of events before a kill
CHECKOUT = Path(__file__).parents[2]


def visits() -> list[Image]:
    """Return half a second of the man, then a quarter of a second without people."""
    nobody = np.full((144, 176, 3), 128, np.uint8)
    return [*video("carphone")[30:45], *([nobody] * 8)]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real embeddings of the woman, computed once."""
    folder = tmp_path_factory.mktemp("vectors")
    bench = Bench(folder)
    bench.configure()
    frame = Frame(still("astronaut"), 0.0, 0)
    embedder = build_embedder(bench.settings)
    (face,) = build_detector(bench.settings).detect(frame)
    embedding = embedder.embed(build_aligner(embedder).align(frame, face))
    path = folder / "woman.npy"
    np.save(path, embedding.vector[None])
    return path


@dataclass(slots=True)
class Lane:
    """A device that is killed repeatedly."""

    bench: Bench
    vectors: Path
    pick: random.Random
    events: dict[tuple[str, int], str] = field(default_factory=dict)  # (boot, seq) → id, all that ever were
    acknowledged: int = 0  # enrolments

    def run(self, kills: int) -> None:
        command = [sys.executable, "-m", "tests.fault.fork_server", str(self.bench.path), str(self.vectors)]
        environ = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=CHECKOUT, env=environ
        ) as server:
            for number in range(kills):
                self._kill_once(server, self.bench.folder / f"vision-{number}.log")

    def _kill_once(self, server: subprocess.Popen[str], log: Path) -> None:
        log.touch()
        pids = [int(pid) for pid in self._ask(server, f"start {log}")]
        wanted = self.pick.randint(0, MOST_EVENTS)
        try:
            if wanted:
                until(lambda: self._logged(log) >= wanted, f"{wanted} events in {log}", 60.0)
            select.select([], [], [], self.pick.uniform(0, LONGEST_STEP_S if wanted else LONGEST_START_S))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            ends = self._ask(server, "reap")
        assert ends == ["-9", "-9"], log.read_text()
        self._check_events(self._logged(log))
        self._check_people(log.with_name(log.name + ".people"))

    def _ask(self, server: subprocess.Popen[str], line: str) -> list[str]:
        assert server.stdin is not None
        assert server.stdout is not None
        print(line, file=server.stdin)
        answer = server.stdout.readline().split()
        assert answer, "the fork server has ended"
        return answer

    @staticmethod
    def _logged(log: Path) -> int:
        """Count the logged events, complete lines only. Vision logs an event after the outbox has stored it."""
        return sum(": encounter " in line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n"))

    def _check_events(self, logged: int) -> None:
        found = {(event.boot, event.seq): event.id for event in self.bench.waiting()}
        new = sorted(set(found) - set(self.events))
        assert self.events.items() <= found.items(), "an event is missing or changed"
        assert [seq for _, seq in new] == list(range(1, len(new) + 1))
        assert len({boot for boot, _ in new}) <= 1
        assert logged <= len(new) <= logged + 1, "only the last event may be missing in the log"
        assert len(set(found.values())) == len(found)
        self.events = found

    def _check_people(self, told: Path) -> None:
        settings = self.bench.settings
        key = load_key(settings.store.key, self.bench.data, {})
        store = Store.open(settings.data.store, key, load_manifest().embedder(settings.recognition.model).id)
        people = {person.id for person in store.people()}
        lines = told.read_text().split() if told.exists() else []
        added, perhaps, removed = ({line[1:] for line in lines if line[0] == sign} for sign in "+?-")
        assert added - perhaps <= people
        assert not removed & people
        assert "The man" in [person.name for person in store.people()]
        self.acknowledged += len(added)


def test_vision_killed_at_random_moments_loses_no_event_and_nobody(
    tmp_path: Path, enrolled: Enrolled, vectors: Path
) -> None:
    clip = write_clip(tmp_path / "visits.avi", visits())
    camera = {"source": "video", "paths": [str(clip)], "fps": 30, "realtime": False, "loop": True}
    lanes: list[Lane] = []
    for number in range(LANES):
        bench = Bench(tmp_path / f"lane{number}")
        shutil.copytree(enrolled.data, bench.data)
        bench.configure(
            {
                "camera": camera,
                "detector": {"rate_hz": 30},
                "recognition": {"encounter_timeout_s": 0.2, "rate_hz": 30},
            }
        )
        lanes.append(Lane(bench, vectors, random.Random(SEED + number)))
    with ThreadPoolExecutor(LANES) as pool:
        for done in [pool.submit(lane.run, KILLS // LANES) for lane in lanes]:
            done.result()
    for lane in lanes:
        outbox = lane.bench.outbox()
        assert outbox.counts().damaged_files == 0
        outbox.close()
        assert lane.events, "nobody was recognised"
        assert lane.acknowledged > KILLS // LANES, "hardly anybody was enrolled"
        assert lane.bench.call("people", "list").code == 0
