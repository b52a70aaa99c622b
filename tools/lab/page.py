"""Write the tables of docs/lab.md and docs/VERIFY.md between their markers, and their JSON files beside the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.lab.card import CardError

PAGE = Path(__file__).parents[2] / "docs/lab.md"
FOLDER = PAGE.with_suffix("")  # docs/lab: JSON files and plots of the page


def publish(name: str, figures: Mapping[str, Any], text: str, page: Path = PAGE, command: str = "") -> None:
    """Write NAME.json beside the page, and `text` between its markers of this name; raises CardError without them."""
    rewrite(name, text, page, command)
    path = page.with_suffix("") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def rewrite(name: str, text: str, page: Path = PAGE, command: str = "") -> None:
    """Write `text` between the page's markers of this name; raises CardError where they are missing.

    The markers name the command that writes the text, by default the lab's command of this name.
    """
    begin = f"<!-- {name}: begin, written by `{command or f'python -m tools.lab {name}'}` -->"
    end = f"<!-- {name}: end -->"
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise CardError(f"{page}: the markers of {name} are missing", f"put back {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
