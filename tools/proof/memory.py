"""Search the memory of a running vision process and its disk for data of a removed person.

A person is enrolled in each of three ways: by the command, which writes the store while vision runs; through vision,
from photos; through vision, from the camera. Before the removal the proof reads the search patterns ("needles") from
the store with its key: the person's data key, and the templates as stored (rotated) and before rotation (plain), in
float16, float32 and float64. As a control, the search must find templates while the person is enrolled, and plain
templates during enrolment. The short form searches for two templates of each person. The name is searched for on the
disk only, since Python cannot overwrite strings in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.clock import now_s
from edge.footage import locate
from edge.identity import sealed
from edge.identity.keys import load_key
from edge.identity.people_image import PeopleImage
from edge.identity.store import Store
from edge.models.manifest import MANIFEST, load_manifest
from edge.provision.device.control_socket import ControlClient, ControlRequest, WholePhoto
from edge.provision.protocol.messages import EnrolBegin, EnrolFinish, EnrolLook, Remove
from edge.provision.protocol.replies import Enrolled, Progress, Removed
from tools.demo import make_clips
from tools.rig import Missing
from tools.rig.brokers import until
from tools.rig.memory import memory_of
from tools.rig.workbench import Bench

CLAIM = "After a person is removed, neither the running vision process nor the data folder holds key or template."

_NAME = "Wilhelmina Featherstonehaugh"
_PIECE = slice(64, 112)  # bytes of a template that are searched for
_WAIT_S = 60.0
_SETTLED_S = 5.0  # waiting time after vision has logged that it has read the store again

_PHOTOS, _LOOKS, _MOST = 6, 3, 12
_ROUNDING = 1e-6  # tolerance per element of a template whose rotation was inverted

R = TypeVar("R")
Needles = dict[str, list[bytes]]
Vectors = NDArray[np.float64]


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the counts; raises AssertionError where anything is left."""
    if os.geteuid() != 0:
        raise Missing("reading the memory of a process needs root")
    rounds, looked_for, settled_s = (1, 2, 0.0) if short else (7, _MOST, _SETTLED_S)
    held: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-memory-") as name:
        bench = Bench(Path(name))
        man = make_clips(bench.folder)[0]
        camera = {"source": "video", "paths": [str(man.path)], "fps": 30.0, "loop": True}
        bench.configure({"camera": camera, "liveness": {"mode": "off"}})  # a recording shows no live face
        assert bench.call("people", "add", "Somebody else", "--from", locate("astronaut")).code == 0
        with bench.start("vision") as running:
            until(bench.settings.data.control_socket.exists, "vision serves the owner", _WAIT_S)
            for round_ in range(rounds):
                for way in _WAYS:
                    held[way] = _enrolled_and_removed(bench, running.process.pid, way, looked_for, settled_s)
                say(f"{(round_ + 1) * len(_WAYS)} removals")
            running.stop()
    return {
        "removals": rounds * len(_WAYS),
        "needles_held_before": held,
        "needles_left_in_memory": 0,
        "needles_left_in_files": 0,
        "core_dumps": "LimitCORE=0 in every unit, WatchdogSignal=SIGKILL",
        "swap": "MemorySwapMax=0 in every unit",
    }


def _enrolled_and_removed(bench: Bench, pid: int, way: str, looked_for: int, settled_s: float) -> dict[str, int]:
    """Enrol and remove a person; returns the number of needles, by kind, that vision held meanwhile."""
    control = ControlClient(bench.settings.data.control_socket, now_s, time.sleep)
    try:
        person, during = _WAYS[way](bench, pid, control)
        needles, plain = _needles(bench, person, looked_for)
        until(lambda: _found(pid, needles)["rotated"], "vision holds the templates", _WAIT_S)
        held = _found(pid, needles)
        if during:
            held["plain_while_enrolling"] = _near_copies(during, plain)
            assert held["plain_while_enrolling"], f"{way}: plain templates are not found where there are some"
            during.clear()
        if way == "command":
            assert bench.call("people", "remove", person).code == 0
        else:
            assert isinstance(control.call(Remove(person=person)), Removed)
    finally:
        control.close()
    until(lambda: not any(_found(pid, needles).values()), f"{way}: nothing is left", _WAIT_S)
    time.sleep(settled_s)
    left = _found(pid, needles) | {"plain": _near_copies(memory_of(pid), plain)}
    assert not any(left.values()), f"{way}: left in memory: {left}"
    files = _in_files(bench.data, needles | {"name": [_NAME.encode()]})
    assert not files, f"{way}: left on the disk: {files}"
    return held


