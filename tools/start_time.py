"""Compare the time that checkouts take to load the models: `python -m tools.start_time CHECKOUT CHECKOUT…`.

The checkouts run in turns, every other round in reverse, with this Python. One process per run loads detector and
embedder with the self-test, as vision does, then loads them again, as a reload does. The last line is one JSON object:
medians of processor time, ms, and medians of the rounds' ratios to the first checkout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

_LOAD = """
import json, time
from edge.config import Config
from edge.processes.assembly import build_detector, build_embedder
config, imported_s = Config(), time.process_time()
def load():
    before_s = time.process_time()
    build_detector(config), build_embedder(config)
    return time.process_time() - before_s
first_s, again_s = load(), sorted(load() for _ in range(5))[2]
print(json.dumps({"start_ms": (imported_s + first_s) * 1e3, "models_ms": first_s * 1e3, "reload_ms": again_s * 1e3}))
"""

Figures = dict[str, float]


def main() -> int:
    """Measure; returns the exit code."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.start_time", description=__doc__, formatter_class=how)
    parser.add_argument("checkouts", metavar="CHECKOUT", type=Path, nargs="+", help="a folder with the sources")
    parser.add_argument("--rounds", type=int, default=15, help="processes of each checkout")
    options = parser.parse_args()
    for checkout in options.checkouts:
        if not (checkout / "edge/pipeline.py").is_file():
            parser.error(f"{checkout}: not a checkout of this project: it holds no edge/pipeline.py")
    print(json.dumps(compare(options.checkouts, options.rounds)))
    return 0


def compare(checkouts: list[Path], rounds: int) -> dict[str, dict[str, Figures]]:
    """Return the figures of each checkout, in milliseconds, and their ratios to those of the first."""
    runs: dict[Path, list[Figures]] = {checkout: [] for checkout in checkouts}
    for number in range(rounds):
        for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
            runs[checkout].append(measure(checkout))
    first = runs[checkouts[0]]
    return {
        str(checkout): {
            "cpu": {key: round(median(run[key] for run in own), 1) for key in own[0]},
            "over_first": {
                key: round(median(run[key] / base[key] for run, base in zip(own, first, strict=True)), 3)
                for key in own[0]
            },
        }
        for checkout, own in runs.items()
    }


def measure(checkout: Path) -> Figures:
    """Load the models of one checkout in a new process whose module search path begins with its folder."""
    done = subprocess.run([sys.executable, "-c", _LOAD], cwd=checkout, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
