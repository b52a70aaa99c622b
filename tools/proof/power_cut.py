"""Simulate a power cut at every write and fsync: acknowledged data is present afterwards, and every file opens.

A workload enrols, renames and removes people, appends and trims events. Its file system records every change
(`tools/proof/recorder.py`). For every record the proof builds the disks that a cut at that moment could leave, and
opens each with the product's own code.

Synced data always survives. Of the unsynced data one of three things survives: nothing; everything; or a random part,
in sectors of 512 bytes (so pages are torn), with names up to a random moment, because a journal keeps the order of
names. A file whose folder was not synced has no name.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgeError
from edge.events.backlog import Backlog
from edge.events.moments import moment
from edge.events.outbox import Outbox
from edge.identity.keys import StoreKey
from edge.identity.store import Store
from tools.proof.recording import MARK, ROOT, Record, apply_truncate, apply_write
from tools.rig import Missing

CLAIM = "A power cut at any write or fsync loses no acknowledged enrolment or event, and leaves no unreadable file."

KEY, MODEL, DIMENSION, BOOT = StoreKey(bytes(range(32))), "5f" * 32, 16, "b0" * 8
_SECTOR_BYTES = 512
_MOUNT_S = 10.0
_MODELS = ("nothing", "everything", "a part")


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where something acknowledged is gone or a file does not open."""
    say("recording")
    records = record(2 if short else 8, 6 if short else 60)
    cuts = list(range(len(records) + 1))
    seeds = 1 if short else 4
    if short:
        cuts = random.Random(0).sample(cuts, min(len(cuts), 120))
    say(f"{len(cuts)} cuts in {len(records)} records")
    reopened, problems = 0, []
    with tempfile.TemporaryDirectory(prefix="edge-power-cut-", dir=memory()) as name:
        for cut in cuts:
            promised = promises(records[:cut])
            for model in _MODELS:
                for seed in range(seeds if model == "a part" else 1):
                    disk = Path(name) / f"{reopened}"
                    Disk(records[:cut]).lay_out(disk, model, random.Random(f"{cut} {seed}"))
                    problems += [f"cut {cut}, {model} unsynced: {what}" for what in broken(disk, promised)]
                    subprocess.run(["rm", "-rf", str(disk)], check=True)
                    reopened += 1
    assert not problems, f"{len(problems)} problems, first: {problems[0]}"
    whole = promises(records)
    return {
        "records": len(records),
        "syncs": sum(r.what in {"sync", "syncdir"} for r in records),
        "cuts": len(cuts),
        "ways_to_lose": list(_MODELS),
        "disks_reopened": reopened,
        "people_acknowledged": len(whole.people) + len(whole.removed),
        "events_acknowledged": len(whole.events) + len(whole.trimmed),
        "lost": 0,
        "unreadable": 0,
    }


# ---- the workload, run in its own process


