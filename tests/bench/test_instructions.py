"""Instruction counts: the start-up cancels out, a missing count is an error, the table has a column per processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import instructions


def done(stderr: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, "", stderr)


def test_start_up_cancels_out() -> None:
    start_up, a_piece = 5_000_000_000, 3_500_000
    counts = instructions.each(lambda _, times: start_up + times * a_piece, "a processor")
    assert counts == dict.fromkeys(instructions.SUBJECTS, 3.5)


def test_the_counted_script_needs_only_the_installed_product(tmp_path: Path) -> None:
    instructions.write_forms(tmp_path)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for subject in ("embed-int8", "embed-fp32"):
        command = [sys.executable, str(instructions._COUNTED), subject, "1", str(tmp_path)]
        run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")


def test_the_last_count_is_taken() -> None:
    counted = "instructions: 12\n==1== Collected : 34\ninstructions: 56\n"
    assert instructions._collected(done(counted), r"instructions: (\d+)") == 56


@pytest.mark.parametrize("failed", [done("nothing"), done("instructions: 3\n", code=139)])
def test_a_missing_count_is_an_error(failed: subprocess.CompletedProcess[str]) -> None:
    with pytest.raises(RuntimeError, match="nothing was counted"):
        instructions._collected(failed, r"instructions: (\d+)")


def test_the_table_has_a_column_a_processor_and_a_row_a_subject() -> None:
    one = dict.fromkeys(instructions.SUBJECTS, 1234.5)
    head, _, *rows = instructions.table({"x86_64": one, "cortex-a76": one}).split("\n")
    assert head == "| Million instructions | x86_64 | cortex-a76 |"
    assert len(rows) == len(instructions.SUBJECTS)
    assert rows[0].endswith("| 1,234.5 | 1,234.5 |")
