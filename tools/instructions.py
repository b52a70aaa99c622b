"""Instructions that the product executes, where times are too noisy: `python -m tools.instructions [--write]`.

On x86-64 callgrind counts, for aarch64 qemu-user with a plugin (`tools/rig/arm64.py` says what it needs). A count is
the difference of two processes that do the same work a different number of times, so that start-up cancels out. Counts
are not times: a wide instruction does more than a narrow one, and a wait for memory is none. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.lab.page import publish
from tools.rig import Missing, arm64

_PAGE = Path(__file__).parents[1] / "docs/bench.md"
_COUNTED = Path(__file__).parent / "rig/counted.py"
# Subject → what it is, and the two numbers of times.
SUBJECTS = {
    "embed-int8": ("an embedding, as shipped", (1, 4)),
    "embed-plain-int8": ("an embedding, plain QDQ int8", (1, 4)),
    "embed-fp32": ("an embedding, float32", (1, 4)),
    "detect": ("a look of the detector, 640×480", (1, 4)),
    "still": ("a frame without motion", (15, 45)),
    "one_face": ("a frame with one enrolled face, mean", (15, 45)),
}
Count = Callable[[str, int], int]


def callgrind(subject: str, times: int) -> int:
    """Return the instructions of one process on this x86-64 machine."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, str(_COUNTED)]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(_COUNTED.parents[2])}
    done = subprocess.run(
        ["setarch", "-R", *command, subject, str(times)], capture_output=True, text=True, check=False, env=environ
    )
    return _collected(done, r"Collected : (\d+)")


def emulated(processor: arm64.Processor, installed: arm64.Emulated, plugin: Path) -> Count:
    """Return what counts the instructions of one emulated process."""

    def count(subject: str, times: int) -> int:
        done = installed.run(processor, _COUNTED, subject, str(times), plugin=plugin)
        return _collected(done, r"instructions: (\d+)")

    return count


def _collected(done: subprocess.CompletedProcess[str], pattern: str) -> int:
    found = re.findall(pattern, done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"nothing was counted: {done.stderr[-2000:]}")
    return int(found[-1])


def each(count: Count, name: str) -> dict[str, float]:
    """Return millions of instructions of every subject, once each."""
    found = {}
    for subject, (_, (few, many)) in SUBJECTS.items():
        found[subject] = round((count(subject, many) - count(subject, few)) / (many - few) / 1e6, 2)
        print(f"{name}: {subject}: {found[subject]} million", file=sys.stderr, flush=True)
    return found


def measure() -> dict[str, Any]:
    """Return the counts on this machine and on each emulated processor; what cannot be counted here says why."""
    told: dict[str, Any] = {"unit": "million instructions"}
    if platform.machine() == "x86_64" and shutil.which("valgrind") is not None:
        told["x86_64"] = each(callgrind, "x86_64")
    else:
        told["x86_64"] = "not counted: this needs x86-64 and valgrind"
    with tempfile.TemporaryDirectory(prefix="edge-count-") as name:
        folder = Path(name)
        try:
            plugin = arm64.plugin(folder)
            installed = arm64.emulated(folder, lambda line: print(line, file=sys.stderr, flush=True))
        except Missing as e:
            return {**told, "aarch64": f"not counted: {e}"}
        for processor in arm64.PROCESSORS:
            told[processor.qemu] = each(emulated(processor, installed, plugin), processor.qemu)
    return told


def table(told: dict[str, Any]) -> str:
    """Return the counts as a Markdown table: a row a subject, a column a processor."""
    columns = [name for name, counts in told.items() if isinstance(counts, dict)]
    head = ["| Million instructions |", *(f" {name} |" for name in columns)]
    rows = [
        "".join([f"| {title} |", *(f" {told[name][subject]:,.1f} |" for name in columns)])
        for subject, (title, _) in SUBJECTS.items()
    ]
    return "\n".join(["".join(head), "| --- |" + " ---: |" * len(columns), *rows])


def main() -> int:
    """Count, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m tools.instructions", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the counts into docs/bench.md")
    asked = parser.parse_args()
    told = measure()
    if asked.write:
        publish("instructions", told, table(told), _PAGE, "python -m tools.instructions --write")
    print(json.dumps(told))
    return 0 if all(isinstance(counts, dict) for name, counts in told.items() if name != "unit") else 1


if __name__ == "__main__":
    sys.exit(main())
