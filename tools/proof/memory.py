"""What is left of a removed person: in the memory of vision and on the disk, while vision goes on.

The needles are taken from the store before the removal, with its key: the person's data key, the templates as they are
stored (rotated) and as they were (not), in float32 and float16. Vision must hold some of them while the person is
enrolled, or the search would prove nothing. On the disk the name is looked for too; in memory it is not, as Python's
strings cannot be overwritten.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.footage import locate
from edge.identity import sealed
from edge.identity.keys import load_key
from edge.identity.people import PeopleImage
from edge.identity.store import Store
from edge.models.manifest import MANIFEST, load_manifest
from tools.demo import make_clips
from tools.rig import Missing
from tools.rig.brokers import until
from tools.rig.memory import memory_of
from tools.rig.workbench import Bench

CLAIM = "After a person is removed, neither the running vision process nor the data folder holds key or template."

_NAME = "Wilhelmina Featherstonehaugh"
_PIECE = slice(64, 112)  # bytes of a template that are looked for
_WAIT_S = 60.0
_SETTLED_S = 5.0  # after vision says that it has read the store anew

Needles = dict[str, list[bytes]]


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where anything is left."""
    if os.geteuid() != 0:
        raise Missing("reading the memory of a process needs root")
    rounds = 1 if short else 20
    held: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="edge-memory-") as name:
        bench = Bench(Path(name))
        man = make_clips(bench.folder)[0]
        bench.configure({"camera": {"source": "video", "paths": [str(man.path)], "fps": 30.0, "loop": True}})
        assert bench.call("people", "add", "Somebody else", "--from", locate("astronaut")).code == 0
        with bench.start("vision") as running:
            for round_ in range(rounds):
                added = bench.call("people", "add", _NAME, "--from", bench.folder / "enrolment", "--json")
                assert added.code == 0, added.errors
                person = json.loads(added.output)["id"]
                needles = _needles(bench, person)
                pid = running.process.pid
                until(lambda: _found(pid, needles)["rotated"], "vision holds the templates", _WAIT_S)  # noqa: B023
                held = _found(pid, needles)
                assert bench.call("people", "remove", person).code == 0
                until(lambda: not any(_found(pid, needles).values()), "nothing is left", _WAIT_S)  # noqa: B023
                time.sleep(0 if short else _SETTLED_S)
                left = _found(pid, needles)
                assert not any(left.values()), f"left in memory: {left}"
                files = _in_files(bench.data, needles | {"name": [_NAME.encode()]})
                assert not files, f"left on the disk: {files}"
                say(f"{round_ + 1} removals")
            running.stop()
    return {
        "removals": rounds,
        "needles_held_before": held,
        "needles_left_in_memory": 0,
        "needles_left_in_files": 0,
        "core_dumps": "LimitCORE=0 in every unit, WatchdogSignal=SIGKILL",
        "swap": "MemorySwapMax=0 in every unit",
    }


def _needles(bench: Bench, person: str) -> Needles:
    """Open the store with its key, and return what must be gone later."""
    settings = bench.settings
    key = load_key(settings.store.key, settings.data_dir, os.environ)
    gallery = Store.open(settings.store_path, key, load_manifest(MANIFEST).embedder("lightcnn9").id).gallery()
    rotated = gallery.templates[gallery.owner == gallery.ids.index(person)]
    plain = (rotated.astype(np.float64) @ gallery.rotation.T.astype(np.float64)).astype(np.float32)
    header, raw = sealed.unseal(settings.store_path.read_bytes(), key)
    with PeopleImage.load(raw, key, header.store_id) as image:
        data_key = next(bytes(entry.key) for entry in image._entries() if entry.id == person)  # noqa: SLF001  # a side door
    return {
        "data_key": [data_key],
        "rotated": [row.tobytes()[_PIECE] for row in rotated],
        "rotated_float16": [row.astype(np.float16).tobytes()[_PIECE] for row in rotated],
        "plain_float16": [row.astype(np.float16).tobytes()[_PIECE] for row in plain],
        "plain": [row.tobytes()[_PIECE] for row in plain],
    }


def _found(pid: int, needles: Needles) -> dict[str, int]:
    """Count the needles that are in a process's memory, by kind."""
    areas = list(memory_of(pid))
    return {kind: sum(needle in area for area in areas for needle in these) for kind, these in needles.items()}


def _in_files(folder: Path, needles: Needles) -> list[str]:
    everything = [needle for these in needles.values() for needle in these]
    contents = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [name for name, content in contents.items() if any(needle in content for needle in everything)]
