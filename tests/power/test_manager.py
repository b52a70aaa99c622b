"""The governor on a device: wanted run times, learned values between days, demand from the pipeline."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from edge import config
from edge.config import Config
from edge.errors import ConfigError
from edge.events.messages import VisionState
from edge.power.demand import MEET_S
from edge.power.explanations import explain
from edge.power.governor import Orders
from edge.power.hwmon import monitor_facts
from edge.power.readings import Facts, Measured, Reading
from edge.power.sensors import Sensors, Source
from edge.processes.power import PowerManager, _remember, state_fields, wanted_end_s
from edge.reasons import Counters
from edge.records import Rates
from edge.vocabulary import Supply

FULL = Rates(15.0, 15.0, 5.0)
HOUR_S = 3600.0


class Battery:
    """A sensor with settable values."""

    def __init__(self, percent: float, supply: Supply = "battery") -> None:
        self.percent, self.supply = percent, supply

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        return self.supply, {"percent": Measured(self.percent, "%", "test", now_s)}


def settings(folder: Path, power: str = "") -> Config:
    return config.parse(
        f'[device]\ndata_dir = "{folder}"\n[power]\nbattery_wh = 6.0\nboard = "pi-zero-2"\n{power}', "test"
    )


class Late:
    """A sensor that gives values only some time after the start."""

    def __init__(self, source: Source, wakes_s: float) -> None:
        self.source, self.wakes_s = source, wakes_s

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        return self.source.sample(now_s) if now_s >= self.wakes_s else ("unknown", {})


DEAD = Late(Battery(0.0), math.inf)


def keeper(folder: Path, battery: Source, power: str = "", now_s: float = 0.0) -> PowerManager:
    made = PowerManager(settings(folder, power), FULL, now_s, Sensors([battery]))
    made.tick(now_s + 1.0)
    made.tick(now_s + 2.0)
    return made


def run(device: PowerManager, from_s: float, seconds: int) -> Orders:
    for second in range(seconds):
        device.tick(from_s + second)
    return device.orders


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


@pytest.mark.parametrize("wish", ["12", "noon", "until 25:00", "until 8", "-3h", "12 h", "12h\\n", "0h", "00.0h"])
def test_an_invalid_run_time_is_refused_with_its_line(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"test:2: \[power\] run_time"):
        config.parse(f'[power]\nrun_time = "{wish}"\n', "test")


@pytest.mark.parametrize(
    ("keys", "line", "shown"),
    [
        ("hot_c = 90.0", 2, "hot_c = 90.0: hot_c < overheated_c < suspend_c is needed"),
        (
            "hot_c = 70.0\nsuspend_percent = 40.0",
            3,
            "suspend_percent = 40.0: suspend_percent < reserve_percent is needed",
        ),
        ("critical_look_s = 1.0", 2, "critical_look_s = 1.0: floor_look_s <= critical_look_s is needed"),
    ],
)
def test_limits_in_the_wrong_order_are_refused_with_an_existing_line(keys: str, line: int, shown: str) -> None:
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
    assert before_s is not None
    battery.supply = "mains"
    assert run(device, 5000.0, 61).wanted_end_s is None
    battery.supply = "battery"
    assert run(device, 9000.0, 3).wanted_end_s == pytest.approx(before_s + 9000.0, abs=5.0)


@pytest.mark.parametrize("seconds", [1, 2, 59])
def test_a_short_contact_with_a_charger_begins_no_new_day(tmp_path: Path, seconds: int) -> None:
    battery = Battery(50.0)
    device = keeper(tmp_path, battery)
    before_s = device.orders.wanted_end_s
    battery.supply = "mains"
    run(device, 5000.0, seconds)
    battery.supply = "battery"
    assert run(device, 5000.0 + seconds, 3).wanted_end_s == before_s


def days_later(folder: Path, hours: float, *, percent: float | None = 40.0, **changes: object) -> None:
    """Write the saved values of a device that was switched off with this charge, and unplugged this long ago."""
    path = folder / "power.json"
    keeper(folder, Battery(40.0)).save(10.0)
    saved = json.loads(path.read_text())
    assert saved["percent"] == 40.0
    saved |= {"began_wall_s": time.time() - HOUR_S * hours, "percent": percent, **changes}
    path.write_text(json.dumps({name: value for name, value in saved.items() if value != "absent"}))


@pytest.mark.parametrize(
    ("hours", "then", "now", "remaining_h"),
    [
        (14.0, 40.0, 100.0, 12.0),  # charged overnight while it was switched off
        (10.0, 40.0, 100.0, 12.0),
        (10.0, 40.0, 46.0, 12.0),
        (10.0, 40.0, 44.0, 2.0),  # within the error of a gauge
        (10.0, 40.0, 20.0, 2.0),
        (10.0, None, 100.0, 2.0),  # the charge was unknown
        (14.0, None, 30.0, 12.0),  # the wanted end is past
    ],
)
def test_a_charge_while_switched_off_begins_a_new_day(
    tmp_path: Path, hours: float, then: float | None, now: float, remaining_h: float
) -> None:
    days_later(tmp_path, hours, percent=then)
    device = keeper(tmp_path, Battery(now))
    assert device.orders.wanted_end_s is not None
    assert device.orders.wanted_end_s / HOUR_S == pytest.approx(remaining_h, abs=0.01)


def test_a_memory_of_the_form_before_is_read(tmp_path: Path) -> None:
    days_later(tmp_path, 10.0, percent="absent", sensor="absent")  # type: ignore[arg-type]
    device = keeper(tmp_path, Battery(30.0))
    assert device.orders.wanted_end_s is not None
    assert device.orders.wanted_end_s / HOUR_S == pytest.approx(2.0, abs=0.01)


class Cell:
    """A source without a gauge: one cell's voltage and current."""

    def __init__(self, volts: float) -> None:
        self.volts = volts

    def sample(self, now_s: float) -> tuple[Supply, Facts]:
        return monitor_facts(Measured(self.volts, "V", "test", now_s), Measured(0.3, "A", "test", now_s), None, 1)


