"""The command line of `edge-bench`: JSON as the last line, the baseline's exit code, one self-contained page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from edge.bench import text
from edge.bench.running import rows_of
from edge.cli.bench import cli
from tools.bench import report, verdict

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "bench.md"
MATCH = ("match", "--most", "10", "--rounds", "3")
REPORTS: dict[str, dict[str, Any]] = {
    "model": {
        "rows": [
            {"model": "lightcnn9", "backend": "litert", "threads": 1, "p50_ms": 4.0},
            {"model": "other", "said": "not installed"},
        ],
        "spoiled_by": ["load 9 on 2 processors"],
        "machine": {"cpu": "some & any"},
    },
    "pipeline": {
        "scenes": {
            "no_motion": {
                "cpu_ms_per_frame": 0.5,
                "frame": {"p50_ms": 0.5},
                "stages": {"motion_gate": {"p50_ms": 0.4, "share": 0.9}},
            }
        }
    },
    "match": {"rows": [{"templates": 10**i, "templates_per_person": 1, "p50_ms": 0.01 * 3**i} for i in range(1, 4)]},
    "forms": {
        "int8_speedup_over_fp32": 2.5,
        "int8_peak": {"limit_ms": 2.0},
        "rows": [{"form": "int8", "p50_ms": 4.0}, {"form": "fp32 <plain>", "p50_ms": 10.0}],
    },
    "peers": {"rows": [{"system": "ours", "cpu_ms_per_recognized_encounter": 9.0}, {"system": "b", "said": "absent"}]},
}


def run(*arguments: str | Path, module: str = "edge.cli.bench") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    done = run(*MATCH, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_json_is_one_object_on_the_last_line_and_describes_the_machine(measured: dict[str, Any]) -> None:
    assert measured["command"] == "match"
    assert [row["templates"] for row in measured["rows"]] == [10, 10]
    assert measured["machine"]["processors"] >= 1
    assert measured["thermal"].keys() == {"before", "during", "after", "spoiled_by"}


@pytest.mark.parametrize(("factor", "code"), [(1e6, 0), (1e-6, 1)])
def test_a_figure_worse_than_the_baseline_ends_with_1(
    measured: dict[str, Any], tmp_path: Path, factor: float, code: int
) -> None:
    rows = [{**row, "p50_ms": row["p50_ms"] * factor, "peak_rss_mb": 1e6} for row in measured["rows"]]
    path = tmp_path / "before.json"
    path.write_text(json.dumps({**measured, "rows": rows}), encoding="utf-8")
    done = run(*MATCH, "--json", "--baseline", path)
    assert done.returncode == code, done.stderr
    assert bool(json.loads(done.stdout.splitlines()[-1])["worse"]) == bool(code)
    assert ("times worse" in done.stderr) == bool(code)


def test_an_invalid_baseline_is_refused_before_any_measurement(tmp_path: Path) -> None:
    done = run(*MATCH, "--baseline", tmp_path / "absent.json")
    assert done.returncode == 1
    assert "not a report" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_reports_become_one_page(tmp_path: Path) -> None:
    files = []
    for name, content in REPORTS.items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps({"command": name, **content}), encoding="utf-8")
    done = run("report", *files, "--out", tmp_path / "page.html", "--json", module="tools.bench")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["reports"] == list(REPORTS)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert all(f'<h2 id="{name}">{report.TITLES[name]}</h2>' in page for name in REPORTS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ("no JSON", "its last line is no JSON"),
        ("[]", "no JSON object"),
        ('{"device": "edge", "vision": null}', "not a report of a command of ours"),
        ('{"command": "nonsense"}', "not a report of a command of ours"),
        ('{"command": ["model"]}', "not a report of a command of ours"),
        ('{"command": "pipeline"}', "has no scenes"),
        ('{"command": "model", "rows": [1]}', "has not the form of a report of 'model'"),
        ('{"command": "match", "rows": [{"p50_ms": 1}]}', "has not the form of a report of 'match'"),
        ('{"command": "battery", "rows": [], "run_time": {}}', "has not the form of a report of 'battery'"),
        ("\x00\xff", "its last line is no JSON"),
    ],
)
def test_other_json_is_no_report_and_no_traceback(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    done = run("report", path, "--out", tmp_path / "page.html", module="tools.bench")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stderr.startswith(f"error: {path}: ")
    assert said in done.stderr
    assert "edge-bench " in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_the_page_begins_with_a_verdict_in_sentences_and_has_units_and_no_keys() -> None:
    page = report.page(
        [({"command": name, **content}, rows_of({"command": name, **content})) for name, content in REPORTS.items()]
    )
    top = page[: page.index("<h2")]
    assert "One face is compared with 1,000 people, 1 template each, in 0.27 ms" in top
    assert "The machine was hot, throttled or busy" in top
    assert "load 9 on 2 processors (during model)" in top
    assert '<th class="text">back end</th>' in page
    assert "median, ms" in page
    assert "Not measured: model other: not installed" in page
    text_of = re.sub(r"<[^>]+>", " ", page[page.index("<body>") :])
    assert not re.search(r"\b[a-z0-9]+_(ms|mb|s|per|w|h)\b|\bTrue\b|\bFalse\b", text_of)


def test_a_rate_is_fast_enough_where_it_leaves_a_share_of_the_core() -> None:
    def scene(cost_ms: float) -> dict[str, Any]:
        return {"scenes": {"five_faces": {"cpu_ms_per_frame": cost_ms}}, "command": "pipeline"}

    for cost_ms, said in (
        (20.0, "up to 30 frames"),
        (24.0, "up to 15 frames"),
        (60.0, "up to 10"),
        (200.0, "fewer than 5"),
    ):
        assert said in verdict.sentences(scene(cost_ms))[0]


def test_the_terminal_form_is_at_most_100_columns_wide_and_loses_nothing() -> None:
    rows = [{"name": f"row{i}", **{f"figure_{j}_ms": 1.5 * j for j in range(20)}} for i in range(3)]
    rows.append({"name": "missing", "said": "this needs a package that is not installed: " + "word " * 30})
    grid = text.grid(rows)
    assert max(map(len, grid.splitlines())) <= text.WIDTH
    assert grid.count("28.5") == 3
    assert grid.count("row1") > 1, "each part says which row it is of"
    assert "name missing: this needs a package" in grid


class Page(HTMLParser):
    """Collects what a page would fetch, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "data"}]
        if tag not in {"meta", "link", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def test_the_page_fetches_nothing_and_escapes_what_it_shows() -> None:
    found = [({"command": name, **content}, content.get("rows", [])) for name, content in REPORTS.items()]
    page = report.page(found)
    parsed = Page()
    parsed.feed(page)
    assert parsed.fetched == []
    assert parsed.open == []
    assert "fp32 &lt;plain&gt;" in page
    assert "some &amp; any" in page
    assert "load 9 on 2 processors" in page


def test_bars_are_as_long_as_their_values() -> None:
    svg = ET.fromstring(report.bars("t", [("a", 1.0), ("b", 4.0)], "ms"))  # noqa: S314 - our own text
    lengths = [float(rect.attrib["width"]) for rect in svg.iter("rect")]
    assert lengths[1] == pytest.approx(4 * lengths[0])


def test_lines_of_a_power_law_are_straight_on_logarithmic_axes() -> None:
    points = [(10.0**i, 2 * 10.0**i) for i in range(1, 5)]
    svg = ET.fromstring(report.lines("t", {"s": points}, "x", "y"))  # noqa: S314 - our own text
    (line,) = svg.iter("polyline")
    places = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    steps = {(round(b[0] - a[0], 0), round(b[1] - a[1], 0)) for a, b in pairwise(places)}
    assert len(steps) == 1


def test_a_table_says_what_is_missing_in_place_of_figures() -> None:
    grid = text.grid([{"system": "ours", "ms": 1.23456}, {"system": "other", "said": "not installed"}])
    assert grid.splitlines() == ["system     ms", "ours    1.235", "other       –  not installed"]


def test_headlines_show_groups_of_figures_and_estimates_with_their_intervals() -> None:
    estimate = {"value": 0.0213, "ci95": 0.004}
    found: dict[str, Any] = {
        "command": "battery",
        "machine": {"cpu": "not here"},
        "base_w": estimate,
        "joules": {"frame": estimate, "look": "unknown: no sensor"},
        "whole": {**estimate, "from": "6 recognised"},
        "missing": None,
        "nested": {"deeper": {"than": 1}},
        "rows": [],
    }
    assert list(text.headlines(found)) == [
        ("base_w", "0.0213 ± 0.004"),
        ("joules", "frame: 0.0213 ± 0.004; look: unknown: no sensor"),
        ("whole", "0.0213 ± 0.004 (from 6 recognised)"),
        ("missing", "–"),
    ]


@pytest.mark.parametrize(
    ("arguments", "tool"),
    [
        (("battery", "--simulate"), "python -m tools.days"),
        (("battery", "--report", "page.html"), "python -m tools.bench report FILE"),
        (("report", "a.json"), "python -m tools.bench report a.json"),
    ],
)
def test_a_command_that_moved_to_tools_names_its_new_place(arguments: tuple[str, ...], tool: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert tool in done.stderr


def test_a_measurement_without_a_configuration_says_where_to_get_one(tmp_path: Path) -> None:
    done = run("battery", "--config", tmp_path / "absent.toml")
    assert done.returncode != 0
    assert "config/edge.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_documentation_has_a_row_for_each_command_with_its_options() -> None:
    rows = [row for row in DOCUMENTATION.read_text(encoding="utf-8").splitlines() if row.startswith("| `edge-bench ")]
    told = {re.findall(r"`edge-bench (\w+)", row)[0] for row in rows}
    assert told == {name for name, command in cli.commands.items() if not command.hidden}
    for row in rows:
        command = row.split("`")[1]
        options = {name for option in cli.commands[command.split()[1]].params for name in option.opts}
        assert set(re.findall(r"--[\w-]+", command)) <= options
