"""A training run in the background: start, pause (for a benchmark), continue, stop.

The run is a separate process at the lowest priority. It does not end with the terminal. Its folder holds its process id
(`pid`) and its output (`output.txt`). A pause suspends the process (SIGSTOP) and keeps its memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from edge.errors import EdgeError
from tools.lab.page import FOLDER

ACTIONS = ("start", "pause", "continue", "stop", "status")
LONG = Path(__file__).parent / "runs/long.toml"
_ROOT = FOLDER.parents[1]
# By default glibc returns each freed activation map to the kernel, which must clear the pages again in the next step.
# Keeping them saves 30 % CPU time: 0.21 s instead of 0.30 s a picture (128 px, batch 64, a processor without AVX-512).
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}


class BackgroundError(EdgeError):
    """The action needs a run in the background, and there is none."""


def folder_of(run_file: Path) -> Path:
    """Return the folder of a run's state."""
    return Path.home() / ".cache/edge-train" / run_file.stem


def do(action: str, run_file: Path, data_dir: Path) -> str:
    """Do an action, and return the message to print; raises BackgroundError where no run can be paused or stopped."""
    folder = folder_of(run_file)
    pid = running(folder)
    if action == "status":
        return _status(folder, pid)
    if action == "start":
        return f"process {pid} is training already" if pid else f"process {_start(run_file, data_dir, folder)} trains"
    if pid is None:
        raise BackgroundError(f"{folder}: no run is in the background", "python -m tools.lab background start")
    if action == "stop":  # a paused process must continue to save its state
        os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGSTOP if action == "pause" else signal.SIGCONT)
    return {"pause": "paused", "continue": "goes on", "stop": "saves its state and ends"}[action]


def running(folder: Path) -> int | None:
    """Return the process id of the run, None where none runs."""
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"tools.lab" in command else None


def give_way(nice: int) -> None:
    """Lower this process's priority, 0..19, among all processes.

    Linux schedules the processes of a session as one group (autogroup). `nice` has effect only within the group, and a
    run in the background is its own session. The group's nice value is therefore set too.
    """
    os.nice(nice)
    with suppress(OSError):  # a kernel without autogroups
        Path("/proc/self/autogroup").write_text(str(nice), encoding="ascii")


def _start(run_file: Path, data_dir: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tools.lab", "train", str(run_file.resolve()), "--data", str(data_dir.resolve())]
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [*command, "--folder", str(folder)], cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, env=os.environ | _KEEP_FREED_MEMORY,
        )  # fmt: skip
    (folder / "pid").write_text(str(process.pid), encoding="ascii")
    return process.pid


def _status(folder: Path, pid: int | None) -> str:
    path = folder / "output.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join([f"process {pid} trains" if pid else "no run is in the background", *lines[-2:]])
