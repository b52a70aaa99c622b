"""Metrics read from MQTT bear the names of the device's own, and the proof of the alerts can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any, get_args

import pytest

from edge.events.messages import Link, PublisherState, State, VisionState
from edge.vocabulary import Reason
from tests.processes.test_metrics import ALERTS
from tools.fleet import alerts, monitoring
from tools.fleet.monitoring import FASTER, RULES, shortened

MQTT_RULES = (RULES / "edge-mqtt-rules.yml").read_text(encoding="utf-8")


def words(of: Any) -> set[str]:
    """All strings of nested literals."""
    return {word for one in get_args(of) for word in ({one} if isinstance(one, str) else words(one))}


def env() -> dict[str, str]:
    lines = (RULES / "mqtt-exporter.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_rule_reads_a_field_of_the_state() -> None:
    fields = {f"vision_{name}" for name in VisionState.__struct_fields__}
    fields |= {f"publisher_{name}" for name in PublisherState.__struct_fields__}
    read = set(re.findall(r"\bmqtt_edge_((?:vision|publisher)_[a-z_]+?)(?:_ts)?\b(?!\.)", MQTT_RULES))
    assert read - {"vision_silent_"} <= fields
    assert {"vision", "publisher"} <= set(State.__struct_fields__)


def test_each_rule_makes_a_metric_that_alerts_ask_for_or_the_device_has() -> None:
    made = set(re.findall(r"record: (edge_[a-z_]+)", MQTT_RULES))
    asked = set(re.findall(r"\bedge_[a-z_]+", ALERTS.read_text(encoding="utf-8")))
    missing = asked - made
    assert missing == {"edge_wanted_end_timestamp_seconds", "edge_forecast_end_timestamp_seconds"}, (
        "mqtt-exporter reads no times of day; docs/fleet.md says so"
    )


def test_every_word_of_link_and_reason_is_a_number_so_that_none_sticks() -> None:
    values = dict(pair.split("=") for pair in env()["STATE_VALUES"].split(","))
    assert set(values) == words(Link) | words(Reason)
    for reason in words(Reason):
        numbered = re.search(rf"mqtt_edge_vision_reason == bool {values[reason]},.*\n.*reason: (\w+)", MQTT_RULES)
        assert (numbered is not None and numbered[1] == reason) == reason.startswith("camera_")
    assert values["connected"] == "1"


def test_presence_does_not_become_a_metric() -> None:
    drop = re.search(r"regex: (\S+)\n\s+action: drop", (RULES / "prometheus.yml").read_text(encoding="utf-8"))
    assert drop is not None
    assert re.fullmatch(drop[1], "mqtt_edge_vision_presence_prnqtdt7l_here")


def test_durations_of_the_rules_are_shortened_and_counts_stay() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    fast = shortened(text)
    assert f"> {300 // FASTER}" in fast
    assert f"[{3600 // FASTER}s]" in fast
    assert "edge_outbox_events > 100" in fast
    assert "[1h]" not in fast
    assert re.sub(r"[0-9]+[smhd]?", "", fast) == re.sub(r"[0-9]+[smhd]?", "", text)


def test_every_alert_has_its_fault() -> None:
    assert set(re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8"))) == set(alerts.FAULTS)


def test_an_alert_that_stays_away_or_fires_elsewhere_fails_the_proof() -> None:
    seen = {"fired_s": 5.0, "cleared_s": 3.0}
    good: dict[str, Any] = {way: dict.fromkeys(alerts.FAULTS, seen) for way in ("textfile", "mqtt")}
    good |= {"wrong": [], "presence_in_metrics": False}
    good["mqtt"] = good["mqtt"] | {"EdgeBatteryWillNotLast": {"fired_s": None, "cleared_s": None}}
    assert alerts.held(good)
    assert "not there" in alerts.table(good)
    never = good | {"textfile": good["textfile"] | {"EdgeCameraLost": {"fired_s": None, "cleared_s": None}}}
    assert not alerts.held(never)
    assert not alerts.held(good | {"wrong": ["EdgeCameraLost of another"]})
    assert not alerts.held(good | {"presence_in_metrics": True})


def test_promtool_takes_rules_and_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("skipped: prometheus is not installed")
    for command in (["rules", "edge-mqtt-rules.yml"], ["config", "prometheus.yml"]):
        done = subprocess.run(
            ["promtool", "check", *command], cwd=monitoring.RULES, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
