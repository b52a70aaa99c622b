"""Kernel files, serial gauges and monitors give readings with unit, age and source, or unknown values."""

from __future__ import annotations

import os
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import config
from edge.config import PowerConfig
from edge.errors import ConfigError
from edge.power.hwmon import HwmonMonitor, PiUndervoltage
from edge.power.kernel_battery import KernelBattery, KernelCharger
from edge.power.readings import Measured, Reading
from edge.power.sensors import CpuFrequency, PiFirmware, Sensors, open_sensors
from edge.power.serial_gauge import open_gauge, parse_line
from edge.power.zones import ThermalZones
from tests.power.tree import BATTERY, files


def test_a_battery_that_counts_charge_gives_percent_power_and_capacity(tmp_path: Path) -> None:
    counts = {"charge_now": "1500000", "charge_full": "3000000", "voltage_now": "3800000", "current_now": "-400000"}
    files(tmp_path, BATTERY, type="Battery", status="Discharging", capacity="51", **counts)
    supply, facts = KernelBattery(tmp_path).sample(7.0)
    assert supply == "battery"
    assert facts["percent"].value == 50.0
    assert facts["power_w"].value == pytest.approx(3.8 * 0.4)
    assert facts["full_wh"].value == pytest.approx(3.0 * 3.75)
    assert {(fact.unit, fact.t_s) for fact in facts.values()} == {
        ("%", 7.0),
        ("W", 7.0),
        ("Wh", 7.0),
        ("V", 7.0),
        ("A", 7.0),
    }
    assert facts["voltage_v"].source.endswith("battery/voltage_now")


def test_counted_energy_is_preferred_to_the_rounded_percent(tmp_path: Path) -> None:
    files(
        tmp_path,
        BATTERY,
        type="Battery",
        status="Discharging",
        capacity="33",
        energy_now="3333000",
        energy_full="10000000",
    )
    _, facts = KernelBattery(tmp_path).sample(0.0)
    assert facts["percent"].value == pytest.approx(33.33)
    assert facts["full_wh"].value == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("status", "online", "supply"),
    [
        ("Discharging", "0", "battery"),
        ("Discharging", "1", "battery"),  # a board that draws more than its charger gives
        ("Charging", "1", "mains"),
        ("Full", "1", "mains"),
        ("Not charging", "1", "mains"),
        ("Unknown", "1", "mains"),
        ("Unknown", "0", "unknown"),
    ],
)
def test_charger_and_battery_determine_the_supply(tmp_path: Path, status: str, online: str, supply: str) -> None:
    files(tmp_path, BATTERY, type="Battery", status=status, capacity="50")
    files(tmp_path, "class/power_supply/charger", type="USB", online=online)
    sensors = Sensors([KernelBattery(tmp_path), KernelCharger(tmp_path)])
    assert [sensors.read(now_s).supply for now_s in (0.0, 1.0)] == ["unknown", supply]


def test_the_battery_of_a_mouse_is_not_the_device_s(tmp_path: Path) -> None:
    files(tmp_path, "class/power_supply/a-mouse", type="Battery", scope="Device", status="Discharging", capacity="3")
    files(tmp_path, BATTERY, type="Battery", status="Discharging", capacity="80")
    assert KernelBattery(tmp_path).sample(0.0)[1]["percent"].value == 80.0


def test_no_battery_and_no_folder_are_unknown(tmp_path: Path) -> None:
    assert KernelBattery(tmp_path).sample(0.0) == ("unknown", {})
    assert Sensors(
        [KernelBattery(tmp_path), ThermalZones(tmp_path), PiFirmware(tmp_path), CpuFrequency(tmp_path)]
    ).read(1.0) == Reading(1.0)


@pytest.mark.parametrize("text", ["", "garbage", "-", "4 2", "\0"])
def test_a_file_without_a_number_is_unknown(tmp_path: Path, text: str) -> None:
    files(tmp_path, BATTERY, type="Battery", status="Discharging", capacity=text, voltage_now=text)
    assert KernelBattery(tmp_path).sample(0.0) == ("battery", {})