def _by_command(bench: Bench, _: int, __: ControlClient) -> tuple[str, list[bytes]]:
    """Enrol by the command while vision runs; returns the person, and an empty list: vision enrolled nobody."""
    added = bench.call("people", "add", _NAME, "--from", bench.folder / "enrolment", "--json")
    assert added.code == 0, added.errors
    return json.loads(added.output)["id"], []


def _from_photos(bench: Bench, pid: int, control: ControlClient) -> tuple[str, list[bytes]]:
    """Enrol through vision from photos; returns the person, and vision's memory before the end of the enrolment."""
    _asked(control, EnrolBegin(name=_NAME, source="photos"), Progress)
    for path in sorted((bench.folder / "enrolment").iterdir())[:_PHOTOS]:
        _asked(control, WholePhoto(name=path.name, data=memoryview(path.read_bytes())), Progress)
    during = list(memory_of(pid))
    return _asked(control, EnrolFinish(), Enrolled).person.id, during


def _from_camera(_: Bench, pid: int, control: ControlClient) -> tuple[str, list[bytes]]:
    """Enrol the person in front of vision's camera; returns as `_from_photos` does."""
    _asked(control, EnrolBegin(name=_NAME, source="camera"), Progress)
    until(lambda: _asked(control, EnrolLook(), Progress).accepted >= _LOOKS, "the camera sees the person", _WAIT_S)
    during = list(memory_of(pid))
    return _asked(control, EnrolFinish(), Enrolled).person.id, during


_WAYS = {"command": _by_command, "photos": _from_photos, "camera": _from_camera}


def _asked(control: ControlClient, request: ControlRequest, wanted: type[R]) -> R:
    reply = control.call(request)
    assert isinstance(reply, wanted), reply
    return reply


def _needles(bench: Bench, person: str, most: int) -> tuple[Needles, Vectors]:
    """Open the store with its key; returns the needles of a person, and the plain templates, (K, D) float64."""
    settings = bench.settings
    key = load_key(settings.store.key, settings.data.path, os.environ)
    gallery = Store.open(settings.data.store, key, load_manifest(MANIFEST).embedder("lightcnn9").id).gallery()
    rotated = gallery.templates[gallery.owner == gallery.ids.index(person)][:most]
    plain = rotated.astype(np.float64) @ gallery.rotation.T.astype(np.float64)
    header, raw = sealed.unseal(settings.data.store.read_bytes(), key)
    with PeopleImage.load(raw, key, header.store_id) as image:
        data_key = next(bytes(entry.key) for entry in image._entries() if entry.id == person)  # noqa: SLF001  # a side door
    needles = {
        "data_key": [data_key],
        "rotated": [row.tobytes()[_PIECE] for row in rotated],
        "rotated_float16": [row.astype(np.float16).tobytes()[_PIECE] for row in rotated],
        "rotated_float64": [row.astype(np.float64).tobytes()[_PIECE] for row in rotated],
        "plain_float16": [row.astype(np.float16).tobytes()[_PIECE] for row in plain],
    }
    return needles, plain


def _near_copies(areas: Iterable[bytes], templates: Vectors) -> int:
    """Count the places in memory that hold a template as float32 or float64, within rounding.

    Inverting a rotation does not restore the bits of a template. A place counts where three consecutive elements equal
    the first three of a template within `_ROUNDING`.
    """
    begins: list[list[float]] = templates[:, :3].tolist()  # (K, 3)
    return sum(
        _places(np.frombuffer(area, dtype, len(area) // np.dtype(dtype).itemsize), begin)
        for area in areas
        for dtype in (np.float32, np.float64)
        for begin in begins
    )


def _places(values: NDArray[Any], begin: list[float]) -> int:
    """Count the positions in (N,) `values`, arbitrary numbers, where the elements `begin` follow each other."""
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.flatnonzero(np.abs(values[:-2] - begin[0]) < _ROUNDING)
        for step in (1, 2):
            near = near[np.abs(values[near + step] - begin[step]) < _ROUNDING]
    return len(near)


def _found(pid: int, needles: Needles) -> dict[str, int]:
    """Count the needles in a process's memory, by kind."""
    areas = list(memory_of(pid))
    return {kind: sum(needle in area for area in areas for needle in these) for kind, these in needles.items()}


def _in_files(folder: Path, needles: Needles) -> list[str]:
    everything = [needle for these in needles.values() for needle in these]
    contents = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [name for name, content in contents.items() if any(needle in content for needle in everything)]
