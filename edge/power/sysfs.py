"""The kernel's files: their names and contents. A value that cannot be read is None, never guessed."""

from __future__ import annotations

import math
from pathlib import Path

from edge.power.readings import Measured

SYS = Path("/sys")
_LOOKUP_S = 10.0
_MOST = 1e15  # in the micro-units of the kernel, a thousand million of anything


class Entries:
    """The files that match a pattern below a root; listed again every 10 s, and after a file has disappeared."""

    def __init__(self, root: Path, pattern: str) -> None:
        self._root, self._pattern = root, pattern
        self._found: list[Path] = []
        self._looked_s = float("-inf")

    def now(self, now_s: float) -> list[Path]:
        """Return the files, sorted by name."""
        if now_s - self._looked_s >= _LOOKUP_S:
            self._looked_s = now_s
            try:
                self._found = sorted(self._root.glob(self._pattern))
            except OSError:
                self._found = []
        return self._found

    def look_again(self) -> None:
        """Discard the list, so that the next call reads it again."""
        self._looked_s = float("-inf")


def read_text(path: Path) -> str | None:
    """Return the text of a kernel file, None where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def number(path: Path, unit: str, scale: float, now_s: float) -> Measured | None:
    """Return the number in a kernel file times `scale`; None where there is none, or an impossible one."""
    try:
        value = float(read_text(path) or "")
    except ValueError:
        return None
    if not math.isfinite(value) or abs(value) > _MOST:
        return None
    return Measured(value * scale, unit, str(path), now_s)


def product(voltage: Measured | None, current: Measured | None) -> Measured | None:
    """Return the power of a voltage and a current."""
    if voltage is None or current is None:
        return None
    return Measured(voltage.value * current.value, "W", f"{voltage.source} × {current.source}", voltage.t_s)


def above_zero(measured: Measured | None) -> Measured | None:
    """Return the value where it is above zero, else None."""
    return measured if measured is not None and measured.value > 0.0 else None
