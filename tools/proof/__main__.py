"""Run proofs: `python -m tools.proof NAME… | all [--short] [--write]`. The last line is one JSON object.

Exit code 0: all claims held. Exit code 1: a claim did not hold, or a proof could not run here. `--write` puts the
figures into docs/VERIFY.md and docs/VERIFY/NAME.json. Only a full form whose claim held is written.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.lab.page import publish
from tools.rig import Missing

PAGE = Path(__file__).parents[2] / "docs/VERIFY.md"
PROOFS = (
    "bare",
    "first_hour",
    "boot",
    "package",
    "guest",
    "picamera",
    "aarch64",
    "egress",
    "power_cut",
    "flips",
    "broker_chaos",
    "tamper",
    "unlink",
    "home_assistant",
    "memory",
    "faults",
    "soak",
)


def run(name: str, *, short: bool) -> dict[str, Any]:
    """Run one proof; returns its figures, with `held` and, where it did not hold, `problem`."""
    module = import_module(f"tools.proof.{name}")
    began_s = time.monotonic()
    result: dict[str, Any] = {"proof": name, "claim": module.CLAIM, "form": "short" if short else "full"}
    try:
        result |= module.prove(short=short, say=_say)
        result["held"] = True
    except (AssertionError, Missing) as e:
        result |= {"held": False, "problem": str(e)}
    return result | {"seconds": round(time.monotonic() - began_s, 1)}


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.proof", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*PROOFS, "all"])
    parser.add_argument("--short", action="store_true", help="the form that the tests run")
    parser.add_argument("--write", action="store_true", help="write what held into docs/VERIFY.md")
    asked = parser.parse_args()
    results = {}
    for name in PROOFS if "all" in asked.names else asked.names:
        _say(f"{name}: begins")
        results[name] = run(name, short=asked.short)
        _say(f"{name}: {'held' if results[name]['held'] else results[name]['problem']}")
        if asked.write and not asked.short and results[name]["held"]:
            if (write := getattr(import_module(f"tools.proof.{name}"), "write", None)) is not None:
                write(results[name])  # a page of its own
            publish(name, results[name], _table(results[name]), PAGE, f"python -m tools.proof --write {name}")
    print(json.dumps(results[asked.names[0]] if len(results) == 1 else results))
    return 0 if all(result["held"] for result in results.values()) else 1


def _table(figures: dict[str, Any]) -> str:
    rows = [f"| {key.replace('_', ' ')} | {_plain(value)} |" for key, value in figures.items() if key != "proof"]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')}: {_plain(inner)}" for key, inner in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
