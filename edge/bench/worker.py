"""One piece of a benchmark in a process of its own: its own peak memory, its own thread limits.

    python -m edge.bench.worker MODULE FUNCTION '{"argument": …}'

calls `MODULE.FUNCTION` and prints its result as JSON on the last line.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from edge.errors import EdgeError

_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_REFUSED = 3  # exit code of a worker that returns an EdgeError
_LAST_LINES = 12  # of stderr, shown when a worker fails


class BenchError(EdgeError):
    """A measurement could not be taken."""


def call(module: str, function: str, **arguments: Any) -> dict[str, Any]:
    """Run `module.function` in a new process, libraries limited to one thread; raises BenchError."""
    command = [sys.executable, "-m", "edge.bench.worker", module, function, json.dumps(arguments)]
    done = subprocess.run(  # noqa: S603 - our own module, and names from our own code
        command, env={**os.environ, **_ONE_THREAD}, capture_output=True, text=True, check=False
    )
    answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.endswith("}\n") else None
    if done.returncode == _REFUSED and answer:
        raise BenchError(answer["what"], answer["remedy"])
    if done.returncode or answer is None:
        said = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise BenchError(f"the measurement {module}.{function} ended with code {done.returncode}:\n{said}")
    return dict(answer)


def main(module: str, function: str, arguments: str) -> int:
    """Call the function and print the object that it returns, or the EdgeError that it raises."""
    try:
        result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    except EdgeError as e:
        print(json.dumps({"what": e.what, "remedy": e.remedy}))
        return _REFUSED
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
