"""What the tests with brokers share."""

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
    """amqtt meets MQTT 5 with silence: wait for it 2 s where a process runs, less where a thread does."""
    monkeypatch.setattr("edge.events.link._CONNACK_V5_S", 0.4)
