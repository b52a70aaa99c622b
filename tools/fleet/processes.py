"""The processes of a run: what starts them, kills one, and measures what they take."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.fleet.members import PIDS, Fleet, name_of

_PROJECT = Path(__file__).parents[2]
_HOSTS_FILE = 'mount --bind "$0" /etc/hosts && exec "$@"'
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"
_DEATH_S = 10.0
_SAMPLE_S = 1.0


@dataclass(slots=True)
class Children:
    """The processes of a run, and their common log."""

    folder: Path
    environ: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, hosts: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a module; `hosts` is what it finds as /etc/hosts."""
        command = [sys.executable, "-m", *arguments]
        if hosts is not None:
            command = ["unshare", "--mount", "sh", "-c", _HOSTS_FILE, str(hosts), *command]
        with (self.folder / "children.log").open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ, cwd=_PROJECT)
        self.running.append(child)
        return child

    def end(self) -> None:
        """Have all end, and kill those that do not."""
        for child in self.running:
            child.terminate()
        for child in self.running:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@dataclass(slots=True)
class Publishers:
    """The publishers of a fleet, as processes."""

    folder: Path
    fleet: Fleet
    seed: int
    killed: int = 0
    _order: Iterator[int] | None = None

    def pid(self, device: int) -> int:
        """Return the process of a device."""
        return int((self.folder / PIDS / name_of(device)).read_text(encoding="ascii"))

    def pids(self) -> list[int]:
        """Return the processes of all devices."""
        return [self.pid(device) for device in range(self.fleet.devices)]

    def kill_one(self) -> None:
        """Kill the publisher of a device that chance names; no device twice before each was killed once."""
        if self._order is None:
            self._order = _shuffled_for_ever(self.fleet.devices, self.seed)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(next(self._order)), signal.SIGKILL)
            self.killed += 1


def _shuffled_for_ever(count: int, seed: int) -> Iterator[int]:
    chance = random.Random(seed)  # noqa: S311 - who dies is no secret
    while True:
        yield from chance.sample(range(count), count)


@dataclass(frozen=True, slots=True)
class Taken:
    """Processor time and memory that processes have taken."""

    cpu_s: float
    memory_mb: float

    @classmethod
    def by(cls, pids: Iterable[int], *, memory: bool = True) -> Taken:
        """Sum over processes; memory is their proportional share, so what they share counts once."""
        cpu_s = memory_mb = 0.0
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = (
                    Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                )
                cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
                memory_mb += _proportional_mb(pid) if memory else 0.0
        return cls(cpu_s, memory_mb)


def _proportional_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, path.read_text(encoding="ascii").split())
    return found


class Connections(threading.Thread):
    """Counts every second how many connections to a port are established on this side."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = f":{port:04X}"
        self._end = threading.Event()
        self.samples: list[tuple[float, int]] = []  # monotonic s, connections

    def run(self) -> None:
        """Sample until stopped."""
        while not self._end.wait(_SAMPLE_S):
            self.samples.append((time.monotonic(), self.now()))

    def now(self) -> int:
        """Return how many there are."""
        count = 0
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            count += fields[3] == _ESTABLISHED and fields[2].endswith(self._port)
        return count

    def stop(self) -> None:
        """End the sampling."""
        self._end.set()
        self.join(_DEATH_S)

    def between(self, from_s: float, to_s: float) -> list[tuple[float, int]]:
        """Return the samples of a span."""
        return [(at_s, count) for at_s, count in self.samples if from_s <= at_s <= to_s]
