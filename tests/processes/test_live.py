"""Changes during a run of vision: settings over MQTT, newly enrolled people, a damaged store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.events.event import Event
from tests.conftest import Clips, Enrolled
from tools.rig.brokers import Amqtt, Consumer, until
from tools.rig.workbench import Bench, flip_byte


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Amqtt]:
    one = Amqtt(tmp_path)
    one.start()
    yield one
    one.kill()


def visits(bench: Bench, clips: Clips, port: int = 1) -> None:
    """Play visits of the man in a loop at full speed."""
    paths = [str(clips.man_later), str(clips.street)]
    camera: dict[str, Any] = {"source": "video", "paths": paths, "fps": 30, "loop": True, "realtime": False}
    bench.configure({"camera": camera, "recognition": {"encounter_timeout_s": 0.5}, "mqtt": {"port": port}})


def latest(bench: Bench, event_type: str) -> Event | None:
    return next((event for event in reversed(bench.waiting()) if event.event_type == event_type), None)


def test_recognition_is_paused_and_resumed_over_mqtt(man_bench: Bench, clips: Clips, broker: Amqtt) -> None:
    visits(man_bench, clips, broker.port)
    with Consumer(broker.port, device="bench") as consumer, man_bench.start("run") as running:
        until(lambda: consumer.new, "events")
        consumer.say("edge/bench/recognition/set", "false")
        until(lambda: _vision(consumer).get("reason") == "paused", "the state says paused")
        paused = _vision(consumer)
        assert (paused["mode"], paused["recognition"]) == ("suspended", False)
        running.says("recognition set to False")
        until(lambda: man_bench.waiting() == [], "everything sent")
        before, frames = len(consumer.new), man_bench.status()["vision"]["frames"]
        consumer.say("edge/bench/recognition/set", "not JSON")
        running.says("refused on 'edge/bench/recognition/set'")
        until(lambda: consumer.state.publisher.rejected_sets == 1, "the refusal is counted")
        assert len(consumer.new) <= before + 1, "only the end of the interrupted visit"
        assert man_bench.status()["vision"]["frames"] == frames
        paused_at = len(consumer.new)
        consumer.say("edge/bench/recognition/set", "true")
        until(lambda: len(consumer.new) > paused_at + 1, "events again")
        until(lambda: _vision(consumer).get("reason") == "normal", "the state says normal")
        assert _vision(consumer)["recognition"] is True


def _vision(consumer: Consumer) -> dict[str, Any]:
    if not consumer.has_state:
        return {}
    return json.loads(consumer.last[f"{consumer.base}/state"])["vision"] or {}


def test_person_enrolled_meanwhile_is_recognised_without_a_restart(bench: Bench, clips: Clips) -> None:
    visits(bench, clips)
    with bench.start("vision") as running:
        running.says(": unknown")
        assert latest(bench, "match") is None
        answer = bench.call("people", "add", "The man", "--from", clips.man_early, "--json")
        assert answer.code == 0, answer.errors
        running.says("the template store has changed: 1 people")
        running.says(": match")
        assert running.stop() == 0
    match = latest(bench, "match")
    assert match is not None
    assert match.person == json.loads(answer.output)["id"]


def test_person_removed_meanwhile_is_a_stranger_again(man_bench: Bench, enrolled: Enrolled, clips: Clips) -> None:
    visits(man_bench, clips)
    with man_bench.start("vision") as running:
        running.says(": match")
        assert man_bench.call("people", "remove", enrolled.man).code == 0
        running.says(": unknown")
        assert running.stop() == 0


def test_a_store_damaged_during_the_run_is_reported_once_and_known_people_stay(
    man_bench: Bench, enrolled: Enrolled, clips: Clips
) -> None:
    visits(man_bench, clips)
    with man_bench.start("vision") as running:
        running.says(": match")
        flip_byte(man_bench.data / "templates.edge", 40)  # in the header, which vision checks for changes
        running.says("the last known people stay in use")
        reports: set[int] = set()

        def reported_thrice() -> bool:
            reports.add(man_bench.status()["vision"]["frames"])
            return len(reports) > 3

        until(reported_thrice, "three more looks after the house, one a second")
        assert running.said.count("the last known people stay in use") == 1
        assert running.stop() == 0
    assert {event.person for event in man_bench.waiting()} == {enrolled.man}
