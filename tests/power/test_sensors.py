"""What the kernel's files, serial gauges and monitors say becomes readings with unit, age and source, or unknown."""

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
from edge.errors import ConfigError, SensorError
from edge.power.ina import Monitor, open_monitor
from edge.power.plausible import Plausibility
from edge.power.readings import Measured, Reading
from edge.power.sensors import CpuFrequency, HwmonMonitor, KernelBattery, PiFirmware, Sensors, ThermalZones
from edge.power.serial_gauge import open_gauge, parse_line


def files(root: Path, folder: str, **values: str) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(value + "\n")
    return path


BATTERY = "class/power_supply/battery"


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


def test_a_battery_that_counts_energy_is_believed_over_its_rounded_percent(tmp_path: Path) -> None:
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
def test_charger_and_battery_tell_what_feeds_the_device(tmp_path: Path, status: str, online: str, supply: str) -> None:
    files(tmp_path, BATTERY, type="Battery", status=status, capacity="50")
    files(tmp_path, "class/power_supply/charger", type="USB", online=online)
    assert KernelBattery(tmp_path).sample(0.0)[0] == supply


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


def test_an_ina219_at_the_battery_tells_power_voltage_and_charging(tmp_path: Path) -> None:
    values = {"in1_input": "3700", "curr1_input": "500", "power1_input": "1850000"}
    path = files(tmp_path, "class/hwmon/hwmon0", name="ina219", **values)
    supply, facts = HwmonMonitor(1, tmp_path).sample(0.0)
    assert (supply, facts["voltage_v"].value) == ("battery", 3.7)
    assert facts["power_w"].value == pytest.approx(1.85)
    (path / "curr1_input").write_text("-800\n")
    supply, facts = HwmonMonitor(1, tmp_path).sample(0.0)
    assert (supply, "power_w" in facts) == ("mains", False)


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


def test_a_lowered_frequency_limit_is_throttling(tmp_path: Path) -> None:
    limits = {"scaling_cur_freq": "600000", "scaling_max_freq": "1000000", "cpuinfo_max_freq": "1800000"}
    files(tmp_path, "devices/system/cpu/cpu0/cpufreq", **limits)
    facts = CpuFrequency(tmp_path).sample(0.0)[1]
    assert (facts["cpu_mhz"].value, facts["throttled"].value) == (600.0, 1.0)


# ---- monitors on the bus


class Registers:
    """What a chip would answer on the bus."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers

    def register(self, number: int) -> bytes:
        if number not in self.answers:
            raise OSError("no answer")
        return self.answers[number]


@pytest.mark.parametrize(
    ("chip", "shunt", "bus", "volts", "amperes"),
    [
        # SBOS448, table 7: 12 V is 0x5D98 in the bus register; a shunt of 20 mV is 0x07D0
        ("ina219", "07D0", "5D98", 11.98, 0.2),
        # SBOS547, 6.5.3: 12 V is 0x2570, 20 mV is 0x1F40
        ("ina226", "1F40", "2570", 11.98, 0.2),
        ("ina3221", "0FA0", "2EE0", 12.0, 0.2),
    ],
)
def test_registers_are_read_as_the_data_sheets_say(
    chip: str, shunt: str, bus: str, volts: float, amperes: float
) -> None:
    monitor = Monitor(Registers({1: bytes.fromhex(shunt), 2: bytes.fromhex(bus)}), chip, 0.1, 3, "test")
    supply, facts = monitor.sample(0.0)
    assert supply == "battery"
    assert facts["voltage_v"].value == pytest.approx(volts, abs=0.02)
    assert facts["current_a"].value == pytest.approx(amperes, rel=0.01)


@pytest.mark.parametrize("answers", [{}, {1: b"\0\0"}, {1: b"", 2: b""}])
def test_a_chip_that_does_not_answer_is_unknown(answers: dict[int, bytes]) -> None:
    assert Monitor(Registers(answers), "ina219", 0.1, 1, "test").sample(0.0) == ("unknown", {})


def test_a_bus_that_is_not_there_is_named_with_a_remedy() -> None:
    with pytest.raises(SensorError, match="/dev/i2c-99") as caught:
        open_monitor(99, 0x40, "ina219", 0.1, 1)
    assert "raspi-config" in caught.value.remedy


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


def test_a_serial_gauge_is_read_line_by_line_and_forgotten_when_silent() -> None:
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


def test_a_pulled_serial_gauge_is_unknown_and_no_error() -> None:
    with line() as (gauge, name):
        source = open_gauge(name)
        os.write(gauge, b"SOC=57\n")
        assert source.sample(0.0)[1]["percent"].value == 57.0
        os.close(gauge)
        assert source.sample(1.0) == ("unknown", {})


def test_a_ups_board_s_own_lines_are_understood() -> None:
    known = parse_line(b"$ SmartUPS V3.2P,Vin NG,BATCAP 57,Vout 5217 $", "test", 0.0)
    assert known is not None
    assert (known[0], known[1]["percent"].value) == ("battery", 57.0)


@given(st.binary(max_size=300))
def test_any_line_is_understood_or_ignored(noise: bytes) -> None:
    known = parse_line(noise, "test", 0.0)
    assert known is None or all(isinstance(fact, Measured) for fact in known[1].values())


def test_a_port_that_is_not_there_is_named_with_a_remedy() -> None:
    with pytest.raises(SensorError, match="/dev/no-such-port"):
        open_gauge("/dev/no-such-port")


@pytest.mark.parametrize("sensor", ["gps", "serial:", "i2c:1:64:ina219", "i2c:1:0x40:ina999"])
def test_an_unknown_sensor_is_refused_by_its_line(sensor: str) -> None:
    with pytest.raises(ConfigError, match=r"test:2: \[power\] sensor"):
        config.parse(f'[power]\nsensor = "{sensor}"\n', "test")


# ---- what is believed


def believed(*values: float, step_s: float = 1.0) -> list[float | None]:
    believe, told = Plausibility(), []
    for i, value in enumerate(values):
        reading = believe.check(Reading(i * step_s, "battery", percent=Measured(value, "%", "test", i * step_s)))
        told.append(None if reading.percent is None else reading.percent.value)
    return told


def test_a_glitch_is_withheld_and_the_last_value_stands_in_with_its_own_age() -> None:
    assert believed(50.0, 50.0, 3.0, 50.0) == [None, 50.0, 50.0, 50.0]


def test_a_sudden_change_is_believed_when_seen_twice() -> None:
    assert believed(50.0, 50.0, 7.0, 7.0, 7.0) == [None, 50.0, 50.0, 7.0, 7.0]


def test_two_glitches_that_differ_do_not_confirm_each_other() -> None:
    assert believed(50.0, 50.0, 3.0, 90.0, 50.0) == [None, 50.0, 50.0, 50.0, 50.0]


def test_what_is_impossible_is_never_believed() -> None:
    assert believed(255.0, 255.0, float("nan"), -3.0) == [None] * 4


def test_a_value_in_doubt_is_unknown_once_the_last_one_is_old() -> None:
    assert believed(50.0, 50.0, *(float(x) for x in (5, 95, 15, 85, 25, 75, 35, 99)))[-1] is None
