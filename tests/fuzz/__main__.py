"""The long run, guided by coverage: `python -m tests.fuzz all -runs=10000000`, or one target: `… framing -runs=…`.

Needs atheris (`pip install atheris`), which has wheels for x86-64 Linux. The arguments after the target's name are
libFuzzer's: -runs, -max_total_time, -jobs, a corpus folder. A failing input is written to the current folder. `all`
gives each target its share of the runs, in a process of its own, and ends with one line of JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    sys.exit("error: atheris is not installed\n  → pip install atheris (it has wheels for x86-64 Linux)")

with atheris.instrument_imports(include=["edge.provision"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

# Shares of the inputs of `all`. The first two targets take a hundred times as long: bytes fed one by one, decryption.
SHARES = {"framing": 0.1, "session": 0.1, "requests": 0.3, "replies": 0.3, "control": 0.2}
_DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def main() -> None:
    """Run one target, or all."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name == "all":
        sys.exit(run_all(rest))
    if name not in TARGETS:
        sys.exit(f"{__doc__}\ntargets: all, {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *rest, corpus], TARGETS[name])
        atheris.Fuzz()


def run_all(arguments: list[str]) -> int:
    """Run all targets one by one; returns 1 where a target failed or did not finish."""
    runs = [int(a.removeprefix("-runs=")) for a in arguments if a.startswith("-runs=")]
    if len(runs) != 1:
        sys.exit("`all` needs -runs=N, the inputs of all targets together")
    others = [a for a in arguments if not a.startswith("-runs=")]
    inputs, failed, began_s = {}, [], time.monotonic()
    for name, share in SHARES.items():
        wanted = round(share * runs[0])
        command = [sys.executable, "-m", "tests.fuzz", name, f"-runs={wanted}", "-print_final_stats=1", *others]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        found = _DONE.search(done.stderr)
        inputs[name] = int(found.group(1)) if found else 0
        if done.returncode or inputs[name] < wanted:
            failed.append(name)
            sys.stderr.write(done.stderr[-4000:])
        print(f"{name}: {inputs[name]:,} inputs, exit code {done.returncode}", flush=True)
    seconds = round(time.monotonic() - began_s, 1)
    print(json.dumps({"inputs": sum(inputs.values()), **inputs, "failed": failed, "seconds": seconds}))
    return 1 if failed else 0


if __name__ == "__main__":
    main()
