"""Comparison with a baseline: which figures count as worse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edge.bench import baseline
from edge.bench.worker import BenchError


def report(**figures: Any) -> dict[str, Any]:
    return {"command": "model", **figures}


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("forms.int8.p50_ms", "higher is worse"),
        ("vision_rss_mb", "higher is worse"),
        ("vision_process.ready_s", "higher is worse"),
        ("one_face_cpu_ms_per_frame", "higher is worse"),
        ("cpu_ms_per_recognized_encounter", "higher is worse"),
        ("ratio_to_int8_peak", "higher is worse"),
        ("int8_speedup_over_fp32", "lower is worse"),
        ("rows[edge-face-runtime].lfw_accuracy", "lower is worse"),
        ("scenes.one_face.frames_per_s", "lower is worse"),
        ("peer_cpu_over_ours.yunet+sface", "lower is worse"),
        ("forms.int8.p99_ms", None),
        ("rows[x].first_ms", None),
        ("vision_process.watched_s", None),
        ("rows[x].runs", None),
    ],
)
def test_the_name_of_a_figure_decides_which_direction_is_worse(name: str, direction: str | None) -> None:
    assert baseline.direction_of(name) == direction


def test_a_slower_figure_beyond_the_ratio_is_worse_and_one_within_it_is_not() -> None:
    before = report(a_ms=10.0, b_ms=10.0)
    worse = baseline.compare(report(a_ms=13.0, b_ms=12.4), before, 1.25)
    assert [(w.figure, w.before, w.now, w.ratio) for w in worse] == [("a_ms", 10.0, 13.0, 1.3)]
    assert worse[0].as_text() == "a_ms: 10 → 13 (1.30 times worse)"


def test_a_lower_speedup_is_worse_and_a_higher_one_is_not() -> None:
    before = report(int8_speedup_over_fp32=3.0)
    assert baseline.compare(report(int8_speedup_over_fp32=2.0), before, 1.25)[0].ratio == 1.5
    assert baseline.compare(report(int8_speedup_over_fp32=9.0), before, 1.25) == []


def test_rows_are_compared_by_what_they_measure_and_not_by_their_place() -> None:
    fast, slow = {"model": "a", "threads": 1, "p50_ms": 1.0}, {"model": "b", "threads": 1, "p50_ms": 9.0}
    assert baseline.compare(report(rows=[slow, fast]), report(rows=[fast, slow]), 1.01) == []
    worse = baseline.compare(report(rows=[{**fast, "p50_ms": 3.0}]), report(rows=[slow, fast]), 1.5)
    assert [w.figure for w in worse] == ["rows[a 1].p50_ms"]


def test_the_worst_stands_first() -> None:
    worse = baseline.compare(report(a_ms=2.0, b_ms=4.0), report(a_ms=1.0, b_ms=1.0), 1.1)
    assert [w.figure for w in worse] == ["b_ms", "a_ms"]


def test_figures_of_one_report_only_are_not_compared() -> None:
    assert baseline.compare(report(a_ms=9.0), report(b_ms=1.0), 1.1) == []


def test_a_rise_from_zero_is_infinitely_worse() -> None:
    assert baseline.compare(report(a_ms=1.0), report(a_ms=0.0), 1.1)[0].ratio == math.inf
    assert baseline.compare(report(a_ms=0.0), report(a_ms=0.0), 1.1) == []


def test_the_machines_own_figures_are_not_compared() -> None:
    assert baseline.compare(report(load={"wait_ms": 9.0}), report(load={"wait_ms": 1.0}), 1.1) == []


def test_reports_of_two_commands_are_not_compared() -> None:
    with pytest.raises(BenchError, match="baseline is of 'match'"):
        baseline.compare(report(), {"command": "match"}, 1.1)


def test_a_baseline_is_the_last_line_of_an_earlier_output(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text("some words\n" + json.dumps(report(a_ms=1.0)) + "\n", encoding="utf-8")
    assert baseline.load(path) == report(a_ms=1.0)


@pytest.mark.parametrize("content", ["", "no report", "[1, 2]"])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "before.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BenchError, match="not a report"):
        baseline.load(path)