def work(folder: Path, people: int, events: int) -> None:
    """Run the workload. Marks record each acknowledgement, and the begin of each removal and trim."""

    def mark(*what: object) -> None:
        (folder / f"{MARK}{json.dumps(what)}").exists()

    rng = np.random.default_rng(0)
    store = Store.create(folder / "templates.edge", KEY, MODEL, DIMENSION)
    mark("store")
    backlog = Backlog(folder / "outbox/outbox.db", device="d", boot=BOOT, max_events=10_000, max_age_s=1e6)
    outbox = Outbox.open(folder / "outbox/outbox.db", max_events=10_000, max_age_s=1e6)
    for i in range(people):
        rows = rng.normal(size=(3, DIMENSION))
        vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        person = store.add(f"person {i}", vectors)
        mark("person", person.id, person.name)
        if i % 2:
            mark("renaming", person.id, "another name")
            store.rename(person.id, "another name")
            mark("person", person.id, "another name")
        if i % 4 == 3:
            mark("removing", person.id)
            store.remove(person.id)
            mark("removed", person.id)
        for _ in range(events // people):
            seq = backlog.append(
                event_type="match", encounter=1, person=person.id, band="certain", model=MODEL[:16], born=moment()
            )
            mark("event", seq)
        rows_waiting = outbox.pending(2)
        mark("trimming", *[row.event.seq for row in rows_waiting])
        outbox.delivered([row.event for row in rows_waiting])
        mark("trimmed", *[row.event.seq for row in rows_waiting])
    outbox.close()
    backlog.close()


def record(people: int, events: int, workload: str = "tools.proof.power_cut") -> list[Record]:
    """Run the workload on the recording file system; returns the records."""
    with tempfile.TemporaryDirectory(prefix="edge-recorder-") as name:
        log = Path(name) / "log"
        with _mounted(Path(name) / "disk", log) as disk:
            call = f"work(Path({str(disk)!r}), {people}, {events})"
            code = f"from pathlib import Path; from {workload} import work; {call}"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"the workload failed: {done.stderr}"
        records: list[Record] = pickle.loads(log.read_bytes())  # noqa: S301  # our own
    return records


@contextmanager
def _mounted(disk: Path, log: Path) -> Iterator[Path]:
    try:
        import mfusepy  # noqa: F401, PLC0415  # needs libfuse
    except (ImportError, OSError) as e:
        raise Missing(f"a FUSE file system needs mfusepy and libfuse (apt install fuse3): {e}") from None
    if not os.access("/dev/fuse", os.W_OK):
        raise Missing("/dev/fuse cannot be used here")
    disk.mkdir()
    code = f"from tools.proof.recorder import serve; serve({str(disk)!r}, {str(log)!r})"
    server = subprocess.Popen([sys.executable, "-c", code])
    try:
        end_s = time.monotonic() + _MOUNT_S
        while not disk.is_mount():
            if server.poll() is not None or time.monotonic() > end_s:
                raise Missing("a FUSE file system cannot be mounted here")
            time.sleep(0.02)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=False)
        server.wait(_MOUNT_S)


# ---- the disk after a cut


@dataclass(slots=True)
class Disk:
    """The disk at the moment of a cut."""

    records: list[Record]
    safe: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))  # synced content by node
    unsynced: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})  # synced names by folder
    unsynced_names: list[Record] = field(default_factory=list)
    folders: set[int] = field(default_factory=lambda: {ROOT})

    def __post_init__(self) -> None:
        for r in self.records:
            if r.what in {"write", "truncate"}:
                self.unsynced[r.node].append(r)
            elif r.what == "sync":
                for old in self.unsynced.pop(r.node, []):
                    _apply(self.safe[r.node], old)
            elif r.what in {"link", "unlink", "rename"}:
                self.unsynced_names.append(r)
                if r.what == "link" and r.other[1] == "dir":
                    self.folders.add(r.other[0])
            elif r.what == "syncdir":
                self._sync_names(r.node)

    def _sync_names(self, folder: int) -> None:
        """Mark the names of a folder and all earlier name changes as synced: a journal keeps their order."""
        last = max((i for i, r in enumerate(self.unsynced_names) if folder in {r.node, r.other[0]}), default=-1)
        for r in self.unsynced_names[: last + 1]:
            _name(self.names, r)
        del self.unsynced_names[: last + 1]

    def lay_out(self, root: Path, model: str, rng: random.Random) -> None:
        """Write the surviving files below `root`; `model` says which unsynced changes are lost."""
        names = {folder: dict(entries) for folder, entries in self.names.items()}
        most = len(self.unsynced_names)
        kept = {"nothing": 0, "everything": most}.get(model, rng.randint(0, most))
        for r in self.unsynced_names[:kept]:
            _name(names, r)
        self._lay_out(root, ROOT, names, model, rng)

    def _lay_out(self, path: Path, node: int, names: dict[int, dict[str, int]], model: str, rng: random.Random) -> None:
        path.mkdir()
        for name, number in names.get(node, {}).items():
            if number in self.folders:
                self._lay_out(path / name, number, names, model, rng)
            else:
                (path / name).write_bytes(self._content(number, model, rng))

    def _content(self, number: int, model: str, rng: random.Random) -> bytes:
        data = bytearray(self.safe.get(number, b""))
        for r in self.unsynced.get(number, []) if model != "nothing" else []:
            if model == "everything":
                _apply(data, r)
            elif r.what == "truncate":
                if rng.random() < 0.5:
                    _apply(data, r)
            else:
                for at in range(0, len(r.data), _SECTOR_BYTES):
                    if rng.random() < 0.5:
                        apply_write(data, r.at + at, r.data[at : at + _SECTOR_BYTES])
        return bytes(data)


