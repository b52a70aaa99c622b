"""Runs inside umockdev: the unmodified sensors and governor on a changing /sys, with a simulated clock.

    umockdev-run --device bat.umockdev -- python -m tests.power.scenario NAME DATA_DIR

Prints one JSON line per simulated second: the state message that vision would write.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from edge import config
from edge.events.event import BootId
from edge.events.messages import VisionState, encode_state
from edge.processes.power import PowerManager, state_fields
from edge.records import Rates

SETTLE_S, WATCH_S = 90, 20
SYS = Path(os.environ.get("UMOCKDEV_DIR", "not under umockdev")) / "sys"
BATTERY = SYS / "devices" / "platform" / "bq27441" / "power_supply" / "battery"
ZONE = SYS / "devices" / "virtual" / "thermal" / "thermal_zone0" / "temp"
BOOT: BootId = "0" * 16


def write(name: str, value: str) -> None:
    (BATTERY / name).write_text(value + "\n")


def nothing() -> None:
    write("status", "Discharging")


def charging() -> None:
    write("status", "Charging")


def heat(celsius: float) -> None:
    ZONE.write_text(f"{celsius * 1000:.0f}\n")


# name: wanted run time; initial state; change at second SETTLE_S
SCENARIOS: dict[str, tuple[str, Callable[[], None], Callable[[], None]]] = {
    "charger pulled": ("12h", charging, nothing),
    "battery drops": ("1h", nothing, lambda: write("capacity", "4")),
    "zone overheats": ("1h", nothing, lambda: heat(88.0)),
    "zone is hot": ("1h", nothing, lambda: heat(77.0)),
    "sensor vanishes": ("1h", nothing, lambda: shutil.rmtree(BATTERY)),
    "glitch of a second": ("1h", nothing, lambda: write("capacity", "0")),
    "nothing": ("1h", nothing, lambda: None),
}


def main(name: str, data_dir: str) -> None:
    run_time, before, event = SCENARIOS[name]
    before()
    text = (
        f'[device]\ndata_dir = "{data_dir}"\n[power]\nrun_time = "{run_time}"\nbattery_wh = 6.0\nboard = "pi-zero-2"\n'
    )
    keeper = PowerManager(config.parse(text, "scenario"), Rates(15.0, 15.0, 5.0), 0.0)
    for second in range(1, SETTLE_S + WATCH_S):
        if second == SETTLE_S:
            event()
        if name == "glitch of a second" and second == SETTLE_S + 1:
            write("capacity", "42")
        now_s = second + 0.5  # the event falls between two readings
        orders = keeper.tick(now_s)
        rates = keeper.rates
        state = VisionState(
            boot=BOOT,
            mode=orders.mode,
            reason=orders.reason,
            recognition=True,
            capture_fps=rates.capture_fps,
            detector_hz=rates.detector_hz,
            embeddings_hz=rates.embeddings_hz,
            frames=0,
            faces=0,
            embeddings=0,
            events=0,
            model=BOOT,
            **state_fields(orders, now_s),
        )
        print(json.dumps({"second": second, "state": json.loads(encode_state(state))}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
