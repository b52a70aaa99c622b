"""The unmodified code with a changing /sys: first with a simulated clock, then the real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.events.messages import VisionState
from tests.footage import path_of
from tests.power.scenario import SETTLE_S
from tools.rig.brokers import until
from tools.rig.workbench import Bench

WITHIN_S = 5
DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]
DEVICE = ROOT / ".." / "shared" / "hw" / "bat.umockdev"

pytestmark = [
    pytest.mark.skipif(shutil.which("umockdev-run") is None, reason="skipped: umockdev-run is not installed"),
    pytest.mark.skipif(not DEVICE.exists(), reason="skipped: ../shared is not there"),
]


def inside(*command: str, device: Path = DEVICE) -> list[str]:
    return ["umockdev-run", "--device", str(device), "--", sys.executable, "-m", *command]


def states(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return the state message of each second of a scenario, from second 1 on."""
    done = subprocess.run(
        inside("tests.power.scenario", name, str(folder)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["state"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("charger pulled", ("active", "mains"), ("saver", "infeasible")),
        ("battery drops", ("active", "normal"), ("critical", "battery_low")),
        ("zone overheats", ("active", "normal"), ("critical", "hot")),
        ("zone is hot", ("active", "normal"), ("saver", "hot")),
        ("sensor vanishes", ("active", "normal"), ("saver", "sensor_lost")),
    ],
)
def test_a_change_takes_effect_within_five_seconds_with_its_reason(
    tmp_path: Path, name: str, before: tuple[str, str], after: tuple[str, str]
) -> None:
    told = [(state["mode"], state["reason"]) for state in states(name, tmp_path)]
    assert set(told[: SETTLE_S - 1]) == {before}
    assert after in told[SETTLE_S - 1 : SETTLE_S + WITHIN_S]
    assert told[-1] == after


@pytest.mark.parametrize("name", ["nothing", "glitch of a second"])
def test_without_a_change_and_with_a_glitch_the_mode_stays(tmp_path: Path, name: str) -> None:
    assert {(state["mode"], state["reason"]) for state in states(name, tmp_path)} == {("active", "normal")}


def test_a_pulled_charger_starts_a_budget_with_an_end_and_a_forecast(tmp_path: Path) -> None:
    told = states("charger pulled", tmp_path)
    assert told[0]["budget_w"] is told[0]["wanted_end"] is None
    assert told[-1]["budget_w"] > 0.0
    assert told[-1]["forecast_end"] < told[-1]["wanted_end"]  # 42 % of 6 Wh do not last twelve hours
    assert told[-1]["battery_percent"] == 42.0
    assert told[-1]["power_w"] == pytest.approx(3.7 * 0.45)


def test_a_vanished_sensor_leaves_unknown_and_no_guess(tmp_path: Path) -> None:
    last = states("sensor vanishes", tmp_path)[-1]
    assert last["battery_percent"] is last["power_w"] is None
    assert last["supply"] == "unknown"


@contextmanager
def vision(bench: Bench) -> Iterator[Path]:
    """Run the real process with a simulated /sys; yields the folder of that /sys."""
    plugged_in = bench.folder / "charging.umockdev"
    plugged_in.write_text(DEVICE.read_text().replace("status=Discharging", "status=Charging"))
    command = inside("edge.cli.daemon", "vision", "--config", str(bench.path), device=plugged_in)
    log = (bench.folder / "vision.log").open("wb")
    process = subprocess.Popen(command, stderr=log, stdout=log, cwd=ROOT, start_new_session=True)
    try:
        until(lambda: _testbed(process.pid), "umockdev's folder")
        testbed = _testbed(process.pid)
        assert testbed is not None
        yield testbed
    finally:
        os.killpg(process.pid, 15)
        process.wait(DEADLINE_S)
        log.close()


def _testbed(pid: int) -> Path | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for child in [str(pid), *children]:
        for entry in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"UMOCKDEV_DIR="):
                return Path(os.fsdecode(entry.partition(b"=")[2]))
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root may read the environment of a process")
def test_the_real_process_reports_charger_drop_and_heat_and_closes_the_camera(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    power = {"run_time": "12h", "battery_wh": 6.0, "board": "pi-zero-2"}
    camera = {"source": "video", "paths": [str(path_of("carphone"))], "loop": True}
    bench.configure({"camera": camera, "power": power})

    seen: list[VisionState] = []

    def comes(mode: str, reason: str) -> VisionState:
        def has_come() -> bool:
            outbox = bench.outbox()
            seen.extend(state for state in [outbox.get_state()] if state is not None)
            outbox.close()
            return bool(seen) and (seen[-1].mode, seen[-1].reason) == (mode, reason)

        until(bench.settings.data.outbox.exists, "an outbox", DEADLINE_S)
        until(has_come, f"{mode} ({reason})", DEADLINE_S)
        return seen[-1]

    with vision(bench) as testbed:
        battery = testbed / "sys" / "devices" / "platform" / "bq27441" / "power_supply" / "battery"
        zone = testbed / "sys" / "devices" / "virtual" / "thermal" / "thermal_zone0" / "temp"
        full = comes("active", "mains")
        (battery / "status").write_text("Discharging\n")
        saving = comes("saver", "infeasible")
        assert saving.capture_fps < 0.1 * full.capture_fps
        (battery / "capacity").write_text("4\n")
        comes("critical", "battery_low")
        zone.write_text("97000\n")
        comes("suspended", "hot")
