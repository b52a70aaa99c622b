"""Metrics of a device: no data about people, and alerts and dashboard use only existing metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.config import Config
from edge.errors import DependencyError, EdgeError
from edge.events.messages import PublisherState, Silent, encode_state
from edge.events.outbox import Outbox
from edge.processes import metrics, status
from tests.conftest import Clips
from tools.rig.publishing import configured, vision_state
from tools.rig.workbench import Bench

CONFIG = Path(__file__).parents[2] / "config"
ALERTS = CONFIG / "prometheus/edge-alerts.yml"
_NAME = re.compile(r"\bedge_[a-z_]+")


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    """A device with all metrics reported."""
    made = configured(tmp_path, 1883)
    publisher = PublisherState(
        link="connected",
        depth=3,
        oldest=None,
        published=41,
        resent=2,
        denied=1,
        dropped=0,
        damaged_files=0,
        bytes_sent=1000,
        rejected_sets=0,
    )
    vision = vision_state(
        silent={"too_dark": Silent(count=7, last_s=1), "picture": Silent(count=2, last_s=1)},
        wanted_end="2026-01-01T18:00:00.000Z",
        forecast_end="2026-01-01T17:00:00.000Z",
        power_w=1.5,
        budget_w=1.25,
        pictures=2,
    )
    with closing(Outbox.of(made.data, made.outbox)) as outbox:
        outbox.put_state(vision)
        outbox.put_report("publisher", encode_state(publisher))
    return made


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def sample(text: str, name: str, **labels: str) -> float:
    found = [
        each.value
        for family in families(text).values()
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    assert len(found) == 1, f"{name} {labels}: {found}"
    return float(found[0])


def test_the_state_is_written_in_the_text_format(settings: Config) -> None:
    text = metrics.render(status.status(settings))
    assert sample(text, "edge_battery_percent", device="glasses") == 71.0
    assert sample(text, "edge_silent_total", reason="too_dark") == 7.0
    assert sample(text, "edge_state", mode="active", reason="normal") == 1.0
    assert sample(text, "edge_connected") == 1.0
    assert sample(text, "edge_published_total") == 41.0
    assert sample(text, "edge_frames_total") == 5400.0
    assert sample(text, "edge_up", process="vision") == 0.0
    assert (
        sample(text, "edge_wanted_end_timestamp_seconds") - sample(text, "edge_forecast_end_timestamp_seconds") == 3600
    )
    assert sample(text, "edge_reported_timestamp_seconds", process="vision") > 1e9


def test_unknown_values_are_left_out(tmp_path: Path) -> None:
    made = configured(tmp_path, 1883)
    assert "edge_battery_percent" not in metrics.render(status.status(made)), "nothing has run"
    with closing(Outbox.of(made.data, made.outbox)) as outbox:
        outbox.put_state(msgspec.structs.replace(vision_state(), battery_percent=None))
    text = metrics.render(status.status(made))
    assert "edge_battery_percent" not in text
    assert "edge_temperature_celsius" in text
    assert "edge_connected" not in text


def test_labels_are_only_device_process_mode_and_reason(settings: Config) -> None:
    found = families(metrics.render(status.status(settings)))
    labels = {label for family in found.values() for each in family.samples for label in each.labels}
    assert labels == {"device", "process", "mode", "reason"}


def test_alerts_and_dashboard_use_only_existing_metrics(settings: Config) -> None:
    text = metrics.render(status.status(settings))
    known = {each.name for family in families(text).values() for each in family.samples}
    dashboard = json.loads((CONFIG / "grafana/edge-devices.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(r"expr: (.*(?:\n          .*)*)", ALERTS.read_text())
    assert len(asked) >= 14
    for expression in asked:
        assert set(_NAME.findall(expression)) <= known, expression
        assert _NAME.search(expression), expression


@pytest.mark.skipif(shutil.which("promtool") is None, reason="skipped: promtool is not installed (prometheus)")
def test_each_alert_fires_during_its_fault_and_ends_after_it(tmp_path: Path) -> None:
    def tested() -> subprocess.CompletedProcess[str]:
        command = ["promtool", "test", "rules", "edge-alerts-test.yml"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    for name in ("edge-alerts.yml", "edge-alerts-test.yml"):
        shutil.copy(ALERTS.with_name(name), tmp_path)
    done = tested()
    assert done.returncode == 0, done.stdout + done.stderr
    rules = tmp_path / "edge-alerts.yml"
    names = re.findall(r"alert: (\w+)", rules.read_text())
    assert names == [
        *dict.fromkeys(re.findall(r"alertname: (\w+)", ALERTS.with_name("edge-alerts-test.yml").read_text()))
    ]
    rules.write_text(re.sub(r"> (\d+)$", r"> 1e12", rules.read_text(), flags=re.MULTILINE))
    assert tested().returncode != 0, "the test cannot fail"


def test_a_file_is_replaced_whole_and_one_that_cannot_be_written_is_named(settings: Config, tmp_path: Path) -> None:
    path = tmp_path / "edge.prom"
    metrics.write("old\n", path)
    metrics.write("new\n", path)
    assert path.read_text() == "new\n"
    assert [each.name for each in tmp_path.glob("*.part")] == []
    with pytest.raises(EdgeError, match="No such file or directory"):
        metrics.write("x", tmp_path / "away" / "edge.prom")


def test_without_the_library_the_error_names_the_install_command(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(DependencyError, match=r"EXTRAS=enroll,metrics"):
        metrics.render(status.status(settings))


def test_the_command_prints_or_writes(bench: Bench, clips: Clips, tmp_path: Path) -> None:
    bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)]}})
    assert "edge_up" in bench.call("metrics").output
    assert bench.call("metrics", "--to", str(tmp_path / "edge.prom")).code == 0
    assert "edge_up" in (tmp_path / "edge.prom").read_text()
