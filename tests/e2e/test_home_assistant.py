"""Retained discovery messages for Home Assistant on a real broker: the device, its new name, and its removal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.rig.brokers import Amqtt, Consumer, Mosquitto, until
from tools.rig.publishing import configured, named, publishing

pytestmark = pytest.mark.usefixtures("short_silence")

Broker = Amqtt | Mosquitto
PREFIX = "homeassistant/device"


@contextlib.contextmanager
def retained(broker: Broker) -> Iterator[Consumer]:
    """Return the retained messages, as a new client of the broker gets them."""
    with Consumer(broker.port, device="+") as newcomer:
        yield newcomer


def test_a_renamed_device_removes_its_old_name(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    with Consumer(broker.port, device="+") as watcher:
        with publishing(named(settings, "glasses")):
            until(lambda: f"{PREFIX}/edge-glasses/config" in watcher.last, "the first description")
            until(lambda: "edge/glasses/state" in watcher.last, "its state")
        with publishing(named(settings, "spectacles")):
            until(lambda: f"{PREFIX}/edge-spectacles/config" in watcher.last, "the second description")
            until(lambda: watcher.last.get(f"{PREFIX}/edge-glasses/config") == b"", "the first one taken back")
            for topic in ("availability", "state"):
                until(lambda topic=topic: watcher.last.get(f"edge/glasses/{topic}") == b"", topic)  # type: ignore[misc]
    described = json.loads(watcher.last[f"{PREFIX}/edge-spectacles/config"])
    assert described["dev"]["ids"] == ["edge-spectacles"]
    with retained(broker) as newcomer:
        until(lambda: f"{PREFIX}/edge-spectacles/config" in newcomer.last, "what the broker keeps")
        assert not [topic for topic in newcomer.last if "glasses" in topic]


def test_a_device_that_is_no_longer_announced_is_removed(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    topic = f"{PREFIX}/edge-glasses/config"
    with Consumer(broker.port, device="+") as watcher:
        with publishing(named(settings, "glasses")):
            until(lambda: watcher.last.get(topic), "the description")
        with publishing(named(settings, "glasses", discovery=False)):
            until(lambda: watcher.last.get(topic) == b"", "taken back")
    with retained(broker) as newcomer:
        until(lambda: "edge/glasses/state" in newcomer.last, "what the broker keeps")
        assert topic not in newcomer.last


def test_an_unchanged_message_is_not_sent_again(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port)
    broker.start()
    seen: list[str] = []
    with Consumer(broker.port, device="+") as watcher:
        for _ in range(2):
            with publishing(settings):
                until(lambda: watcher.last.get("edge/glasses/availability") == b"online", "online")
            seen += [topic for topic, payload in watcher.last.items() if payload == b""]
            watcher.last.clear()
    assert seen == []


def test_a_person_whose_presence_is_no_longer_published_is_removed(tmp_path: Path, broker: Broker) -> None:
    settings = configured(tmp_path, broker.port, rest='[privacy]\npresence = { p-aaaaaaaa = "Anna" }')
    without = configured(tmp_path, broker.port)
    broker.start()
    topic = f"{PREFIX}/edge-glasses/config"
    told: list[dict[str, object]] = []
    with Consumer(broker.port, device="+") as watcher:
        for config, known in ((settings, True), (without, False)):
            with publishing(config):
                until(lambda: watcher.last.get(topic), "the description")
                told.append(json.loads(watcher.last[topic])["cmps"]["presence_p-aaaaaaaa"])
            assert ("state_topic" in told[-1]) is known
            watcher.last.clear()
    assert told[1] == {"p": "binary_sensor"}