def test_an_ina219_at_the_battery_gives_power_voltage_and_charging(tmp_path: Path) -> None:
    values = {"in1_input": "3700", "curr1_input": "500", "power1_input": "1850000"}
    path = files(tmp_path, "class/hwmon/hwmon0", name="ina219", **values)
    supply, facts = HwmonMonitor(1, tmp_path).sample(0.0)
    assert (supply, facts["voltage_v"].value) == ("battery", 3.7)
    assert facts["power_w"].value == pytest.approx(1.85)
    (path / "curr1_input").write_text("-800\n")
    supply, facts = HwmonMonitor(1, tmp_path).sample(0.0)
    assert (supply, "power_w" in facts) == ("mains", False)


@pytest.mark.parametrize(
    ("milliamperes", "turned", "supply"),
    [
        ("500", False, "battery"),
        ("-500", False, "mains"),
        ("-500", True, "battery"),
        ("500", True, "mains"),
        ("0", False, "mains"),  # a full battery on its charger
        ("9", False, "mains"),
        ("-9", True, "mains"),
        ("12", False, "battery"),
    ],
)
def test_the_sign_of_the_current_determines_the_supply(
    tmp_path: Path, milliamperes: str, turned: bool, supply: str
) -> None:
    files(tmp_path, "class/hwmon/hwmon0", name="ina219", in1_input="3700", curr1_input=milliamperes)
    found, facts = HwmonMonitor(1, tmp_path, turned=turned).sample(0.0)
    assert found == supply
    assert ("power_w" in facts) == (supply == "battery")
    assert all(fact.value >= 0.0 for fact in facts.values())


def test_a_shunt_of_zero_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"test:2: \[power\] shunt_ohm = 0.0: shunt_ohm is not 0"):
        config.parse("[power]\nshunt_ohm = 0.0\n", "test")


def test_a_kernel_battery_s_status_wins_over_a_monitor_and_a_monitor_over_a_charger() -> None:
    order = [type(source) for source in open_sensors(PowerConfig())._sources]
    assert order[-3:] == [KernelBattery, HwmonMonitor, KernelCharger]


def test_a_monitor_that_counts_charging_as_load_gives_no_power(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, type="Battery", status="Charging", capacity="50")
    files(tmp_path, "class/hwmon/hwmon0", name="ina219", in1_input="4100", curr1_input="900")
    sensors = Sensors([KernelBattery(tmp_path), HwmonMonitor(1, tmp_path)])
    reading = [sensors.read(now_s) for now_s in (0.0, 1.0)][-1]
    assert (reading.supply, reading.power_w) == ("mains", None)


def test_a_jetson_s_ina3221_gives_the_input_rail_s_power_and_no_battery(tmp_path: Path) -> None:
    channels = {"in1_label": "VDD_CPU", "in2_label": "VDD_IN", "in2_input": "19200", "curr2_input": "400"}
    files(tmp_path, "class/hwmon/hwmon1", name="ina3221", **channels)
    supply, facts = HwmonMonitor(1, tmp_path).sample(0.0)
    assert supply == "unknown"
    assert set(facts) == {"power_w"}
    assert facts["power_w"].value == pytest.approx(7.68)


def test_the_hottest_real_zone_counts(tmp_path: Path) -> None:
    for i, temp in enumerate(["41000", "63500", "-256000"]):
        files(tmp_path, f"class/thermal/thermal_zone{i}", type="cpu", temp=temp)
    assert ThermalZones(tmp_path).sample(0.0)[1]["temperature_c"].value == 63.5


