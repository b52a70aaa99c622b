"""Heat and throttling, read from a simulated /sys: present and missing values, and what disturbs a measurement."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge.bench import thermal
from edge.bench.thermal import Reading, Watch
from tools.rig.brokers import until


def draw(root: Path, *, temperatures: dict[int, str], flags: str | None = None) -> Path:
    for zone, text in temperatures.items():
        folder = root / f"class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "temp").write_text(text, encoding="ascii")
    if flags is not None:
        folder = root / "devices/platform/soc/soc:firmware"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "get_throttled").write_text(flags, encoding="ascii")
    return root


def test_a_machine_without_sensors_is_unknown(tmp_path: Path) -> None:
    reading = thermal.read(tmp_path)
    assert reading == Reading(None, None)
    assert reading.as_dict() == {"temperature_c": "unknown", "throttled": "unknown"}


def test_the_hottest_zone_counts_and_a_zone_that_is_off_does_not(tmp_path: Path) -> None:
    root = draw(tmp_path, temperatures={0: "48312\n", 1: "61250\n", 2: "n/a\n"})
    assert thermal.read(root).temperature_c == 61.25


@pytest.mark.parametrize(
    ("bits", "meaning"),
    [
        ("0", ()),
        ("5", ("under-voltage", "throttled")),
        ("e", ("frequency capped", "throttled", "soft temperature limit")),
        ("50000", ()),  # it was throttled since the machine's start, but is not now
    ],
)
def test_the_firmwares_flags_of_now_are_named(tmp_path: Path, bits: str, meaning: tuple[str, ...]) -> None:
    assert thermal.read(draw(tmp_path, temperatures={}, flags=bits)).flags == meaning


def test_flags_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    assert thermal.read(draw(tmp_path, temperatures={}, flags="error")).flags is None


def test_heat_that_comes_during_a_measurement_is_seen_and_spoils_it(tmp_path: Path) -> None:
    root = draw(tmp_path, temperatures={0: "50000"}, flags="0")
    with thermal.watching(root, period_s=0.005) as watch:
        draw(root, temperatures={0: "84000"}, flags="4")
        until(lambda: any(r.flags == ("throttled",) for r in watch.during), "the heat is seen")
        draw(root, temperatures={0: "70000"}, flags="0")
    assert watch.after == Reading(70.0, ())
    assert watch.spoiled_by == ["throttled", "84 °C"]
    told = watch.as_dict()
    assert [told[when]["temperature_c"] for when in ("before", "during", "after")] == [50.0, 84.0, 70.0]


def test_nothing_spoils_the_figures_of_a_cool_or_silent_machine() -> None:
    assert Watch(Reading(55.0, ()), [Reading(61.0, ())], Reading(58.0, ())).spoiled_by == []
    assert Watch(Reading(None, None)).spoiled_by == []


def test_watching_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with thermal.watching(tmp_path):
        pass
    assert threading.active_count() == before
