"""Simulates a compromised process that attacks others: `python3 attacker.py BEGIN [--harmless] [FOLDER TARGET…]`.

The attacker acts on every process that starts: it sends signals, opens root folder, memory, environment and
descriptors, and attaches as a debugger. In a FOLDER that it may write it creates links to each TARGET, under the names
that other processes open there. It starts when the file BEGIN exists, and attacks only processes with ids above the
number in it, so attackers do not attack each other. It ends at SIGTERM and prints the acts that succeeded. It needs
only Python, and runs in the proof's machine.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.002
_AHEAD = 60  # process ids above the newest known one that each round checks
_PACE = ((0.3, 0.0), (5.0, 0.02), (float("inf"), 0.5))  # (highest age of a process, s; pause between attacks on it, s)
_LINKS_EVERY_S = 0.2
_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17  # include/uapi/linux/ptrace.h
_STORE = "var/lib/edge/templates.edge"
_KEY = "run/credentials/edge-vision.service/edge-store-key"
_NAMES = ("outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db-journal", "outbox.db.lock", "outbox.db.damaged-1")


def _ends(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def _signals(pid: int) -> bool:
    os.kill(pid, 0)
    return True


def _reads(name: str, size_bytes: int = 16) -> Callable[[int], bool]:
    def act(pid: int) -> bool:
        with Path(f"/proc/{pid}/{name}").open("rb") as file:
            return bool(file.read(size_bytes))

    return act


def _opens_memory(pid: int) -> bool:
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    return True


def _lists_descriptors(pid: int) -> bool:
    os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
    return True


def _debugs(pid: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_SEIZE, pid, 0, 0) != 0:
        return False
    libc.ptrace(_PTRACE_DETACH, pid, 0, 0)
    return True


ACTS = {
    "store": _reads(f"root/{_STORE}"),
    "key": _reads(f"root/{_KEY}"),
    "environment": _reads("environ"),
    "memory": _opens_memory,
    "descriptors": _lists_descriptors,
    "debugger": _debugs,
    "signal": _signals,
    "kill": _ends,
}
_HARMLESS = tuple(name for name in ACTS if name != "kill")


class Attacker:
    """Attacks every process that is newer than `newest`."""

    def __init__(self, acts: tuple[str, ...], newest: int, folder: Path | None, targets: list[str]) -> None:
        self._acts = acts
        self._folder = folder
        self._targets = itertools.cycle(targets)
        self._newest = newest
        self._alive: dict[int, float] = {}  # process id → time when it was first seen, s
        self._next_s: dict[int, float] = {}
        self._next_links_s = 0.0
        self.seen: set[int] = set()
        self.reached: dict[str, set[int]] = {name: set() for name in ACTS}
        self.links = 0

    def round(self) -> None:
        """Find new processes, and attack all known ones."""
        now_s = time.monotonic()
        for pid in range(self._newest + 1, self._newest + _AHEAD):
            if _exists(pid):
                self._alive[pid] = self._next_s[pid] = now_s
                self._newest = max(self._newest, pid)
        for pid, since_s in tuple(self._alive.items()):
            if now_s < self._next_s[pid]:
                continue
            self._next_s[pid] = now_s + next(pause_s for age_s, pause_s in _PACE if now_s - since_s <= age_s)
            if _exists(pid):
                self.seen.add(pid)
                self._attack(pid)
            else:
                del self._alive[pid]
        if self._folder is not None and now_s >= self._next_links_s:
            self._next_links_s = now_s + _LINKS_EVERY_S
            self._plant(self._folder)

    def _attack(self, pid: int) -> None:
        for name in self._acts:
            with suppress(OSError):
                if ACTS[name](pid):
                    self.reached[name].add(pid)

    def _plant(self, folder: Path) -> None:
        for name in _NAMES:
            target = next(self._targets)
            with suppress(OSError):
                (folder / f".{name}").symlink_to(target)
            with suppress(OSError):
                (folder / f".{name}").rename(folder / name)
                self.links += 1
            with suppress(OSError):
                (folder / f"{name}.hard").hardlink_to(target)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _until_told() -> Iterator[None]:
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    while not over:
        yield
        time.sleep(_POLL_S)


def main() -> None:
    """Attack until SIGTERM, then print one JSON object."""
    arguments = sys.argv[1:]
    harmless = "--harmless" in arguments
    paths = [argument for argument in arguments if argument != "--harmless"]
    begin, *paths = paths
    rounds = _until_told()
    while not Path(begin).exists():
        next(rounds)
    folder = Path(paths[0]) if paths else None
    attacker = Attacker(_HARMLESS if harmless else tuple(ACTS), int(Path(begin).read_text()), folder, paths[1:])
    for _ in rounds:
        attacker.round()
    reached = {name: sorted(pids) for name, pids in attacker.reached.items()}
    print(json.dumps({"uid": os.getuid(), "seen": sorted(attacker.seen), "reached": reached, "links": attacker.links}))


if __name__ == "__main__":
    main()
