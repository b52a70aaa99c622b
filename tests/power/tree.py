"""A simulated /sys."""

from __future__ import annotations

from pathlib import Path

BATTERY = "class/power_supply/battery"
CHARGER = "class/power_supply/charger"


def files(root: Path, folder: str, **values: str) -> Path:
    """Write kernel files into a folder below the root."""
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(value + "\n")
    return path
