"""Measure the CPU time of each power mode: CPU seconds per minute of the real vision process on one video.

    python -m tools.throttling VIDEO… [--seconds 40] [--size 640x480] [--fps 15]

The command needs umockdev-run: the unmodified process runs with a simulated battery, whose charge and charger select
the mode. The video is played in a loop in real time. The last line is one JSON object. CPU times hardly depend on other
load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2

from edge import config
from edge.events.messages import VisionState
from edge.events.outbox import Outbox

_BATTERY = """P: /devices/platform/gauge/power_supply/battery
E: SUBSYSTEM=power_supply
A: type=Battery\\n
A: capacity={percent}\\n
A: status={status}\\n
A: voltage_now=3700000\\n
A: current_now=-250000\\n
A: present=1\\n

P: /devices/virtual/thermal/thermal_zone0
E: SUBSYSTEM=thermal
A: type=cpu-thermal\\n
A: temp={temp}\\n
"""
# name: mode, charger, charge in %, temperature in m°C. Heat on mains gives the saver its highest rates, a low battery
# the floor rates.
_CASES = {
    "active": ("active", "Charging", 90, 50000),
    "saver, at most": ("saver", "Charging", 90, 77000),
    "saver, at the floor": ("saver", "Discharging", 60, 50000),
    "critical": ("critical", "Discharging", 4, 50000),
}
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_START_S = 30.0


def main() -> None:
    """Measure every mode and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", default="640x480", help="the video is scaled to this, as a camera would deliver it")
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--enrol", type=Path, help="pictures or a video of the person in it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = _scaled(arguments.video, folder / "clip.avi", arguments.size)
        measured = {case: _measure(case, folder / case.replace(" ", ""), clip, arguments) for case in _CASES}
    active = measured["active"]["cpu_s_a_minute"]
    for case, found in measured.items():
        found["share_of_active"] = round(float(found["cpu_s_a_minute"]) / float(active), 3)
        print(f"{case:20} {found}")
    print(json.dumps(measured))


def _scaled(videos: list[Path], out: Path, size: str) -> Path:
    width, height = map(int, size.split("x"))
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (width, height))
    for video in videos:
        capture = cv2.VideoCapture(str(video))
        while (got := capture.read())[0]:
            writer.write(cv2.resize(got[1], (width, height), interpolation=cv2.INTER_CUBIC))
        capture.release()
    writer.release()
    return out


def _measure(case: str, folder: Path, clip: Path, arguments: argparse.Namespace) -> dict[str, float | str]:
    folder.mkdir()
    mode, status, percent, temp = _CASES[case]
    (folder / "battery").write_text(_BATTERY.format(percent=percent, status=status, temp=temp))
    path = folder / "edge.toml"
    path.write_text(
        f'[device]\ndata_dir = "{folder}"\n[camera]\nsource = "video"\npaths = ["{clip}"]\nloop = true\n'
        f"fps = {arguments.fps}\n[mqtt]\nstate_every_s = 5.0\n"
        '[power]\nrun_time = "10h"\nbattery_wh = 10.0\nboard = "pi-zero-2"\n'
    )
    if arguments.enrol is not None:
        enrol = ["people", "add", "somebody", "--from", str(arguments.enrol.resolve()), "--config", str(path)]
        subprocess.run([sys.executable, "-m", "edge.cli.daemon", *enrol], check=True, capture_output=True)
    command = ["umockdev-run", "--device", str(folder / "battery"), "--", sys.executable, "-m", "edge.cli.daemon"]
    process = subprocess.Popen([*command, "vision", "--config", str(path)], stderr=subprocess.DEVNULL)
    try:
        begin = _wait(path, mode)
        begin_s, begun_s = _cpu_s(process.pid), time.monotonic()
        time.sleep(arguments.seconds)
        used_s, passed_s = _cpu_s(process.pid) - begin_s, time.monotonic() - begun_s
        end = _state(path)
    finally:
        process.terminate()
        process.wait()
    if end is None or end.mode != mode:
        raise SystemExit(f"{mode}: the process ended in another mode: {end}")
    return {
        "cpu_s_a_minute": round(60.0 * used_s / passed_s, 2),
        "frames_a_second": round((end.frames - begin.frames) / passed_s, 2),
        "embeddings": end.embeddings - begin.embeddings,
        "capture_fps": round(end.capture_fps, 2),
        "detector_hz": round(end.detector_hz, 2),
        "reason": end.reason,
    }


def _wait(path: Path, mode: str) -> VisionState:
    """Wait until the process has run some seconds in the mode, so that the video's faces are decided."""
    end_s = time.monotonic() + _START_S
    settled_s: float | None = None
    while time.monotonic() < end_s:
        state = _state(path)
        if state is not None and state.mode == mode and state.frames:
            settled_s = time.monotonic() if settled_s is None else settled_s
            if time.monotonic() - settled_s >= 10.0:
                return state
        time.sleep(0.2)
    raise SystemExit(f"{mode}: not reached in {_START_S:.0f} s: {_state(path)}")


def _state(path: Path) -> VisionState | None:
    settings = config.load(path)
    if not settings.data.outbox.exists():
        return None
    with closing(Outbox.open(settings.data.outbox, max_events=1000, max_age_s=1e6)) as outbox:
        return outbox.get_state()


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its children so far."""
    total = 0.0
    for each in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
    return total


if __name__ == "__main__":
    main()
