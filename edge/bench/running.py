"""One measurement from start to end: measure, record the machine, print, compare with an earlier report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.bench import baseline as earlier
from edge.bench import machine, text


def finish(
    command: str,
    take: Callable[[], dict[str, Any]],
    *,
    as_json: bool,
    baseline: Path | None = None,
    max_ratio: float = 1.0,
) -> bool:
    """Measure and print; return whether a figure got worse than the baseline allows. Raises EdgeError.

    `baseline`: an earlier report to compare with; `max_ratio`: a figure may be this many times worse.
    """
    before = None if baseline is None else earlier.load(baseline)  # a wrong file is refused before the measurement
    found = measured(command, take)
    worse = [] if before is None else earlier.compare(found, before, max_ratio)
    if before is not None:
        found["worse"] = [w.as_text() for w in worse]
    print(json.dumps(found) if as_json else text.as_text(found, rows_of(found)))
    for w in worse:
        print(f"worse: {w.as_text()}", file=sys.stderr)
    return bool(worse)


def measured(command: str, take: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures, and the state of the machine during the measurement."""
    about: dict[str, Any] = {}
    with machine.noted(about):
        figures = take()
    return {"command": command, **figures, **about}


def rows_of(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a report's table; a comparison of `tools.bench` has them in the report."""
    module = f"edge.bench.{found.get('command')}"
    table = getattr(import_module(module), "table", None) if find_spec(module) else None
    return list(found.get("rows", []) if table is None else table(found))