@pytest.mark.parametrize(("volts", "remaining_h"), [(4.15, 12.0), (3.80, 2.0)])
def test_without_a_gauge_the_voltage_tells_of_a_charge(tmp_path: Path, volts: float, remaining_h: float) -> None:
    days_later(tmp_path, 10.0)
    device = keeper(tmp_path, Cell(volts))
    assert device.orders.wanted_end_s is not None
    assert device.orders.wanted_end_s / HOUR_S == pytest.approx(remaining_h, abs=0.01)


def test_a_battery_whose_sensor_died_while_switched_off_is_missed(tmp_path: Path) -> None:
    days_later(tmp_path, 1.0)
    device = keeper(tmp_path, DEAD)
    assert (device.orders.mode, device.orders.reason) == (
        "active",
        "normal",
    )  # gauges may need some seconds after the start
    orders = run(device, 3.0, 8)
    assert (orders.mode, orders.reason) == ("saver", "sensor_lost")
    device.save(11.0)
    assert run(keeper(tmp_path, DEAD), 3.0, 8).reason == "sensor_lost"


def test_a_gauge_that_wakes_within_seconds_is_not_missed(tmp_path: Path) -> None:
    days_later(tmp_path, 1.0)
    battery = Battery(90.0)
    device = PowerManager(settings(tmp_path), FULL, 0.0, Sensors([Late(battery, 8.0)]))
    assert {device.tick(float(second)).reason for second in range(1, 30)} <= {"normal", "budget", "infeasible"}


def test_a_gauge_that_is_not_there_at_the_start_keeps_nobody_from_recognising(tmp_path: Path) -> None:
    device = PowerManager(settings(tmp_path, 'sensor = "serial:/dev/no-such-port"'), FULL, 0.0)
    assert (device.orders.mode, device.orders.supply, device.rates) == ("active", "unknown", FULL)


def test_a_battery_is_not_reported_missing_where_another_sensor_had_reported_it(tmp_path: Path) -> None:
    days_later(tmp_path, 1.0)
    assert run(keeper(tmp_path, DEAD, 'sensor = "none"'), 3.0, 10).reason == "normal"


def test_the_memory_is_replaced_as_a_whole_and_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    keeper(tmp_path, Battery(80.0)).save(10.0)
    assert synced
    assert [path.name for path in tmp_path.iterdir()] == ["power.json"]


@pytest.mark.parametrize("memory", [b"", b"{}", b"\xff\xfe", b'{"battery": 3}', b"[1, 2, 3]"])
def test_a_damaged_memory_is_not_used_and_no_fault(tmp_path: Path, memory: bytes) -> None:
    (tmp_path / "power.json").write_bytes(memory)
    assert keeper(tmp_path, Battery(80.0)).orders.mode in {"active", "saver"}


def test_implausible_saved_values_are_not_used(tmp_path: Path) -> None:
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


def test_an_unwritable_folder_only_prevents_saving_values(tmp_path: Path) -> None:
    device = keeper(tmp_path / "missing", Battery(80.0))
    device.save(10.0)
    assert device.tick(11.0).mode in {"active", "saver"}


def test_an_undecided_face_gets_high_rates_at_once_but_not_for_ever(tmp_path: Path) -> None:
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


def test_without_a_wish_rates_are_full_until_the_battery_is_nearly_empty(tmp_path: Path) -> None:
    device = keeper(tmp_path / "full", Battery(50.0), 'run_time = ""')
    assert (device.orders.mode, device.rates) == ("active", FULL)
    device = keeper(tmp_path / "empty", Battery(3.0), 'run_time = ""')
    assert (device.orders.mode, device.orders.reason) == ("critical", "battery_low")
    assert state_fields(device.orders, 2.0)["battery_percent"] == 3.0


def test_without_the_governor_rates_are_full_and_the_battery_is_still_reported(tmp_path: Path) -> None:
    device = keeper(tmp_path, Battery(3.0), "governor = false")
    assert (device.orders.mode, device.rates) == ("active", FULL)
    assert state_fields(device.orders, 2.0)["battery_percent"] == 3.0


def test_the_state_accepts_every_order_and_has_words_for_it(tmp_path: Path) -> None:
    device = keeper(tmp_path, Battery(42.0))
    state = state_fields(device.orders, 2.0)
    assert set(state) <= set(VisionState.__struct_fields__)
    sentence = explain(state, device.orders.mode, device.orders.reason)
    assert sentence.startswith("saver (infeasible), battery 42 %, budget 0.")
    assert "cannot reach" in sentence
    assert sentence.endswith("at the floor")


def test_a_reading_knows_its_age() -> None:
    assert Reading(5.0, percent=Measured(1.0, "%", "x", 3.0)).percent.age_s(5.0) == 2.0  # type: ignore[union-attr]
