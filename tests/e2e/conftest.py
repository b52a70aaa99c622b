"""Fixtures of the tests with brokers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.rig.brokers import Amqtt, Mosquitto


@pytest.fixture(params=[Amqtt, Mosquitto], ids=["amqtt", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Amqtt | Mosquitto]:
    """A broker of each kind, not started."""
    one: Amqtt | Mosquitto = request.param(tmp_path)
    yield one
    one.kill()


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """amqtt does not answer MQTT 5: the publisher waits 2 s in a process, less in a thread."""
    monkeypatch.setattr("edge.events.link._CONNACK_V5_S", 0.4)
