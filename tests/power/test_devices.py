"""Real batteries: gauges and monitors with unusual values are used or named in a note; so is the wanted run time."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge import config
from edge.power.hwmon import HwmonMonitor
from edge.power.kernel_battery import KernelBattery, KernelCharger
from edge.power.sensors import Sensors, Source
from edge.power.zones import ThermalZones
from edge.processes import doctor
from edge.processes.power import PowerManager
from edge.records import Rates
from edge.vocabulary import Wish
from tests.power.tree import BATTERY, files

PACK = {"type": "Battery", "capacity": "57", "voltage_now": "3850000", "current_now": "-400000"}
MOUSE = {"type": "Battery", "capacity": "3", "status": "Discharging", "model_name": "Wireless Mouse M705"}
MONITOR = {"name": "ina219", "curr1_input": "500"}


def device(root: Path, power: str = "") -> PowerManager:
    """A device with a simulated /sys, ten seconds after its start."""
    settings = config.parse(f'[device]\ndata_dir = "{root / "data"}"\n[power]\nboard = "pi-zero-2"\n{power}', "test")
    cells = settings.power.battery_cells
    sources: list[Source] = [KernelBattery(root), HwmonMonitor(cells, root), KernelCharger(root)]
    made = PowerManager(settings, Rates(15.0, 15.0, 5.0), 0.0, Sensors(sources))
    run(made, 1, 10)
    return made


def run(made: PowerManager, from_s: int, to_s: int) -> None:
    for second in range(from_s, to_s + 1):
        made.tick(float(second))


def kinds(made: PowerManager) -> list[str]:
    return [note.kind for note in made._sensors.notes]


@pytest.mark.parametrize("status", [None, "Unknown", ""])
def test_a_gauge_without_status_is_followed(tmp_path: Path, status: str | None) -> None:
    files(tmp_path, BATTERY, **PACK, **({} if status is None else {"status": status}))
    made = device(tmp_path)
    assert made.orders.percent == 57.0
    assert made.wish == "followed"
    assert made.orders.wanted_end_s == pytest.approx(12 * 3600.0, abs=15.0)


def test_without_status_the_run_time_restarts_after_a_rise_of_the_charge(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, **PACK)
    made = device(tmp_path)
    files(tmp_path, BATTERY, capacity="55")
    run(made, 11, 300)
    assert made._began_s is not None
    assert made._began_s <= 12.0
    files(tmp_path, BATTERY, capacity="70")
    run(made, 301, 310)
    assert made._began_s >= 301.0


@pytest.mark.parametrize(("says", "percent"), [("103", 100.0), ("126", None), ("255", None), ("-1", None)])
def test_a_gauge_above_full_counts_as_full_or_is_named_and_the_voltage_is_used(
    tmp_path: Path, says: str, percent: float | None
) -> None:
    files(tmp_path, BATTERY, **{**PACK, "capacity": says}, status="Discharging")
    made = device(tmp_path)
    assert made.orders.percent == percent
    assert made.wish == "followed"
    assert kinds(made) == ([] if percent else ["gauge"])


@pytest.mark.parametrize("status", ["Discharging", "Unknown"])
def test_a_gauge_without_a_battery_does_not_suspend_and_is_named(
    tmp_path: Path, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    files(tmp_path, BATTERY, type="Battery", capacity="0", voltage_now="0", current_now="0", status=status)
    with caplog.at_level(logging.INFO):
        made = device(tmp_path)
    assert (made.orders.mode, made.wish) == ("active", "gauge_unusable")
    assert "no battery is connected to this gauge" in caplog.text
    assert caplog.text.count("the wanted run time 12h is not followed") == 1


def test_an_empty_gauge_at_the_voltage_of_half_a_charge_is_named(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, **{**PACK, "capacity": "0"}, status="Discharging")
    made = device(tmp_path)
    assert (made.orders.mode in {"active", "saver"}, made.wish, kinds(made)) == (True, "followed", ["gauge"])


def test_an_empty_battery_is_still_believed(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, type="Battery", capacity="0", voltage_now="3300000", status="Discharging")
    made = device(tmp_path)
    assert (made.orders.mode, made.orders.reason) == ("suspended", "battery_low")


@pytest.mark.parametrize("name", ["hidpp_battery_0", "hid-dc:2c:26:01:02:03-battery", "BAT7", "wacom_battery_2"])
def test_a_mouse_s_battery_without_scope_is_not_the_device_s(tmp_path: Path, name: str) -> None:
    files(tmp_path, f"class/power_supply/{name}", **MOUSE)
    made = device(tmp_path)
    assert (made.orders.mode, made.orders.percent, made.wish) == ("active", None, "no_battery")
    files(tmp_path, BATTERY, **{**PACK, "capacity": "80"}, status="Discharging")
    made = device(tmp_path)
    assert (made.orders.percent, made.wish) == (80.0, "followed")


def test_a_measured_battery_is_preferred_to_one_with_only_a_charge(tmp_path: Path) -> None:
    files(tmp_path, "class/power_supply/anything", type="Battery", capacity="3", status="Discharging")
    files(tmp_path, BATTERY, **PACK, status="Discharging")
    made = device(tmp_path)
    assert (made.orders.percent, kinds(made)) == (57.0, ["foreign"])


@pytest.mark.parametrize("first", [0, 1])
def test_of_several_monitors_the_one_at_the_battery_is_read(tmp_path: Path, first: int) -> None:
    files(tmp_path, f"class/hwmon/hwmon{first}", **MONITOR, in1_input="5100")
    files(tmp_path, f"class/hwmon/hwmon{1 - first}", **MONITOR, in1_input="3850")
    made = device(tmp_path)
    assert (made.reading.supply, made.wish) == ("battery", "followed")
    assert made.reading.voltage_v is not None
    assert made.reading.voltage_v.value == 3.85


def test_of_one_monitor_s_channels_the_one_at_the_battery_is_read(tmp_path: Path) -> None:
    rail = {"in1_label": "VDD_3V3", "in1_input": "3300", "curr1_input": "200"}
    battery = {"in3_label": "VBAT", "in3_input": "3900", "curr3_input": "600"}
    files(tmp_path, "class/hwmon/hwmon0", name="ina3221", **rail, **battery)
    made = device(tmp_path)
    assert made.orders.power_w == pytest.approx(3.9 * 0.6)
    assert made.wish == "followed"


@pytest.mark.parametrize(
    ("read", "wish", "says"),
    [
        (("7600", 1), "wrong_cells", "battery_cells = 2 fits"),
        (("3900", 2), "wrong_cells", "battery_cells = 1 fits"),
        (("5100", 1), "wrong_cells", "0 says that this one is at a rail"),
        (("5100", 0), "no_battery", "no battery is read"),
    ],
)
def test_a_wrong_number_of_cells_or_a_rail_voltage_is_reported(
    tmp_path: Path, read: tuple[str, int], wish: Wish, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    millivolts, cells = read
    files(tmp_path, "class/hwmon/hwmon0", **MONITOR, in1_input=millivolts)
    with caplog.at_level(logging.INFO):
        made = device(tmp_path, f"battery_cells = {cells}\n")
    assert made.wish == wish
    assert says in caplog.text
    assert "the wanted run time 12h is not followed" in caplog.text


def test_doctor_names_the_zone_that_decides_and_a_wrong_number_of_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "class/thermal/thermal_zone0", type="PMIC-Die", temp="100000")
    files(tmp_path, "class/thermal/thermal_zone1", type="cpu-thermal", temp="45000")
    files(tmp_path, "class/hwmon/hwmon0", **MONITOR, in1_input="7600")
    sources: list[Source] = [ThermalZones(tmp_path), KernelBattery(tmp_path), HwmonMonitor(1, tmp_path)]
    monkeypatch.setattr(doctor, "open_sensors", lambda _: Sensors(sources))
    found = [(finding.level, finding.said) for finding in doctor.look_at_power(config.PowerConfig())]
    assert ("ok", "heat: the hottest of: cpu-thermal; left out: PMIC-Die (not the processor's, 100 °C)") in found
    assert any(level == "WEAK" and "7.60 V" in said for level, said in found)
    assert found[-1] == ("WEAK", "run_time 12h: not followed: the voltage that is read is not that of the cells")


def test_the_wanted_run_time_on_mains_without_one_and_without_governor(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, **PACK, status="Charging")
    assert device(tmp_path).wish == "on_mains"
    assert device(tmp_path, 'run_time = ""\n').wish == "none"
    assert device(tmp_path, "governor = false\n").wish == "off"
