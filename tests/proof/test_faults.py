"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path

import pytest

from tools.proof import faults
from tools.rig.brokers import until
from tools.rig.supervisor import Supervisor
from tools.rig.workbench import Bench


def test_processes_recover_from_hangs_and_crashes_and_lose_nothing() -> None:
    figures = faults.prove(short=True, say=print)
    assert figures["faults"] == 6
    assert figures["killed_by_watchdog"] == 1
    assert figures["acknowledged_events"] > 0


def test_a_device_that_is_not_back_in_time_is_named() -> None:
    results = faults._Results(2, print)
    results.add("embedder", "hang", 14.5)
    results.judge(15.0)
    results.add("embedder", "hang", 15.5)
    with pytest.raises(AssertionError, match=r"embedder: back 15\.5 s after a hang"):
        results.judge(15.0)


def test_a_lost_acknowledged_event_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    waiting.put(("outbox", "crash"))
    waiting.put(("outbox", "crash"))
    monkeypatch.setattr(Bench, "waiting", lambda _: [])
    (tmp_path / "lane").mkdir()
    with pytest.raises(AssertionError, match="events that the outbox took are gone"):
        faults._vision(tmp_path / "lane", faults._enrolled(tmp_path / "enrolled"), waiting, faults._Results(2, print))


def test_the_supervisor_restarts_as_the_unit_says(tmp_path: Path) -> None:
    says = "from edge.health import Notifier; n = Notifier(); n.ready('r'); n.alive('a'); import os; os._exit(3)"
    with Supervisor("edge-vision", [sys.executable, "-c", says], tmp_path) as running:
        until(lambda: running.starts == 1 and running.alive_s, "ready and alive")
        began_s = running.alive_s
        until(lambda: running.starts == 2, "a second start")
        assert time.monotonic() - began_s >= 1.0


def test_the_supervisor_does_not_restart_after_a_clean_end(tmp_path: Path) -> None:
    with Supervisor("edge-vision", [sys.executable, "-c", "pass"], tmp_path) as running:
        until(lambda: running.starts == 1, "a start")
        running._thread.join(20)
    assert running.starts == 1
