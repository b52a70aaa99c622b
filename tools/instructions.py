"""Count instructions, for machines whose times are too noisy: `python -m tools.instructions [--write]`.

callgrind counts on x86-64; qemu-user with a plugin counts for aarch64 (requirements: `tools/rig/arm64.py`). A count is
the difference of two processes that repeat the same work a different number of times, which removes the start-up.
Counts are not times: a wide instruction does more work than a narrow one, and waiting for memory is not counted. The
last line is JSON.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.models.manifest import load_manifest
from edge.models.onnxfile import write
from tools.bench.model_forms import make_forms
from tools.lab.page import publish
from tools.rig import Missing, arm64

_PAGE = Path(__file__).parents[1] / "docs/bench.md"
_FIGURES = _PAGE.with_suffix("") / "instructions.json"  # million instructions: processor → subject → count
HERE = "x86_64"
ALL = (HERE, *(processor.qemu for processor in arm64.PROCESSORS))
_COUNTED = Path(__file__).parent / "rig/counted.py"
_FEW, _MANY = 1, 4  # repetitions of the work in the two processes
SUBJECTS = {
    "embed-int8": "an embedding, as shipped",
    "embed-plain-int8": "an embedding, plain QDQ int8",
    "embed-fp32": "an embedding, float32",
    "detect": "a look of the detector, 640×480",
}
_FORMS = {"embed-plain-int8": "int8 plain QDQ", "embed-fp32": "fp32"}  # subject → form of the model
Count = Callable[[str, int], int]


def callgrind(forms: Path) -> Count:
    """Return a function that counts one process on this x86-64 machine; `forms`: folder of the model's forms."""
    valgrind = ["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(_COUNTED.parents[2])}

    def count(subject: str, times: int) -> int:
        command = [*valgrind, sys.executable, str(_COUNTED), subject, str(times), str(forms)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        return _collected(done, r"Collected : (\d+)")

    return count


def emulated(processor: arm64.Processor, installed: arm64.Emulated, plugin: Path, forms: Path) -> Count:
    """Return a function that counts one emulated process."""

    def count(subject: str, times: int) -> int:
        done = installed.run(processor, _COUNTED, subject, str(times), forms, plugin=plugin)
        return _collected(done, r"instructions: (\d+)")

    return count


def _collected(done: subprocess.CompletedProcess[str], pattern: str) -> int:
    found = re.findall(pattern, done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"nothing was counted: {done.stderr[-2000:]}")
    return int(found[-1])


def each(count: Count, name: str) -> dict[str, float]:
    """Return the millions of instructions of every subject."""
    found = {}
    for subject in SUBJECTS:
        found[subject] = round((count(subject, _MANY) - count(subject, _FEW)) / (_MANY - _FEW) / 1e6, 2)
        _say(f"{name}: {subject}: {found[subject]} million")
    return found


def measure(processors: Sequence[str]) -> dict[str, Any]:
    """Return the counts of these processors, or the reason where one cannot be counted here."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edge-count-") as name:
        folder = Path(name)
        write_forms(folder)
        if HERE in processors:
            able = platform.machine() == HERE and shutil.which("valgrind") is not None
            found[HERE] = each(callgrind(folder), HERE) if able else "not counted: this needs x86-64 and valgrind"
        wanted = [processor for processor in arm64.PROCESSORS if processor.qemu in processors]
        if not wanted:
            return found
        try:
            plugin, installed = arm64.plugin(folder), arm64.emulated(folder, _say)
        except Missing as e:
            return found | {processor.qemu: f"not counted: {e}" for processor in wanted}
        for processor in wanted:
            found[processor.qemu] = each(emulated(processor, installed, plugin, folder), processor.qemu)
    return found


def write_forms(folder: Path) -> None:
    """Write the counted forms other than the shipped file to a folder; `tools/rig/counted.py` reads them."""
    made = make_forms(load_manifest().embedder("lightcnn9"))
    for subject, form in _FORMS.items():
        (folder / f"{subject}.onnx").write_bytes(write(made[form]))


def table(found: dict[str, Any]) -> str:
    """Return the counts as a Markdown table: a row for each subject, a column for each processor."""
    head = ["| Million instructions |", *(f" {name} |" for name in found)]
    rows = [
        "".join([f"| {title} |", *(f" {counts[subject]:,.1f} |" for counts in found.values())])
        for subject, title in SUBJECTS.items()
    ]
    return "\n".join(["".join(head), "| --- |" + " ---: |" * len(found), *rows])


def main() -> int:
    """Count, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m tools.instructions", description=__doc__)
    parser.add_argument("processors", nargs="*", metavar="PROCESSOR", help=f"of {', '.join(ALL)}; all, without any")
    parser.add_argument("--write", action="store_true", help="write the counts into docs/bench.md; others there stay")
    asked = parser.parse_args()
    if unknown := set(asked.processors) - set(ALL):
        parser.error(f"no such processor: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    found = measure(asked.processors or ALL)
    counted = {name: counts for name, counts in found.items() if isinstance(counts, dict)}
    if asked.write and counted:
        before = json.loads(_FIGURES.read_text(encoding="utf-8")) if _FIGURES.exists() else {}
        every = {name: counts for name in ALL if (counts := (before | counted).get(name))}
        publish("instructions", every, table(every), _PAGE, "python -m tools.instructions --write")
    print(json.dumps(found))
    return 0 if len(counted) == len(found) else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
