"""The machine of a measurement. A figure without it has no meaning."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge import __version__
from edge.bench import thermal

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "ai-edge-litert")


def describe() -> dict[str, Any]:
    """Return processor, system and versions."""
    return {
        "cpu": _cpu(),
        "processors": os.cpu_count() or 1,
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "edge": __version__,
        **{name: _version(name) for name in _PACKAGES},
    }


@contextmanager
def noted(report: dict[str, Any]) -> Iterator[None]:
    """Add to a report the machine, its load, and its temperature while the block ran."""
    before = os.getloadavg()[0]
    with thermal.watching() as watch:
        yield
    report["machine"] = describe()
    report["load"] = {"before": round(before, 2), "after": round(os.getloadavg()[0], 2)}
    report["thermal"] = watch.as_dict()
    # with more runnable processes than processors, the measured times include waiting for them
    busy = [f"load {before:.1f} on {os.cpu_count()} processors"] if before > (os.cpu_count() or 1) else []
    report["spoiled_by"] = watch.spoiled_by + busy


def _cpu() -> str:
    """Return the processor's model on x86, the board's model on ARM."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [line for line in text.splitlines() if line.startswith(key)]
        if lines:
            return lines[0].partition(":")[2].strip() if key else lines[0].strip("\0 ")
    return platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
