"""The first hour: the walk itself in its short form, and that it notices what does not go as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.proof import first_hour
from tools.proof.first_hour_inside import Walk, walked


def test_the_short_form_enrols_adds_recognises_and_removes() -> None:
    figures = first_hour.prove(short=True, say=lambda _: None)
    assert figures["commands"] >= 8
    assert figures["checks"] > figures["commands"]


def test_a_command_that_ends_or_answers_otherwise_than_written_stops_the_walk(tmp_path: Path) -> None:
    walk = Walk(tmp_path, "")
    with pytest.raises(AssertionError, match="ends with 3, expected 0"):
        walk.run("exit 3")
    with pytest.raises(AssertionError, match="does not say 'good'"):
        walk.run("echo bad", "good")
    with pytest.raises(AssertionError, match="says 'Traceback'"):
        walk.run("echo good; echo 'Traceback (most recent call last)'", "good")
    walk.run("echo good >&2", "good")
    assert walk.lines == ["", "```sh", "$ echo good >&2", "good", "```"]


def test_a_terminal_shows_what_is_new_and_ends_with_the_walk(tmp_path: Path) -> None:
    walk = Walk(tmp_path, "")

    def steps() -> None:
        terminal = walk.begin("python3 -uc 'print(1); print(2); import time; time.sleep(600)'")
        assert "1" in walk.sees(terminal, "2")
        assert walk.sees(terminal) == ""
        terminal = walk.begin("sh -c 'echo over'")
        walk.sees(terminal, "never")

    ended = walked(walk, steps)
    assert "does not say 'never'" in str(ended["problem"])
    assert all(terminal.process.poll() is not None for terminal in walk.terminals)


def test_long_output_is_cut_and_what_a_terminal_draws_over_is_left_out(tmp_path: Path) -> None:
    walk = Walk(tmp_path, "")
    walk.run("printf 'a\\nb\\n10 %%\\r\\033[1m20 %%\\033[0m\\nend\\n'", "end", last=2)
    assert walk.lines[2:5] == ["$ printf 'a\\nb\\n10 %%\\r\\033[1m20 %%\\033[0m\\nend\\n'", "[…]", "20 %"]
