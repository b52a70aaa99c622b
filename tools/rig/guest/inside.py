"""Runs in the guest: the product on a USB gadget and a V4L2 device, which are removed and come back.

The product's Python runs it as root. It prints one line "EDGE {…}" per step. An exception ends it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.errors import ProvisionError
from edge.provision.host.cable_client import Client
from edge.provision.protocol.code import canonical
from edge.provision.protocol.port import SerialPort, find

CONFIG = Path("/etc/edge.toml")
GADGET = Path("/sys/kernel/config/usb_gadget/edge/UDC")
TTY, CAMERA = Path("/dev/ttyACM0"), Path("/sys/bus/platform/drivers/vivid")
WAIT_S = 900.0  # without hardware virtualization the guest is about thirty times slower than its host
UPDATE_BYTES = 2_000_000


def main() -> None:
    """Do all steps in order."""
    CONFIG.write_text(
        '[device]\nid = "guest"\ndata_dir = "/var/lib/edge"\n'
        '[camera]\nsource = "v4l2"\ndevice = "/dev/video0"\n'
        "[mqtt]\nstate_every_s = 1.0\n"
    )
    tell("gadget", plug_in)
    vision, provision = start("vision"), start("provision")
    tell("found_by_vid_and_pid", lambda: [port.path for port in find()])
    code = arm()
    tell("info", lambda: json.loads(run("edge-enroll", "info", "--json", EDGE_CODE=code))["name"])
    tell("camera_frames", lambda: wait(lambda: frames() > 30, "frames of /dev/video0") and "more than 30")
    tell("unplugged_in_an_update", unplugged)
    arm()
    tell("info_after_replugging", lambda: json.loads(run("edge-enroll", "info", "--json", EDGE_CODE=code))["name"])
    tell("update_resumed", lambda: update(code))
    tell("camera_unplugged", lose_camera)
    for process in (vision, provision):
        assert process.poll() is None, "a process has ended"
        process.send_signal(signal.SIGTERM)
    tell("exit_codes", lambda: [process.wait(60) for process in (vision, provision)])
    tell("gadget_removed", remove_gadget)


def plug_in() -> str:
    run("/usr/lib/edge/edge-gadget", "up")
    wait(TTY.exists, "ttyACM0")
    return "ttyGS0 and ttyACM0"


def remove_gadget() -> bool:
    run("/usr/lib/edge/edge-gadget", "down")
    return wait(lambda: not TTY.exists(), "no ttyACM0")


def tell(step: str, work: Callable[[], Any]) -> None:
    """Do a step and print its result."""
    began_s = time.monotonic()
    result = work()
    print("EDGE", json.dumps({"step": step, "result": result, "s": round(time.monotonic() - began_s, 1)}), flush=True)


def run(*command: str, **environ: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def start(command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["edge-daemon", command, "--config", str(CONFIG)], stderr=sys.stdout)


def wait(condition: Callable[[], object], what: str) -> bool:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, f"waited in vain: {what}"
        time.sleep(0.2)
    return True


def arm() -> str:
    armed = json.loads(run("edge-daemon", "arm", "--json", "--config", str(CONFIG)))
    return canonical(armed["code"]).decode()


def frames() -> int:
    vision = json.loads(run("edge-daemon", "status", "--json", "--config", str(CONFIG)))["vision"]
    return int(vision["frames"]) if vision else 0


def reason() -> str:
    return str(json.loads(run("edge-daemon", "status", "--json", "--config", str(CONFIG)))["vision"]["reason"])


def content() -> bytes:
    return random.Random(1).randbytes(UPDATE_BYTES)  # noqa: S311 - the same bytes in every run


def unplugged() -> str:
    """Unplug the cable during an update, and plug it in again."""
    controller = GADGET.read_text()
    port = SerialPort(str(TTY))
    client = Client(port, canonical(arm()), os.urandom, time.monotonic)
    client.connect()
    problem = ""
    try:
        for sent in client.send_update(content()):
            if sent * 2 > UPDATE_BYTES and GADGET.read_text().strip():
                GADGET.write_text("\n")
    except ProvisionError as e:
        problem = e.what
    port.close()
    assert problem, "nothing was said of a cable that is gone"
    wait(lambda: not TTY.exists(), "ttyACM0 to go")
    GADGET.write_text(controller)
    wait(TTY.exists, "ttyACM0 to come back")
    return problem


def update(code: str) -> str:
    """Send the update again; it must continue after the bytes that had arrived."""
    port = SerialPort(str(TTY))
    arm()
    client = Client(port, canonical(code), os.urandom, time.monotonic)
    client.connect()
    steps = list(client.send_update(content()))
    client.close()
    port.close()
    assert steps[0] > UPDATE_BYTES // 4, f"it began again, at {steps[0]} bytes"
    assert steps[-1] == UPDATE_BYTES, steps[-1]
    return f"from byte {steps[0]:,}"


def lose_camera() -> str:
    """Unload and reload the camera's driver; vision must report the loss and continue afterwards."""
    (CAMERA / "unbind").write_text("vivid.0")
    wait(lambda: reason().startswith("camera_"), "vision to say that the camera is gone")
    said, seen = reason(), frames()
    (CAMERA / "bind").write_text("vivid.0")
    wait(lambda: frames() > seen + 10, "frames after the camera is back")
    return f"{said}, then frames again"


if __name__ == "__main__":
    main()