@pytest.mark.parametrize(
    ("bits", "undervoltage", "throttled"), [("0", 0, 0), ("50005", 1, 1), ("50000", 0, 0), ("8", 0, 1)]
)
def test_the_pi_s_live_bits_count_and_its_history_does_not(
    tmp_path: Path, bits: str, undervoltage: int, throttled: int
) -> None:
    files(tmp_path, "devices/platform/soc/soc:firmware", get_throttled=bits)
    facts = PiFirmware(tmp_path).sample(0.0)[1]
    assert (facts["undervoltage"].value, facts["throttled"].value) == (undervoltage, throttled)


@pytest.mark.parametrize("node", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_the_firmware_is_found_on_every_pi(tmp_path: Path, node: str) -> None:
    files(tmp_path, f"devices/platform/{node}", get_throttled="1")
    assert PiFirmware(tmp_path).sample(0.0)[1]["undervoltage"].value == 1.0


def test_the_kernel_s_undervoltage_alarm_is_read(tmp_path: Path) -> None:
    files(tmp_path, "class/hwmon/hwmon0", name="cpu_thermal")
    assert PiUndervoltage(tmp_path).sample(0.0) == ("unknown", {})
    files(tmp_path, "class/hwmon/hwmon1", name="rpi_volt", in0_lcrit_alarm="1")
    assert PiUndervoltage(tmp_path).sample(0.0)[1]["undervoltage"].value == 1.0


@pytest.mark.parametrize("sensor", ["auto", "none", "serial:/dev/no-such-port", "i2c:99:0x40:ina219"])
def test_heat_throttling_and_undervoltage_are_read_with_every_choice(sensor: str) -> None:
    kinds = {type(source) for source in open_sensors(PowerConfig(sensor=sensor))._sources}
    assert {ThermalZones, PiFirmware, PiUndervoltage, CpuFrequency} <= kinds


CPUFREQ = "devices/system/cpu/cpu0/cpufreq"


def throttled(source: CpuFrequency, now_s: float) -> float:
    return source.sample(now_s)[1]["throttled"].value


def test_a_frequency_limit_that_is_lowered_meanwhile_is_throttling(tmp_path: Path) -> None:
    limits = {"scaling_cur_freq": "600000", "scaling_max_freq": "1800000", "cpuinfo_max_freq": "1800000"}
    files(tmp_path, CPUFREQ, **limits)
    source = CpuFrequency(tmp_path)
    assert source.sample(0.0)[1]["cpu_mhz"].value == 600.0
    assert throttled(source, 1.0) == 0.0
    files(tmp_path, CPUFREQ, scaling_max_freq="1000000")
    assert throttled(source, 2.0) == 1.0
    files(tmp_path, CPUFREQ, scaling_max_freq="1800000")
    assert throttled(source, 3.0) == 0.0


def test_a_frequency_limit_from_the_start_is_the_owner_s_or_a_power_mode(tmp_path: Path) -> None:
    limits = {"scaling_cur_freq": "600000", "scaling_max_freq": "1000000", "cpuinfo_max_freq": "1800000"}
    files(tmp_path, CPUFREQ, **limits)
    assert throttled(CpuFrequency(tmp_path), 0.0) == 0.0


@pytest.mark.parametrize("kind", ["cpufreq-cpu0", "thermal-cpufreq-0", "Processor"])
def test_the_kernels_cooling_state_is_preferred_to_the_frequency_limit(tmp_path: Path, kind: str) -> None:
    files(tmp_path, CPUFREQ, scaling_max_freq="1800000")
    files(tmp_path, "class/thermal/cooling_device0", type="pwm-fan", cur_state="3")
    files(tmp_path, "class/thermal/cooling_device1", type=kind, cur_state="0")
    source = CpuFrequency(tmp_path)
    assert throttled(source, 0.0) == 0.0
    files(tmp_path, CPUFREQ, scaling_max_freq="1000000")  # set by the owner
    assert throttled(source, 1.0) == 0.0
    files(tmp_path, "class/thermal/cooling_device1", cur_state="2")
    assert throttled(source, 2.0) == 1.0


# ---- serial


@contextmanager
def line() -> Iterator[tuple[int, str]]:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        yield ours, os.ttyname(theirs)
    finally:
        for end in (ours, theirs):
            with suppress(OSError):
                os.close(end)


def test_a_serial_gauge_is_read_line_by_line_and_unknown_when_silent() -> None:
    with line() as (gauge, name):
        source = open_gauge(name)
        assert source.sample(0.0) == ("unknown", {})
        os.write(gauge, b"SOC=57.5 V=3.8")
        assert source.sample(0.5) == ("unknown", {})
        os.write(gauge, b"42 I=-0.412 CHG=0\r\nSOC=5")
        supply, facts = source.sample(1.0)
        assert (supply, facts["percent"].value, facts["voltage_v"].value) == ("battery", 57.5, 3.842)
        assert facts["power_w"].value == pytest.approx(3.842 * 0.412)
        assert source.sample(5.0)[0] == "battery"
        assert source.sample(6.5) == ("unknown", {})


def test_a_pulled_serial_gauge_is_unknown_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with line() as (gauge, name):
        source = open_gauge(name)
        assert source.sample(-1.0) == ("unknown", {})
        os.write(gauge, b"SOC=57\n")
        assert source.sample(0.0)[1]["percent"].value == 57.0
        os.close(gauge)
        assert Sensors([source]).read(1.0) == Reading(1.0)
        assert "plug it in again" in caplog.text


def test_a_serial_gauge_that_comes_after_the_start_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plug = tmp_path / "port"
    sensors = Sensors([open_gauge(str(plug))])
    assert [sensors.read(float(i)) for i in range(3)] == [Reading(float(i)) for i in range(3)]
    assert str(plug) in caplog.text
    assert caplog.text.count("docs/install.md describes the permissions") == 1
    with line() as (gauge, name):
        plug.symlink_to(name)
        sensors.read(3.0)
        for now_s in (4.0, 5.0):
            os.write(gauge, b"SOC=57 CHG=0\n")
            reading = sensors.read(now_s)
    assert reading.percent is not None
    assert (reading.supply, reading.percent.value) == ("battery", 57.0)


@pytest.mark.parametrize(
    ("text", "supply"),
    [
        (b"V=3.8 I=-0.412", "battery"),
        (b"V=3.8 I=+0.412", "mains"),
        (b"V=3.8 I=0", "mains"),
        (b"V=3.8 I=-0.004", "mains"),
        (b"V=+3.8 I=-0.004 CHG=0", "battery"),
    ],
)
def test_a_gauges_current_determines_the_supply_unless_a_charger_does(text: bytes, supply: str) -> None:
    known = parse_line(text, "test", 0.0)
    assert known is not None
    assert (known[0], known[1]["voltage_v"].value) == (supply, 3.8)
    assert known[1]["current_a"].value >= 0.0


def test_a_negative_charge_is_not_read_as_a_positive_one() -> None:
    known = parse_line(b"SOC=-5 CHG=0", "test", 0.0)
    assert known is not None
    assert known[1]["percent"].value == -5.0


def test_a_ups_board_s_own_lines_are_understood() -> None:
    known = parse_line(b"$ SmartUPS V3.2P,Vin NG,BATCAP 57,Vout 5217 $", "test", 0.0)
    assert known is not None
    assert (known[0], known[1]["percent"].value) == ("battery", 57.0)


@given(st.binary(max_size=300))
def test_any_line_is_understood_or_ignored(noise: bytes) -> None:
    known = parse_line(noise, "test", 0.0)
    assert known is None or all(isinstance(fact, Measured) for fact in known[1].values())


@pytest.mark.parametrize("sensor", ["gps", "serial:", "i2c:1:64:ina219", "i2c:1:0x40:ina999", "none\\n"])
def test_an_unknown_sensor_is_refused_with_its_line(sensor: str) -> None:
    with pytest.raises(ConfigError, match=r"test:2: \[power\] sensor"):
        config.parse(f'[power]\nsensor = "{sensor}"\n', "test")
