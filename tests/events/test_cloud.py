"""CloudEvents in binary mode: the user properties of an event on the wire, through a real broker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.events.cloud import attributes
from edge.events.event import decode
from tools.rig import Missing
from tools.rig.brokers import Amqtt, Mosquitto, until
from tools.rig.publishing import add, configured, depth, publishing, vision


def test_attributes_repeat_the_event_and_name_its_device_as_source(tmp_path: Path) -> None:
    try:
        broker = Mosquitto(tmp_path)
    except Missing as e:
        pytest.skip(f"skipped: {e}")
    broker.start()
    settings = configured(tmp_path, broker.port)
    seen: list[tuple[bytes, dict[str, str], str]] = []
    ready = threading.Event()

    def received(_client: Any, _data: Any, message: Any) -> None:
        properties = message.properties
        seen.append((bytes(message.payload), dict(properties.UserProperty), properties.ContentType))

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="reader", protocol=paho.MQTTv5)
    client.on_connect = lambda c, *_: c.subscribe("edge/glasses/event", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = received
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert ready.wait(20)
        with vision(settings) as backlog:
            add(backlog, 2)
        with publishing(settings):
            until(lambda: len(seen) == 2, "both events come")
    finally:
        client.disconnect()
        client.loop_stop()
        broker.kill()
    for payload, found, content_type in seen:
        event = decode(payload)
        assert found == {
            "specversion": "1.0",
            "id": event.id,
            "source": "edge/glasses",
            "type": "edge.match",
            "time": event.time,
        }
        assert found == dict(attributes(event, "edge/glasses"))
        assert content_type == "application/json"


def test_a_broker_of_mqtt_3_gets_the_same_events_without_attributes(tmp_path: Path) -> None:
    broker = Amqtt(tmp_path)
    broker.start()
    settings = configured(tmp_path, broker.port)
    try:
        with vision(settings) as backlog:
            add(backlog, 1)
        with publishing(settings):
            until(lambda: depth(settings) == 0, "the event is sent")
    finally:
        broker.kill()
