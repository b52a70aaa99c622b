"""Start vision processes by fork after the imports, so that a hundred can be killed in a minute.

A fresh interpreter with one thread imports what starts no thread (onnxruntime does), then forks. For each line
`start LOG` on standard input it forks two children and prints their ids: the real `edge-daemon vision`, its log going
to LOG, and an owner who enrols and removes people without pause, telling the file LOG.people what was acknowledged.
For each line `reap` it prints how the two ended. Run as: python -m tests.fault.fork_server CONFIG VECTORS.npy
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import cv2  # noqa: F401 - loaded here, so that no child has to
import numpy as np

import edge.cameras.camera
import edge.events.backlog
import edge.identity.enrolment
import edge.vision.motion  # noqa: F401 - as above
from edge import config
from edge.cli import daemon
from edge.identity.keys import load_key
from edge.identity.store import Store
from edge.models.manifest import load_manifest

_KEPT_PEOPLE = 10  # more would only slow down each write
_PAUSE_S = 0.05  # between two enrolments, to leave processor time to vision


def main(config_path: Path, vectors_path: Path) -> None:
    """Serve until standard input ends."""
    children: list[int] = []
    for line in sys.stdin:
        command, _, log = line.strip().partition(" ")
        if command == "start":
            if "Threads:\t1\n" not in Path("/proc/self/status").read_text(encoding="ascii"):
                raise RuntimeError("a process with threads must not fork")
            children = [
                _forked(lambda log=log: _see(config_path, Path(log))),  # type: ignore[misc]
                _forked(lambda log=log: _enrol(config_path, vectors_path, Path(log + ".people"))),  # type: ignore[misc]
            ]
            print(*children, flush=True)
        else:
            print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - nothing may return into the copy of the server
            traceback.print_exc()
        os._exit(1)
    return child


def _see(config_path: Path, log: Path) -> NoReturn:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    sys.argv = ["edge-daemon", "vision", "--config", str(config_path)]
    daemon.main()
    raise AssertionError("vision ended by itself")


def _enrol(config_path: Path, vectors_path: Path, told: Path) -> NoReturn:
    """Log `+ID` after an acknowledged enrolment, `?ID` before a removal, `-ID` after an acknowledged removal."""
    settings, vectors = config.load(config_path), np.load(vectors_path)
    model = load_manifest().embedder(settings.recognition.model)
    store = Store.open(settings.data.store, load_key(settings.store.key, settings.data.path, os.environ), model.id)
    mine = deque(person.id for person in store.people()[1:])  # the first one is the man in the video
    out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        mine.append(store.add("somebody", vectors).id)
        os.write(out, f"+{mine[-1]}\n".encode())
        if len(mine) > _KEPT_PEOPLE:
            os.write(out, f"?{mine[0]}\n".encode())
            store.remove(mine[0])
            os.write(out, f"-{mine.popleft()}\n".encode())
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
