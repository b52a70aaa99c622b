"""The interop matrix: what its cells mean, and one row of it tried on the broker that most people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.fleet import interop
from tools.fleet.brokers import BROKERS, Place
from tools.fleet.interop import CHECKS, GREEN
from tools.rig import Missing


def row(**changes: str) -> dict[str, str]:
    return {"version": "1", **dict.fromkeys(CHECKS, GREEN), "connect": "MQTT 5", **changes}


def test_what_is_not_green_is_named_in_the_table_and_fails_the_command() -> None:
    found = {"one": row(), "two": row(will="failed: waited in vain", connect="MQTT 3.1.1")}
    assert not interop.is_green(found)
    assert interop.is_green({"one": row()})
    lines = interop.table(found).splitlines()
    assert lines[2] == "| one 1 | MQTT 5 | green | green | green | green | green | green |"
    assert "failed: waited in vain" in lines[3]


def test_a_broker_that_is_not_installed_is_not_tried_and_not_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_folder: Path) -> None:
        raise Missing("it is not installed")

    monkeypatch.setitem(BROKERS, "mosquitto", absent)
    found = interop.matrix(["mosquitto"], tmp_path, lambda _: None)
    assert found["mosquitto"]["acks"] == "not tried: it is not installed"
    assert not interop.is_green(found)


def test_acks_and_the_fallback_are_tried_on_a_real_broker(tmp_path: Path) -> None:
    try:
        with BROKERS["mosquitto"](tmp_path) as place:
            assert interop._tried(interop._fallback, tmp_path / "old", place) == GREEN
            assert interop._tried(interop._acks, tmp_path / "acks", place) == GREEN
    except Missing as e:
        pytest.skip(f"skipped: {e}")


def test_a_broker_that_does_not_answer_is_a_failure_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interop, "_WAIT_S", 0.2)
    nobody = Place("127.0.0.1", 1, "secret")
    assert interop._tried(interop._auth, tmp_path / "one", nobody).startswith("failed: waited")
