"""The tools' command lines: --help shows the help, and nothing is written or measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(PROJECT)))}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", ["tools.schemas", "tools.demo", "tools.measure_update"])
def test_help_is_shown_and_nothing_is_done(module: str, tmp_path: Path) -> None:
    written = {path: path.stat().st_mtime_ns for path in (PROJECT / "docs").rglob("*")}
    done = call(tmp_path, module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {module} [-h]")
    assert {path: path.stat().st_mtime_ns for path in (PROJECT / "docs").rglob("*")} == written


@pytest.mark.parametrize("module", ["tools.schemas", "tools.demo", "tools.measure_update"])
def test_an_argument_that_is_not_known_is_refused(module: str, tmp_path: Path) -> None:
    done = call(tmp_path, module, "--dry-run")
    assert done.returncode == 2
    assert "unrecognized arguments: --dry-run" in done.stderr


def test_the_start_of_a_checkout_is_measured_beside_that_of_another(tmp_path: Path) -> None:
    done = call(tmp_path, "tools.start_time", str(PROJECT), "--rounds", "1")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout).values()
    assert 0 < found["cpu"]["reload_ms"] < found["cpu"]["start_ms"]
    assert set(found["over_first"].values()) == {1.0}
    done = call(tmp_path, "tools.start_time", str(tmp_path))
    assert done.returncode == 2
    assert "not a checkout of this project" in done.stderr


def test_fuzzing_without_atheris_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text("raise ModuleNotFoundError\n", encoding="utf-8")
    done = call(tmp_path, "tests.fuzz", "framing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: atheris is not installed\n  → pip install atheris (it has wheels for x86-64 Linux)\n"
