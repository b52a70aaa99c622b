"""Stages and rates from the configuration keep the floor: a detector run at least every `floor_look_s`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import config as configuration
from edge.power.readings import Facts, Measured
from edge.power.sensors import Sensors
from edge.processes.assembly import build_schedule, initial_rates
from edge.processes.power import PowerManager
from edge.records import Motion, Rates
from edge.vocabulary import Supply

STILL = Motion("still", (0.0, 0.0), 0.0)


class NearlyEmpty:
    """A battery below the reserve: the mode is critical."""

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        return "battery", {"percent": Measured(4.0, "%", "test", now_s)}


@pytest.mark.parametrize("fps", [0.4, 5.0, 15.0, 60.0])
def test_the_camera_delivers_enough_frames_for_the_floors_looks(tmp_path: Path, fps: float) -> None:
    config = configuration.parse(f'[device]\ndata_dir = "{tmp_path}"\n[camera]\nfps = {fps}\n', "test")
    keeper = PowerManager(config, initial_rates(config), 0.0, Sensors([NearlyEmpty()]))
    orders = [keeper.tick(float(t_s)) for t_s in (1, 2, 3)][-1]
    watch, meet, follow = orders.rates
    assert orders.mode == "critical"
    for rates in (watch, meet, follow):
        assert rates.capture_fps >= rates.detector_hz
    assert meet.detector_hz == follow.detector_hz == min(1.0 / config.power.floor_look_s, fps)


def test_there_are_no_more_looks_than_frames() -> None:
    config = configuration.parse("[camera]\nfps = 5.0\n", "test")
    assert initial_rates(config) == Rates(5.0, 5.0, 5.0)


def test_a_still_scene_is_looked_at_as_often_as_the_floor_promises() -> None:
    config = configuration.parse("[power]\nfloor_look_s = 4.0\n", "test")
    schedule = build_schedule(config.power, Rates(10.0, 10.0, 5.0))
    looks_s = [i / 10 for i in range(200) if schedule.due(STILL, False, i / 10)]
    assert looks_s == pytest.approx([0.0, 4.0, 8.0, 12.0, 16.0])
