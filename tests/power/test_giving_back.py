"""Ports and buses are closed: the next run in the same process opens them again, and no descriptor is left."""

from __future__ import annotations

import fcntl
import os
import tty
from pathlib import Path

import pytest

from edge.errors import SensorError
from edge.power import ina
from edge.power.ina import Monitor
from edge.power.sensors import Sensors
from edge.power.serial_gauge import open_gauge
from edge.power.zones import ThermalZones


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_a_gauge_that_is_given_back_is_opened_and_read_again(tmp_path: Path) -> None:
    gauge, line = os.openpty()
    tty.setraw(line)
    try:
        first = Sensors([ThermalZones(tmp_path), open_gauge(os.ttyname(line))])
        first.read(0.0)
        first.close()
        again = open_gauge(os.ttyname(line))
        assert again.sample(0.0) == ("unknown", {})
        os.write(gauge, b"SOC=57\n")
        assert again.sample(1.0)[1]["percent"].value == 57.0
        again.close()
    finally:
        os.close(gauge)
        os.close(line)


def test_a_gauge_that_was_pulled_is_given_back_without_a_fault() -> None:
    gauge, line = os.openpty()
    source = open_gauge(os.ttyname(line))
    assert source.sample(0.0) == ("unknown", {})
    os.close(gauge)
    os.close(line)
    with pytest.raises(SensorError, match="plug it in"):
        source.sample(1.0)
    source.close()


def test_a_monitor_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    before = descriptors()
    sensors = Sensors([Monitor(ina._DeviceBus(Path("/dev/zero"), 0x40), "ina219", 0.1, 1, "test")])
    sensors.read(0.0)
    assert len(descriptors()) == len(before) + 1
    sensors.close()
    assert descriptors() == before
