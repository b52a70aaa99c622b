"""The governor on a device: wishes in words, memory between days, demand from what the pipeline sees."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edge import config
from edge.config import Config
from edge.errors import ConfigError
from edge.events.messages import VisionState
from edge.pipeline import Counters
from edge.power.demand import MEET_S
from edge.power.readings import Facts, Measured, Reading, Supply
from edge.power.sensors import Sensors
from edge.power.words import explain
from edge.processes.power import Keeper, _remember, told, wanted_end_s
from edge.records import Rates

FULL = Rates(15.0, 15.0, 5.0)
HOUR_S = 3600.0


class Battery:
    """A source that says what it is told to say."""

    def __init__(self, percent: float, supply: Supply = "battery") -> None:
        self.percent, self.supply = percent, supply

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        return self.supply, {"percent": Measured(self.percent, "%", "test", now_s)}


def settings(folder: Path, power: str = "") -> Config:
    return config.parse(
        f'[device]\ndata_dir = "{folder}"\n[power]\nbattery_wh = 6.0\ndevice = "pi-zero-2"\n{power}', "test"
    )


def keeper(folder: Path, battery: Battery, power: str = "", now_s: float = 0.0) -> Keeper:
    made = Keeper(settings(folder, power), FULL, now_s, Sensors([battery]))
    made.tick(now_s + 1.0)
    made.tick(now_s + 2.0)
    return made


def test_twelve_hours_begin_when_the_charger_is_left() -> None:
    assert wanted_end_s("12h", 100.0, 5000.0, 1e9) == 100.0 + 12 * HOUR_S
    assert wanted_end_s("7.5h", 0.0, 5000.0, 1e9) == 7.5 * HOUR_S
    assert wanted_end_s("12h", None, 5000.0, 1e9) is None
    assert wanted_end_s("", 0.0, 5000.0, 1e9) is None


@pytest.mark.parametrize(
    ("began", "ends_after_h"), [("08:00", 10.0), ("17:59", 1 / 60), ("18:00", 24.0), ("20:00", 22.0)]
)
def test_a_clock_time_is_the_next_one_after_leaving_the_charger(began: str, ends_after_h: float) -> None:
    hour, minute = map(int, began.split(":"))
    began_wall_s = time.mktime((2026, 6, 15, hour, minute, 0, 0, 0, -1))  # no change of the clocks near
    end_s = wanted_end_s("until 18:00", 1000.0, 1000.0 + 60.0, began_wall_s + 60.0)
    assert end_s == pytest.approx(1000.0 + ends_after_h * HOUR_S)


@pytest.mark.parametrize("wish", ["12", "noon", "until 25:00", "until 8", "-3h", "12 h"])
def test_a_wish_that_is_none_is_refused_by_its_line(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"test:2: \[power\] run_time"):
        config.parse(f'[power]\nrun_time = "{wish}"\n', "test")


@pytest.mark.parametrize(
    ("keys", "line", "shown"),
    [
        ("hot_c = 90.0", 2, "hot_c = 90.0: hot_c < overheated_c < shutdown_c is needed"),
        (
            "hot_c = 70.0\nsuspend_percent = 40.0",
            3,
            "suspend_percent = 40.0: suspend_percent < reserve_percent is needed",
        ),
        ("critical_look_s = 1.0", 2, "critical_look_s = 1.0: floor_look_s <= critical_look_s is needed"),
    ],
)
def test_limits_in_the_wrong_order_are_refused_by_a_line_that_is_there(keys: str, line: int, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"[power]\n{keys}\n", "edge.toml")
    assert caught.value.what == f"edge.toml:{line}: [power] {shown}"


def test_what_was_learned_and_the_end_survive_a_restart(tmp_path: Path) -> None:
    first = keeper(tmp_path, Battery(80.0))
    first.save(3600.0)
    again = keeper(tmp_path, Battery(60.0), now_s=3600.0)
    assert again.orders.wanted_end_s == pytest.approx(first.orders.wanted_end_s, abs=2.0)
    assert again.orders.budget_w is not None


def test_a_charge_begins_a_new_day(tmp_path: Path) -> None:
    battery = Battery(50.0)
    device = keeper(tmp_path, battery)
    before_s = device.orders.wanted_end_s
    battery.supply = "mains"
    device.tick(5000.0)
    assert device.tick(5001.0).wanted_end_s is None
    battery.supply = "battery"
    device.tick(9000.0)
    after_s = device.tick(9001.0).wanted_end_s
    assert before_s is not None
    assert after_s == pytest.approx(before_s + 9000.0, abs=5.0)


@pytest.mark.parametrize("memory", [b"", b"{}", b"\xff\xfe", b'{"battery": 3}', b"[1, 2, 3]"])
def test_a_damaged_memory_is_not_used_and_no_fault(tmp_path: Path, memory: bytes) -> None:
    (tmp_path / "power.json").write_bytes(memory)
    assert keeper(tmp_path, Battery(80.0)).orders.mode in {"active", "saver"}


def test_no_number_of_the_memory_is_believed_beyond_reason(tmp_path: Path) -> None:
    path = tmp_path / "power.json"
    keeper(tmp_path, Battery(80.0)).save(10.0)
    saved = json.loads(path.read_text())
    assert _remember(path, saved["battery"]) is not None
    for name, value in saved["learned"].items():
        if isinstance(value, dict):
            wrong: object = {**value, min(value): -1e9}
        else:
            wrong = [*value[:-1], -1e9] if isinstance(value, list) else -1e9
        path.write_text(json.dumps({**saved, "learned": {**saved["learned"], name: wrong}}))
        assert _remember(path, saved["battery"]) is None, name


def test_a_folder_that_cannot_be_written_costs_the_memory_and_no_more(tmp_path: Path) -> None:
    device = keeper(tmp_path / "missing", Battery(80.0))
    device.save(10.0)
    assert device.tick(11.0).mode in {"active", "saver"}


def test_an_undecided_face_is_met_at_once_but_not_for_ever(tmp_path: Path) -> None:
    device = keeper(tmp_path, Battery(100.0), 'run_time = "10h"')
    nobody, face = frozenset[int](), frozenset({7})
    counters = Counters()

    def rates(undecided: frozenset[int], following: bool, now_s: float) -> Rates:
        counters.frames += 1
        device.note(counters, undecided, following, now_s)
        return device.rates

    watching = rates(nobody, False, 10.0)
    meeting = rates(face, True, 10.1)
    assert meeting.detector_hz > 2.0 * watching.detector_hz
    assert rates(face, True, 10.0 + MEET_S) == meeting
    assert rates(face, True, 10.2 + MEET_S).detector_hz < meeting.detector_hz
    assert rates(frozenset({7, 8}), True, 10.3 + MEET_S) == meeting
    assert rates(nobody, True, 10.4 + MEET_S).detector_hz < meeting.detector_hz


def test_without_the_governor_rates_are_full_and_the_battery_is_still_told(tmp_path: Path) -> None:
    device = keeper(tmp_path, Battery(3.0), "governor = false")
    assert (device.orders.mode, device.rates) == ("active", FULL)
    assert told(device.orders, 2.0)["battery_percent"] == 3.0


def test_the_state_takes_every_order_and_says_it_in_words(tmp_path: Path) -> None:
    device = keeper(tmp_path, Battery(42.0))
    state = told(device.orders, 2.0)
    assert set(state) <= set(VisionState.__struct_fields__)
    sentence = explain(state, device.orders.mode, device.orders.reason)
    assert sentence.startswith("saver (infeasible), battery 42 %, budget 0.")
    assert "cannot reach" in sentence
    assert sentence.endswith("at the floor")


def test_a_reading_knows_its_age() -> None:
    assert Reading(5.0, percent=Measured(1.0, "%", "x", 3.0)).percent.age_s(5.0) == 2.0  # type: ignore[union-attr]
