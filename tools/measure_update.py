"""Measure the speed of a model update over a pty: `python -m tools.measure_update`. The last line is one JSON object.

Host and device run the real code in two processes, with encryption, framing and the device's disk, without vision.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from edge.provision.host.cable_client import Client
from edge.provision.protocol.code import canonical
from edge.provision.protocol.port import SerialPort

SIZE_BYTES = 6_000_000
RUNS = 5


def main() -> int:
    """Measure; returns the exit code."""
    argparse.ArgumentParser(prog="python -m tools.measure_update", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, port_path = folder / "edge.toml", folder / "port"
        config.write_text(f'[device]\ndata_dir = "{folder}/data"\n', encoding="utf-8")
        daemon = [sys.executable, "-m", "edge.cli.daemon"]
        where = ["--config", str(config)]
        device = subprocess.Popen([*daemon, "provision", "--pty", str(port_path), *where], stderr=subprocess.DEVNULL)
        try:
            while not port_path.is_symlink():
                time.sleep(0.05)
            armed = subprocess.run([*daemon, "arm", "--json", *where], check=True, capture_output=True, text=True)
            speeds = list(measure(port_path, json.loads(armed.stdout)["code"]))
        finally:
            device.terminate()
            device.wait()
    median = sorted(speeds)[RUNS // 2]
    print(json.dumps({"mb_per_s": round(median, 1), "runs": [round(s, 1) for s in speeds], "bytes": SIZE_BYTES}))
    return 0


def measure(path: Path, code: str) -> list[float]:
    """Send several updates; returns the speed of each, MB/s."""
    speeds: list[float] = []
    with closing(SerialPort(str(path))) as port:
        client = Client(port, canonical(code), os.urandom, time.monotonic)
        client.connect()
        for seed in range(RUNS):
            data = random.Random(seed).randbytes(SIZE_BYTES)  # noqa: S311 - the same bytes in every run
            began_s = time.perf_counter()
            for _ in client.send_update(data):
                pass
            speeds.append(SIZE_BYTES / 1e6 / (time.perf_counter() - began_s))
        client.close()
    return speeds


if __name__ == "__main__":
    sys.exit(main())
