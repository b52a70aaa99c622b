"""The product on aarch64: it installs from wheels only, passes the golden self-test, and recognises an enrolled man.

An arm64 Python runs under qemu-user, which emulates the processors of three boards. The inference engines choose
different int8 kernels for them. The proof checks results, not times.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.rig import Missing
from tools.rig.arm64 import PROCESSORS, PYTHON, RELEASE, emulated

CLAIM = "On aarch64 all of it installs from wheels, the golden self-test passes, and a man is enrolled and recognised."

_INSIDE = Path(__file__).parents[1] / "rig/arm64_inside.py"


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return each processor's results; raises AssertionError where one fails, Missing where it cannot be tried."""
    if short:
        raise Missing("it takes minutes: it has no short form")
    with tempfile.TemporaryDirectory(prefix="edge-aarch64-") as name:
        installed = emulated(Path(name), say)
        native = [wheel for wheel in installed.wheels if wheel.endswith("_aarch64.whl")]
        figures: dict[str, Any] = {
            "debian": RELEASE,
            "python": PYTHON,
            "wheels": len(installed.wheels),
            "of_them_native": len(native),
            "processors": {},
        }
        for processor in PROCESSORS:
            say(f"{processor.qemu}: {processor.on}")
            answer = json.loads(installed.do(processor, _INSIDE).splitlines()[-1])
            assert answer["machine"] == "aarch64", answer
            assert all(embedding["passes"] for embedding in answer["golden"].values()), answer
            assert "match" in answer["events"], f"the man was not recognised: {answer}"
            assert answer["strangers_matched"] == 0, answer
            figures["processors"][processor.qemu] = answer
    return figures
