"""The command line of `python -m tools.days`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_simulated_days_end_in_one_object_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "tools.days", "--days", "2", "--per-wearer", "2", "--json", "--report", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found["command"], found["days"], len(found["rows"])) == ("days", 2, 2)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4  # charge, power, rates, temperature
    assert "met by sensor" in text
