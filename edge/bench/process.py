"""The real vision process, measured from outside: time until it is ready, memory and processor time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge.bench.timing import memory_mb
from edge.bench.worker import BenchError
from edge.config import Config

_LIMIT_S = 30.0  # longest time until the process is ready
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CONFIG = """
[device]
id = "bench"
data_dir = {data_dir}
[camera]
source = "video"
paths = [{clip}]
fps = 15.0
loop = true
"""


def vision_process(config: Config, clip: Path, path: Path, seconds: float) -> dict[str, Any]:
    """Start `edge-daemon vision` on a clip that repeats, wait until it sends READY, watch it; raises BenchError.

    `ready_s` is the time from the start of Python to the datagram for systemd; `rss_mb` is the peak.
    """
    path.write_text(
        _CONFIG.format(data_dir=json.dumps(config.device.data_dir), clip=json.dumps(str(clip.resolve()))),
        encoding="utf-8",
    )
    address = path.with_name("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(0.1)
        start_s = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own module, and a path that was made here
            [sys.executable, "-m", "edge.cli.daemon", "vision", "--config", str(path)],
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _await_ready(manager, process, start_s)
            ready_s = time.perf_counter() - start_s
            start_cpu_s, begin_s = cpu_s(process.pid), time.perf_counter()
            time.sleep(seconds)
            if process.poll() is not None:
                raise BenchError(f"the vision process ended while it was watched:\n{process.communicate()[1]}")
            resident_mb, peak_mb = memory_mb(process.pid)
            share = (cpu_s(process.pid) - start_cpu_s) / (time.perf_counter() - begin_s)
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate()
    return {
        "ready_s": round(ready_s, 3),
        "start_cpu_s": round(start_cpu_s, 3),
        "rss_mb": peak_mb,
        "rss_at_the_end_mb": resident_mb,
        "cpu_share": round(share, 4),
        "watched_s": seconds,
    }


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used; raises OSError where it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # utime, stime


def _await_ready(manager: socket.socket, process: subprocess.Popen[str], start_s: float) -> None:
    while time.perf_counter() - start_s < _LIMIT_S:
        try:
            if b"READY=1" in manager.recv(4096):
                return
        except TimeoutError:
            if process.poll() is not None:
                break
    process.kill()
    raise BenchError(f"the vision process does not become ready:\n{process.communicate()[1]}", "see edge-daemon doctor")
