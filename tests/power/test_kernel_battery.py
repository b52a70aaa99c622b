"""Battery drivers that contradict the charger, round, or give invalid values: the effect of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.power.kernel_battery import KernelBattery, KernelCharger
from edge.power.readings import Facts
from edge.vocabulary import Supply
from tests.power.tree import BATTERY, CHARGER, files

DISCHARGING = {"type": "Battery", "status": "Discharging"}


def read(root: Path) -> tuple[Supply, Facts]:
    return KernelBattery(root).sample(0.0)


def value(root: Path, name: str) -> float | None:
    fact = read(root)[1].get(name)
    return None if fact is None else fact.value


@pytest.mark.parametrize(
    ("status", "online", "supply"),
    [
        ("Full", "0", "battery"),  # the driver has not yet seen that the charger was pulled
        ("Not charging", "0", "battery"),
        ("Full", None, "mains"),
        ("Full", "2", "mains"),  # a programmable USB supply
        ("Charging", "0", "mains"),  # by a charger that is not listed
        ("Discharging", "1", "battery"),
    ],
)
def test_a_full_battery_is_on_mains_only_with_its_charger(
    tmp_path: Path, status: str, online: str | None, supply: str
) -> None:
    files(tmp_path, BATTERY, type="Battery", status=status, capacity="100")
    if online is not None:
        files(tmp_path, CHARGER, type="USB", online=online)
    assert read(tmp_path)[0] == supply


@pytest.mark.parametrize(("online", "supply"), [("0", "unknown"), ("1", "mains"), ("2", "mains"), ("", "unknown")])
def test_a_charger_alone_is_believed_when_it_is_connected(tmp_path: Path, online: str, supply: str) -> None:
    files(tmp_path, CHARGER, type="USB", online=online)
    files(tmp_path, "class/power_supply/pad", type="Wireless", scope="Device", online="1")  # a mouse's
    assert read(tmp_path) == ("unknown", {})
    assert KernelCharger(tmp_path).sample(0.0) == (supply, {})


def test_one_of_two_batteries_that_is_discharged_feeds_the_device(tmp_path: Path) -> None:
    files(tmp_path, "class/power_supply/AC", type="Mains", online="0")
    full = {"energy_now": "20000000", "energy_full": "20000000", "power_now": "0"}
    low = {"energy_now": "3000000", "energy_full": "10000000", "power_now": "5000000"}
    files(tmp_path, "class/power_supply/BAT0", type="Battery", status="Full", capacity="100", **full)
    files(tmp_path, "class/power_supply/BAT1", **DISCHARGING, capacity="30", **low)
    supply, facts = read(tmp_path)
    assert supply == "battery"
    assert facts["percent"].value == pytest.approx(100.0 * 23.0 / 30.0)
    assert facts["full_wh"].value == pytest.approx(30.0)
    assert facts["power_w"].value == pytest.approx(5.0)
    assert facts["percent"].source.count("energy_now") == 2


def test_two_batteries_of_unknown_sizes_have_equal_weight(tmp_path: Path) -> None:
    for name, percent in (("BAT0", "90"), ("BAT1", "30")):
        files(tmp_path, f"class/power_supply/{name}", **DISCHARGING, capacity=percent)
    files(tmp_path, "class/power_supply/BAT2", type="Battery", present="0", status="Charging", capacity="0")
    supply, facts = read(tmp_path)
    assert (supply, {name: fact.value for name, fact in facts.items()}) == ("battery", {"percent": 60.0})


def test_what_charges_one_battery_is_not_what_the_device_draws(tmp_path: Path) -> None:
    files(tmp_path, "class/power_supply/BAT0", **DISCHARGING, capacity="50", power_now="4000000")
    files(tmp_path, "class/power_supply/BAT1", type="Battery", status="Charging", capacity="50", power_now="9000000")
    assert value(tmp_path, "power_w") == pytest.approx(4.0)


def test_a_ups_is_a_battery_though_it_is_online(tmp_path: Path) -> None:
    files(tmp_path, "class/power_supply/ups", type="UPS", status="Discharging", online="1", capacity="80")
    supply, facts = read(tmp_path)
    assert (supply, facts["percent"].value) == ("battery", 80.0)
    assert KernelCharger(tmp_path).sample(0.0) == ("unknown", {})


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        ({"charge_now": "3050000", "charge_full": "3000000"}, 100.0),
        ({"charge_now": "9000000", "charge_full": "3000000"}, 57.0),
        ({"energy_now": "-1", "energy_full": "10000000"}, 57.0),
        ({"energy_now": "-1", "energy_full": "10000000", "charge_now": "50", "charge_full": "100"}, 50.0),
        ({"energy_now": "5", "energy_full": "0"}, 57.0),
        ({"energy_now": "nan", "energy_full": "10000000"}, 57.0),
        ({"energy_now": "5000000", "energy_full": "inf"}, 57.0),
    ],
)
def test_with_impossible_counts_the_rounded_percent_is_used(
    tmp_path: Path, counts: dict[str, str], percent: float
) -> None:
    files(tmp_path, BATTERY, **DISCHARGING, capacity="57", **counts)
    assert value(tmp_path, "percent") == pytest.approx(percent)


@pytest.mark.parametrize("volts", ["nan", "inf", "-inf", "1e400", "x"])
def test_an_invalid_voltage_affects_no_other_value(tmp_path: Path, volts: str) -> None:
    counts = {"charge_full": "3000000", "charge_now": "1500000", "voltage_min_design": "3700000"}
    files(tmp_path, BATTERY, **DISCHARGING, voltage_now=volts, **counts)
    assert value(tmp_path, "percent") == 50.0
    assert value(tmp_path, "full_wh") == pytest.approx(3.0 * 3.7)
    assert value(tmp_path, "voltage_v") is None


@pytest.mark.parametrize("power", ["-1850000", "0", "nan", ""])
def test_an_impossible_power_is_replaced_by_voltage_times_current(tmp_path: Path, power: str) -> None:
    files(tmp_path, BATTERY, **DISCHARGING, power_now=power, voltage_now="3700000", current_now="-500000")
    assert value(tmp_path, "power_w") == pytest.approx(1.85)


def test_a_power_of_zero_while_discharging_is_unknown(tmp_path: Path) -> None:
    files(tmp_path, BATTERY, **DISCHARGING, power_now="0", voltage_now="3700000", current_now="0")
    assert value(tmp_path, "power_w") is None
