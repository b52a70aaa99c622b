"""Heat and throttling during a measurement: 'unknown' where the machine has no such sensor.

The sensors are read before, during and after each measurement. Linux shows temperatures in `/sys/class/thermal`. The
Raspberry Pi's firmware shows its throttling flags in sysfs (kernel 6.x) or through `vcgencmd`. Source of the bits:
Raspberry Pi documentation, `vcgencmd get_throttled`.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.vocabulary import PI_THROTTLED, PI_THROTTLED_BITS

UNKNOWN = "unknown"
_PERIOD_S = 1.0
_HOT_C = 80.0  # a Raspberry Pi throttles from here on; other boards at higher temperatures


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the sensors."""

    temperature_c: float | None  # the hottest zone; None: unknown
    flags: tuple[str, ...] | None  # present causes of throttling; None: unknown

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "temperature_c": UNKNOWN if self.temperature_c is None else self.temperature_c,
            "throttled": UNKNOWN if self.flags is None else list(self.flags),
        }


@dataclass(slots=True)
class Watch:
    """The readings of one measurement."""

    before: Reading
    during: list[Reading] = field(default_factory=list)
    after: Reading | None = None

    @property
    def spoiled_by(self) -> list[str]:
        """Signs of heat or throttling that affect the figures; empty: none is known."""
        readings = [self.before, *self.during, *([self.after] if self.after else [])]
        flags = {flag for reading in readings for flag in reading.flags or ()}
        hottest = max((r.temperature_c for r in readings if r.temperature_c is not None), default=0.0)
        return sorted(flags) + ([f"{hottest:.0f} °C"] if hottest >= _HOT_C else [])

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready: before, the hottest moment during, after, and `spoiled_by`."""
        hottest = max(self.during or [self.before], key=lambda r: (len(r.flags or ()), r.temperature_c or 0.0))
        shown = {"before": self.before, "during": hottest, "after": self.after or self.before}
        return {**{name: reading.as_dict() for name, reading in shown.items()}, "spoiled_by": self.spoiled_by}


@contextmanager
def watching(root: Path = Path("/sys"), period_s: float = _PERIOD_S) -> Iterator[Watch]:
    """Read the sensors before, once a period during, and after the block."""
    watch, done = Watch(read(root)), threading.Event()

    def look() -> None:
        while not done.wait(period_s):
            watch.during.append(read(root))

    thread = threading.Thread(target=look, name="thermal", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
        watch.after = read(root)


def read(root: Path = Path("/sys")) -> Reading:
    """Read the sensors once."""
    temperatures = [t for path in sorted(root.glob("class/thermal/thermal_zone*/temp")) if (t := _celsius(path))]
    return Reading(max(temperatures, default=None), _flags(root))


def _celsius(path: Path) -> float | None:
    """Read one zone; None where it is off, as some zones of phone and Jetson chips are."""
    try:
        return int(path.read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None


def _flags(root: Path) -> tuple[str, ...] | None:
    text = next((_text(p) for p in root.glob(PI_THROTTLED)), None)
    if text is None and root == Path("/sys") and (command := shutil.which("vcgencmd")):
        done = subprocess.run([command, "get_throttled"], capture_output=True, text=True, check=False, timeout=5)  # noqa: S603 - found in PATH, no arguments from outside
        text = done.stdout.rpartition("=")[2]
    try:
        bits = int(text.strip(), 16) if text else None
    except ValueError:
        return None
    return None if bits is None else tuple(name for bit, name in PI_THROTTLED_BITS.items() if bits & bit)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return None
