"""Comparison of two reports of one command: the figures that got worse, and their ratios.

A figure's name decides which direction is worse. Medians and totals are compared. First runs, means and high
percentiles are not, since they depend more on other work of the machine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.bench.worker import BenchError

Direction = Literal["higher is worse", "lower is worse"]
_NOT_COMPARED = re.compile(r"(^|[._/])(first_ms|load_ms|mean_ms|p90_ms|p99_ms|limit_ms|watched_s|seconds|video_s)$")
_RULES: tuple[tuple[re.Pattern[str], Direction], ...] = (
    (
        re.compile(r"(speedup_over|_per_s|accuracy|cosine|recognized$|last_over_first|peer_cpu_over_ours)"),
        "lower is worse",
    ),
    (
        re.compile(r"(_ms|_s|_mb|_per_frame|_per_recognized_encounter|_per_face|cpu_share\w*|ratio_to_int8_peak)$"),
        "higher is worse",
    ),
)
_IDENTITY = ("model", "form", "backend", "threads", "templates", "templates_per_person", "system", "scene", "stage")
_ABOUT = frozenset({"machine", "load", "thermal", "spoiled_by"})
# What a report of each command must hold, so that it can be shown and compared.
_NEEDS: Mapping[str, Mapping[str, type]] = {
    "model": {"rows": list},
    "pipeline": {"scenes": dict},
    "crowd": {"rows": list},
    "match": {"rows": list},
    "pad": {"species": dict, "live": dict},
    "battery": {"rows": list, "run_time": dict},
    "forms": {"rows": list},
    "peers": {"rows": list},
    "instructions": {"rows": list},
    "days": {"rows": list},
}


@dataclass(frozen=True, slots=True)
class Worse:
    """One figure that got worse."""

    figure: str
    before: float
    now: float
    ratio: float  # above 1: how many times worse

    def as_text(self) -> str:
        """Return it as a line."""
        return f"{self.figure}: {self.before:g} → {self.now:g} ({self.ratio:.2f} times worse)"


def load(path: Path) -> dict[str, Any]:
    """Return the report of an earlier run: the last line of its --json output; raises BenchError for anything else."""
    remedy = "write one with: edge-bench COMMAND --json > FILE"
    try:
        lines = path.read_text(encoding="utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BenchError(f"{path}: not a report: {getattr(e, 'strerror', None) or 'no text'}", remedy) from None
    if not lines:
        raise BenchError(f"{path}: not a report: the file is empty", remedy)
    try:
        report = json.loads(lines[-1])
    except ValueError:
        raise BenchError(f"{path}: not a report: its last line is no JSON", remedy) from None
    if not isinstance(report, dict):
        raise BenchError(f"{path}: not a report: no JSON object", remedy)
    return report


def check_form(report: Mapping[str, Any], path: Path) -> None:
    """Raise BenchError for a report that is not of one of our commands, or lacks keys that its command writes."""
    command = str(report.get("command"))
    if command not in _NEEDS:
        what = f"{path}: not a report of a command of ours ({', '.join(_NEEDS)})"
        raise BenchError(what, "write one with: edge-bench COMMAND --json > FILE")
    if missing := [key for key, kind in _NEEDS[command].items() if not isinstance(report.get(key), kind)]:
        what = f"{path}: says it is a report of '{command}', but has no {', '.join(missing)}"
        raise BenchError(what, f"write it again with this version: edge-bench {command} --json > FILE")


def compare(now: Mapping[str, Any], before: Mapping[str, Any], max_ratio: float) -> list[Worse]:
    """Return the figures that are more than `max_ratio` times worse than before, the worst first.

    A figure that only one of the two reports has is not compared. Raises BenchError for reports of two commands.
    """
    if now.get("command") != before.get("command"):
        problem = f"the baseline is of '{before.get('command')}', this is '{now.get('command')}'"
        raise BenchError(problem, "give a baseline of the same command")
    past = dict(figures(before))
    worse = []
    for name, value in figures(now):
        direction = direction_of(name)
        if direction is None or name not in past:
            continue
        ratio = _ratio(value, past[name]) if direction == "higher is worse" else _ratio(past[name], value)
        if ratio > max_ratio:
            worse.append(Worse(name, past[name], value, ratio))
    return sorted(worse, key=lambda w: -w.ratio)


def direction_of(name: str) -> Direction | None:
    """Return the direction in which a figure of this name gets worse; None: it is not compared."""
    if _NOT_COMPARED.search(name):
        return None
    return next((direction for pattern, direction in _RULES if pattern.search(name)), None)


def figures(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number of a report, with a name that is the same in every run."""
    for key, value in report.items():
        if key not in _ABOUT:
            yield from _below(str(key), value)


def _below(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        yield name, float(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _IDENTITY:
                yield from _below(f"{name}.{key}", inner)
    else:
        for i, inner in enumerate(value):
            known = [str(inner[k]) for k in _IDENTITY if k in inner] if isinstance(inner, Mapping) else [str(i)]
            yield from _below(f"{name}[{' '.join(known)}]", inner)


def _ratio(worse: float, better: float) -> float:
    if better == 0:
        return 1.0 if worse == 0 else math.inf
    return worse / better
