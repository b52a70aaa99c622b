"""Run `edge-daemon` with one injected fault that a file describes: `python -m tools.proof.faulty FOLDER …`.

FOLDER/plan names a stage, a kind of fault, and the number of that stage's calls before it. The process that reaches the
fault replaces FOLDER/plan by FOLDER/struck, which holds the time, and then hangs or crashes. A fault therefore happens
once. FOLDER/acknowledged gets one line per event that the outbox has stored.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# The method that a fault replaces in each stage: module, class, method.
STAGES = {
    "motion gate": ("edge.vision.motion", "MotionGate", "observe"),
    "schedule": ("edge.schedule", "LookSchedule", "due"),
    "detector": ("edge.vision.focus", "FocusedDetector", "detect"),
    "face gate": ("edge.vision.gates", "FaceGate", "refusal"),
    "tracker": ("edge.vision.tracker", "Tracker", "update"),
    "landmarks": ("edge.vision.landmarks", "LandmarkRefiner", "refine"),
    "quality gate": ("edge.vision.gates", "QualityGate", "assess"),
    "aligner": ("edge.vision.align", "Aligner", "align"),
    "best shots": ("edge.vision.shots", "BestShots", "take"),
    "embedder": ("edge.vision.embedder", "Embedder", "embed"),
    "matcher": ("edge.identity.matcher", "Matcher", "match"),
    "encounters": ("edge.identity.encounters", "Encounters", "decide"),
    "outbox": ("edge.events.outbox", "Outbox", "append"),
    "publisher": ("edge.events.link", "Connection", "turn"),
    "provision": ("edge.provision.device.conversation", "Device", "tick"),
}
_PR_SET_DUMPABLE = 4  # include/uapi/linux/prctl.h


def _hang() -> None:
    """Never return, and block all other Python threads, like a driver call that hangs with the GIL held."""
    ctypes.PyDLL(None).pause()


def _sleep() -> None:
    """Never return; other threads continue."""
    while True:
        time.sleep(3600)


def _crash() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no core dump, as LimitCORE=0 in the units
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise() -> None:
    raise RuntimeError("a fault on purpose")


KINDS: dict[str, Callable[[], None]] = {"hang": _hang, "sleep": _sleep, "crash": _crash, "error": _raise}


def _spoil(folder: Path, stage: str) -> None:
    """Replace a stage's method by one that executes the planned fault."""
    module, kind_of, name = STAGES[stage]
    cls = getattr(import_module(module), kind_of)
    sound = getattr(cls, name)
    plan, calls = folder / "plan", 0

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        if plan.exists():
            where, kind, after = plan.read_text(encoding="ascii").split(",")
            if where == stage:
                calls += 1
                if calls > int(after):
                    (folder / "strikes").write_text(repr(time.monotonic()), encoding="ascii")
                    plan.unlink()
                    (folder / "strikes").replace(folder / "struck")
                    KINDS[kind]()
        return sound(*args, **kwargs)

    setattr(cls, name, spoiled)


def _record(folder: Path) -> None:
    """Record the process and number of each event that the outbox has stored."""
    backlog = import_module("edge.events.backlog").Backlog
    sound = backlog.append

    def append(self: Any, **event: Any) -> int:
        seq: int = sound(self, **event)
        if not self.held:
            line = f"{self.boot} {seq}\n".encode()
            fd = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, line)
            os.close(fd)
        return seq

    backlog.append = append


def main() -> None:
    """Inject the faults, then run the command."""
    folder, stages, *arguments = sys.argv[1:]
    for stage in stages.split(","):
        _spoil(Path(folder), stage)
    if "vision" in arguments:
        _record(Path(folder))
    from edge.cli.daemon import main as daemon  # noqa: PLC0415 - as late as its own entry point loads it

    sys.argv = ["edge-daemon", *arguments]
    daemon()


if __name__ == "__main__":
    main()
