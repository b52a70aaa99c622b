"""With any content of kernel files nothing raises, and accepted values are finite and within their limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge import config
from edge.power.hwmon import HwmonMonitor, PiUndervoltage
from edge.power.kernel_battery import KernelBattery, KernelCharger
from edge.power.readings import RANGES
from edge.power.sensors import CpuFrequency, PiFirmware, Sensors, Source
from edge.power.sysfs import SYS
from edge.power.zones import ThermalZones
from edge.processes.power import PowerManager
from edge.records import Rates
from tests.power.tree import BATTERY, CHARGER, files

PACK = {
    "type": "Battery",
    "status": "Discharging",
    "present": "1",
    "scope": "System",
    "capacity": "57",
    "energy_now": "5700000",
    "energy_full": "10000000",
    "charge_now": "1500000",
    "charge_full": "2700000",
    "voltage_now": "3700000",
    "current_now": "-500000",
    "power_now": "1850000",
    "voltage_min_design": "3700000",
}
SECOND = "class/power_supply/second"
MONITOR = {
    "name": "ina219",
    "in1_label": "VDD_IN",
    "in1_input": "3700",
    "curr1_input": "500",
    "power1_input": "1850000",
}
SENSIBLE = {
    BATTERY: PACK,
    SECOND: {name: text for name, text in PACK.items() if not name.startswith("energy")},
    CHARGER: {"type": "USB", "online": "0", "scope": "System"},
    "class/hwmon/hwmon0": MONITOR,
    "class/hwmon/hwmon1": {"name": "rpi_volt", "in0_lcrit_alarm": "0"},
    "class/thermal/thermal_zone0": {"temp": "41000"},
    "class/thermal/thermal_zone1": {"temp": "43000"},
    "class/thermal/cooling_device0": {"type": "cpufreq-cpu0", "cur_state": "0"},
    "devices/system/cpu/cpu0/cpufreq": {"scaling_cur_freq": "600000", "scaling_max_freq": "1000000"},
    "devices/platform/soc/soc:firmware": {"get_throttled": "50000"},
}
FILES = {f"{folder}/{name}": text for folder, values in SENSIBLE.items() for name, text in values.items()}
WORDS = "Battery UPS USB Mains Discharging Charging Full Device ina219 rpi_volt VDD_IN cpufreq-cpu0"
NUMBERS = st.one_of(st.integers(-(10**7), 10**8), st.integers(-(10**20), 10**20), st.floats()).map(str)
ODD = st.sampled_from(["", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e400", "0x", "-0x1"])
TEXTS = st.one_of(ODD, st.sampled_from(WORDS.split()), NUMBERS, st.text(max_size=20))
CONTENTS = st.one_of(TEXTS.map(str.encode), st.binary(max_size=20))


def sources(root: Path = SYS) -> list[Source]:
    heat: list[Source] = [ThermalZones(root), PiFirmware(root), PiUndervoltage(root), CpuFrequency(root)]
    return [*heat, KernelBattery(root), HwmonMonitor(1, root), KernelCharger(root)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sys")
    for folder, values in SENSIBLE.items():
        files(root, folder, **values)
    return root


@contextmanager
def spoilt(root: Path, contents: dict[str, bytes | None]) -> Iterator[None]:
    """Change or remove some files of the tree within the block."""
    for name, content in contents.items():
        if content is None:
            (root / name).unlink()
        else:
            (root / name).write_bytes(content)
    try:
        yield
    finally:
        for name in contents:
            (root / name).write_text(FILES[name])


@settings(max_examples=100, deadline=None)
@given(contents=st.dictionaries(st.sampled_from(sorted(FILES)), st.one_of(st.none(), CONTENTS)))
@example(contents={f"{SECOND}/voltage_now": b"nan"})
@example(contents={f"{SECOND}/voltage_now": b"inf"})
def test_any_content_of_any_file_is_read_or_ignored(tree: Path, contents: dict[str, bytes | None]) -> None:
    with spoilt(tree, contents):
        for source in sources(tree):
            assert all(math.isfinite(fact.value) for fact in source.sample(0.0)[1].values())
        settled = config.parse(f'[device]\ndata_dir = "{tree}"\n', "test")
        keeper = PowerManager(settled, Rates(15.0, 15.0, 5.0), 0.0, Sensors(sources(tree)))
        for second in (1.0, 2.0, 3.0):
            orders = keeper.tick(second)
    for name in RANGES:
        fact = getattr(keeper.reading, name)
        assert fact is None or RANGES[name].low <= fact.value <= RANGES[name].high
    for number in (orders.percent, orders.power_w, orders.budget_w, orders.temperature_c, orders.forecast_end_s):
        assert number is None or math.isfinite(number)
