"""The thermal zones of the processor: boards name them freely, and some are no temperatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.power.zones import ThermalZones, kind_of
from tests.power.tree import files


def zones(root: Path, **temps: str) -> ThermalZones:
    """Create a zone per keyword, with `_` for `-`; returns their sensor."""
    for i, (name, temp) in enumerate(temps.items()):
        files(root, f"class/thermal/thermal_zone{i}", type=name.replace("_", "-"), temp=temp)
    return ThermalZones(root)


def decides(source: ThermalZones, now_s: float = 0.0) -> tuple[str, float] | None:
    heat = source.sample(now_s)[1].get("temperature_c")
    return None if heat is None else (heat.source.partition(" ")[0], heat.value)


def test_a_power_chip_s_constant_does_not_decide_on_a_jetson(tmp_path: Path) -> None:
    source = zones(
        tmp_path, AO_therm="41500", CPU_therm="45000", GPU_therm="44000", PMIC_Die="100000", thermal_fan_est="44250"
    )
    assert decides(source) == ("CPU-therm", 45.0)
    (note,) = source.notes
    assert "hottest of: AO-therm, CPU-therm, GPU-therm" in note.what
    assert "PMIC-Die (not the processor's, 100 °C)" in note.what


@pytest.mark.parametrize("hot", ["CPU-therm", "cpu-thermal", "soc_thermal", "tj-thermal", "x86_pkg_temp", "acpitz"])
def test_a_processor_that_is_hot_decides_from_its_first_reading(tmp_path: Path, hot: str) -> None:
    files(tmp_path, "class/thermal/thermal_zone0", type="PMIC-Die", temp="100000")
    files(tmp_path, "class/thermal/thermal_zone1", type=hot, temp="97000")
    assert decides(ThermalZones(tmp_path)) == (hot, 97.0)


@pytest.mark.parametrize(
    "foreign",
    ["PMIC-Die", "pm8998-thermal", "battery", "bat-therm", "iwlwifi_1", "nvme", "charger-therm", "modem", "INT3400"],
)
def test_a_zone_of_something_else_never_decides(tmp_path: Path, foreign: str) -> None:
    files(tmp_path, "class/thermal/thermal_zone0", type=foreign, temp="60000")
    assert decides(ThermalZones(tmp_path)) is None
    files(tmp_path, "class/thermal/thermal_zone1", type="cpu-thermal", temp="45000")
    assert decides(ThermalZones(tmp_path)) == ("cpu-thermal", 45.0)


def test_a_processor_zone_is_preferred_to_an_unknown_one(tmp_path: Path) -> None:
    assert decides(zones(tmp_path, mystery="65000", cpu_thermal="45000")) == ("cpu-thermal", 45.0)


def test_a_hot_unknown_zone_is_used_once_its_value_has_changed(tmp_path: Path) -> None:
    source = zones(tmp_path, mystery="100000", other="45000")
    assert [decides(source, now_s) for now_s in (0.0, 1.0)] == [("other", 45.0)] * 2
    files(tmp_path, "class/thermal/thermal_zone0", temp="100500")
    assert decides(source, 2.0) == ("mystery", 100.5)


def test_an_unknown_zone_that_is_not_hot_is_used_at_once(tmp_path: Path) -> None:
    assert decides(zones(tmp_path, mystery="45000")) == ("mystery", 45.0)


def test_a_zone_above_its_critical_trip_point_is_soon_ignored(tmp_path: Path) -> None:
    trips = {
        "trip_point_0_type": "passive",
        "trip_point_0_temp": "80000",
        "trip_point_1_type": "critical",
        "trip_point_1_temp": "110000",
    }
    files(tmp_path, "class/thermal/thermal_zone0", type="cpu-thermal", temp="125000", **trips)
    files(tmp_path, "class/thermal/thermal_zone1", type="gpu-thermal", temp="50000")
    source = ThermalZones(tmp_path)
    told = [decides(source, float(now_s)) for now_s in range(12)]
    assert told[0] == ("cpu-thermal", 125.0), "the kernel gets some time to shut down"
    assert told[-1] == ("gpu-thermal", 50.0)
    files(tmp_path, "class/thermal/thermal_zone0", temp="96000")
    assert decides(source, 13.0) == ("cpu-thermal", 96.0)


def test_a_constant_processor_zone_is_ignored_once_others_have_changed(tmp_path: Path) -> None:
    source = zones(tmp_path, cpu0_thermal="99000", cpu1_thermal="45000")
    assert decides(source, 0.0) == ("cpu0-thermal", 99.0)
    files(tmp_path, "class/thermal/thermal_zone1", temp="52000")
    assert decides(source, 300.0) == ("cpu0-thermal", 99.0)
    assert decides(source, 601.0) == ("cpu1-thermal", 52.0)


def test_a_zone_number_with_another_zone_starts_a_new_history(tmp_path: Path) -> None:
    source = zones(tmp_path, cpu_thermal="45000")
    source.sample(0.0)
    files(tmp_path, "class/thermal/thermal_zone0", type="PMIC-Die", temp="100000")
    assert decides(source, 1.0) is None


def test_the_note_does_not_change_with_every_temperature(tmp_path: Path) -> None:
    source = zones(tmp_path, cpu_thermal="45000", battery="30000")
    source.sample(0.0)
    before = source.notes
    files(tmp_path, "class/thermal/thermal_zone0", temp="61000")
    files(tmp_path, "class/thermal/thermal_zone1", temp="33000")
    source.sample(1.0)
    assert source.notes == before


def test_names_of_processor_zones_are_distinguished_from_others() -> None:
    assert {kind_of(name) for name in ("cpu", "bigcore0-thermal", "cpuss-0", "gpu-thermal", "AUX-therm")} == {
        "processor"
    }
    assert {kind_of(name) for name in ("", "zone0", "mystery", "thermal")} == {"unknown"}
