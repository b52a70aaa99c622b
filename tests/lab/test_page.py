"""Tables between markers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.lab import page
from tools.lab.card import CardError

TEXT = """# Page
before
<!-- times: begin, written by `python -m tools.lab times` -->
old
<!-- times: end -->
<!-- other: begin, written by `python -m tools.lab other` -->
kept
<!-- other: end -->
"""


def test_only_the_named_table_is_rewritten_and_its_figures_are_written_beside_the_page(tmp_path: Path) -> None:
    path = tmp_path / "lab.md"
    path.write_text(TEXT, encoding="utf-8")
    page.publish("times", {"a": 1}, "new\ntable", path)
    assert path.read_text(encoding="utf-8") == TEXT.replace("old", "new\ntable")
    assert json.loads((tmp_path / "lab/times.json").read_text(encoding="utf-8")) == {"a": 1}


def test_a_page_without_the_markers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lab.md"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(CardError, match="markers of missing"):
        page.publish("missing", {}, "new", path)
    assert path.read_text(encoding="utf-8") == TEXT
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("name", ["latency", "operators", "bootstrap"])
def test_the_lab_s_page_has_the_markers_of_every_table(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "lab.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    page.rewrite(name, "a table", copy)
    assert "\na table\n" in copy.read_text(encoding="utf-8")