def _apply(data: bytearray, r: Record) -> None:
    if r.what == "write":
        apply_write(data, r.at, r.data)
    else:
        apply_truncate(data, r.at)


def _name(names: dict[int, dict[str, int]], r: Record) -> None:
    folder = names.setdefault(r.node, {})
    if r.what == "link":
        folder[r.name] = r.other[0]
    elif r.what == "unlink":
        folder.pop(r.name, None)
    else:
        names.setdefault(r.other[0], {})[r.other[1]] = folder.pop(r.name)


# ---- the promises


@dataclass(slots=True)
class Promises:
    """Acknowledged and unfinished operations at the moment of a cut."""

    store: bool = False
    people: dict[str, set[str]] = field(default_factory=dict)  # id → names that it may have
    going: set[str] = field(default_factory=set)  # a removal has begun
    removed: set[str] = field(default_factory=set)
    events: set[int] = field(default_factory=set)
    leaving: set[int] = field(default_factory=set)  # a trim has begun
    trimmed: set[int] = field(default_factory=set)


def promises(records: list[Record]) -> Promises:
    """Return the promises that the marks in `records` state."""
    promises = Promises()
    for what, *rest in (json.loads(r.name) for r in records if r.what == "mark"):
        if what == "store":
            promises.store = True
        elif what == "person":
            promises.people[rest[0]] = {rest[1]}
        elif what == "renaming":
            promises.people[rest[0]].add(rest[1])
        elif what == "removing":
            promises.going.add(rest[0])
        elif what == "removed":
            promises.removed.add(rest[0])
            del promises.people[rest[0]]
        elif what == "event":
            promises.events.add(rest[0])
        elif what == "trimming":
            promises.leaving |= set(rest)
        else:
            promises.trimmed |= set(rest)
            promises.events -= set(rest)
    return promises


def broken(disk: Path, promised: Promises) -> list[str]:
    """Open the disk after a cut with the product's code; returns the broken promises."""
    return _broken_store(disk, promised) + _broken_outbox(disk, promised)


def _broken_store(disk: Path, promised: Promises) -> list[str]:
    path = disk / "templates.edge"
    if not path.exists():
        return ["the store is gone"] if promised.store else []
    try:
        found = {person.id: person.name for person in Store.open(path, KEY, MODEL).people()}
    except EdgeError as e:
        return [f"the store does not open: {e}"]
    problems = [f"{p} is lost" for p in promised.people if p not in found and p not in promised.going]
    problems += [f"{p} is back" for p in promised.removed if p in found]
    wrong = [p for p, names in promised.people.items() if p in found and found[p] not in names]
    return problems + [f"{p} has lost its name" for p in wrong]


def _broken_outbox(disk: Path, promised: Promises) -> list[str]:
    try:
        with closing(Outbox.open(disk / "outbox/outbox.db", max_events=10_000, max_age_s=1e6)) as outbox:
            found = {row.event.seq for row in outbox.pending(10_000) if row.event.boot == BOOT}
            damaged = outbox.counts().damaged_files
    except EdgeError as e:
        return [f"the outbox does not open: {e}"]
    problems = [f"event {seq} is lost" for seq in promised.events if seq not in found and seq not in promised.leaving]
    in_use = promised.events or promised.trimmed  # before its first acknowledged event the outbox may be damaged
    return problems + (["the outbox was damaged"] if damaged and in_use else [])


def memory() -> str | None:
    """Return a folder in memory where there is one: the built disks are short-lived."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
