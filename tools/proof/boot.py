"""The installed product under a real systemd: it boots, recognises, is killed when it hangs, and is upgraded.

The full form boots a Debian of its own (`tools/rig/machine.py`), installs with `make install`, and replays footage to a
real mosquitto. The short form stages the system files and has systemd-analyze judge them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.demo import make_clips
from tools.rig import Missing, takeover
from tools.rig.machine import CACHE, Machine, tree

CLAIM = (
    "A real systemd boots the installed product, restarts what hangs or crashes, and keeps each process in its box:"
    " no other process reaches anything of vision's."
)
_CONSOLE = "/run/edge-console"  # the machine has no console: the output of edge-arm.service goes to this file

PROJECT = Path(__file__).parents[2]
UNITS = {"edge-vision": 1.2, "edge-publisher": 1.5, "edge-provision": 1.5}  # highest allowed exposure of each unit
_ATTACKED_STARTS = 100
_START_S, _EVENT_S = 120.0, 120.0  # generous, for a slow machine; the figures hold the measured times
_CONFIG = """
[device]
id = "proof"
[camera]
source = "video"
paths = ["/srv/footage/man.avi", "/srv/footage/street.mp4"]
fps = 30.0
loop = true
[store]
key = "{key}"
[mqtt]
host = "127.0.0.1"
state_every_s = 1.0
"""


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures; raises AssertionError where something does not hold, Missing where it cannot be tried."""
    figures: dict[str, Any] = {"exposure": exposure()}
    if short:
        return figures
    if os.geteuid() != 0:
        raise Missing("booting a machine needs root")
    base = tree(say)
    with tempfile.TemporaryDirectory(prefix="edge-boot-") as name:
        machine = Machine(Path(name) / "machine", base, [_layer(Path(name) / "layer", say)])
        try:
            with machine.booted():
                figures |= _installed(machine, say)
            with machine.booted():
                say("booted again, the target comes up by itself")
                figures |= _at_work(machine, say)
                say("taken-over processes attack vision")
                figures |= takeover.attack(machine, _ATTACKED_STARTS, say)
                figures |= _upgraded_and_removed(machine, say)
        finally:
            machine.remove()
    return figures


def exposure(folder: Path = PROJECT / "systemd") -> dict[str, float]:
    """Return each unit's exposure by `systemd-analyze security`; raises AssertionError above its limit."""
    if shutil.which("systemd-analyze") is None:
        raise Missing("systemd-analyze is not installed (apt install systemd)")
    exposures = {}
    for unit, most in UNITS.items():
        command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(folder / f"{unit}.service")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        exposures[unit] = float(done.stdout.rpartition("service: ")[2].split()[0])
        assert exposures[unit] <= most, f"{unit}: an exposure of {exposures[unit]}, wanted {most} at most"
    return exposures


def wheels(say: Callable[[str], None]) -> Path:
    """Return a folder with wheels of the product and its dependencies."""
    say("building wheels")
    folder = CACHE / "wheels"
    wanted = [f"{PROJECT}[enroll]", "setuptools>=77", "wheel"]
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder), "--find-links", str(folder)]
    subprocess.run([*pip, "-c", str(PROJECT / "tools/constraints.txt"), *wanted], check=True, cwd="/")
    return folder


def _locked(folder: Path, say: Callable[[str], None]) -> Path:
    """Fill a folder with the locked files, the only ones that an installation fetches."""
    say("fetching what is locked")
    locked = [f"--requirement={PROJECT}/systemd/locked/{name}.txt" for name in ("base", "enroll", "build")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*pip, *locked], check=True, cwd="/")
    return folder


def _layer(layer: Path, say: Callable[[str], None]) -> Path:
    """Return a folder with the project's source, wheels of its dependencies, footage, and a broker configuration."""
    _locked(layer / "wheels", say)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        target = layer / "usr/src/edge" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)
    footage = layer / "srv/footage"
    footage.mkdir(parents=True)
    clips = make_clips(footage)
    shutil.copy(clips[1].path, footage / "street.mp4")
    shutil.copy(takeover.ATTACKER, layer / takeover.SCRIPT.lstrip("/"))
    broker = layer / "etc/mosquitto/conf.d"
    broker.mkdir(parents=True)
    (broker / "edge.conf").write_text("listener 1883 127.0.0.1\nallow_anonymous true\n")
    return layer


def _installed(machine: Machine, say: Callable[[str], None]) -> dict[str, Any]:
    """Install, seal a store key, enrol a person and start. The key is never on the disk in clear."""
    say("installing")
    _make(machine, "install")
    theirs = machine.do("find", "/opt/edge", "!", "-user", "root").split()
    assert not theirs, f"not root's, though root runs it: {theirs[:5]}"
    _configure(machine, "credential:edge-store-key")
    say("sealing a store key with systemd-creds")
    machine.do("mkdir", "-p", "/etc/credstore.encrypted")
    sealed = "/etc/credstore.encrypted/edge-store-key"
    machine.do("sh", "-c", f"head -c 32 /dev/urandom | systemd-creds encrypt --name=edge-store-key - {sealed}")
    given = ["--property=User=edge", f"--property=LoadCredentialEncrypted=edge-store-key:{sealed}"]
    add = ["people", "add", "The man", "--from", "/srv/footage/enrolment", "--json"]
    machine.do("systemd-run", "--wait", "--pipe", "--quiet", *given, "edge-daemon", *add)
    assert machine.call("test", "-e", "/var/lib/edge/store.key").returncode != 0, "a key lies beside the store"
    drop_in = "/etc/systemd/system/edge-arm.service.d"
    console = f"[Service]\\nStandardOutput=truncate:{_CONSOLE}\\n"
    machine.do(
        "sh", "-c", f"mkdir -p {drop_in} && printf '{console}' >{drop_in}/console.conf && systemctl daemon-reload"
    )
    began_s = time.monotonic()
    machine.do("systemctl", "start", "edge.target")
    machine.until(lambda: _active(machine), "vision and publisher are active", _START_S)
    took_s = round(time.monotonic() - began_s, 1)
    machine.until(lambda: "armed; the code is" in _shown(machine), "a new device is armed", _START_S)
    return {"start_to_ready_s": took_s}


def _at_work(machine: Machine, say: Callable[[str], None]) -> dict[str, Any]:
    """Check what a subscriber receives while processes hang and crash."""
    machine.until(lambda: _active(machine), "the target comes up at boot", _START_S)
    figures: dict[str, Any] = {}
    with _subscriber(machine) as events:
        say("waiting for a match")
        figures["first_match_s"] = round(machine.until(lambda: _matches(events()), "a match", _EVENT_S), 1)
        figures["store_key"] = "decrypted by systemd from /etc/credstore.encrypted"
        figures |= _boxes(machine)
        figures["armed_at"] = _armings(machine)
        say("vision hangs")
        figures["hung_vision_back_s"] = _after(machine, "edge-vision", "STOP")
        say("the publisher crashes")
        figures["crashed_publisher_back_s"] = _after(machine, "edge-publisher", "SEGV")
        figures["restarts_counted_then_forgotten"] = _forgotten(machine, "edge-publisher")
        figures["gauge"] = _gauged(machine)
        before = len(_matches(events()))
        machine.until(lambda: len(_matches(events())) > before, "a match after both", _EVENT_S)
        figures["events"] = len(events())
    log = machine.do("journalctl", "--no-pager", "-u", "edge-vision")
    assert "Watchdog timeout" in log, "vision came back, but not by its watchdog"
    return figures


def _armings(machine: Machine) -> str:
    """Check that the second boot does not arm the device; returns a description of when it is armed."""
    held_back = machine.do("systemctl", "show", "--value", "--property=ConditionResult", "edge-first-start.service")
    assert held_back.strip() == "no", f"edge-first-start.service ran at the second boot: {held_back}"
    assert not _is_active(machine, "edge-provision"), "the cable is served at the second boot"
    assert not _shown(machine), "the code was shown at the second boot"
    machine.do("systemctl", "start", "edge-arm")
    assert "armed; the code is" in _shown(machine)
    machine.until(lambda: _is_active(machine, "edge-provision"), "the cable is served", _START_S)
    return "the first start, then by hand alone"


def _shown(machine: Machine) -> str:
    """Return the console output of edge-arm.service since the boot."""
    return machine.call("cat", _CONSOLE).stdout


def _boxes(machine: Machine) -> dict[str, Any]:
    """Check from inside each process what it can reach."""
    vision, publisher = machine.main_pid("edge-vision"), machine.main_pid("edge-publisher")
    devices = machine.do("nsenter", f"--target={vision}", "--net", "cat", "/proc/net/dev").splitlines()[2:]
    interfaces = [line.split(":")[0].strip() for line in devices]
    assert interfaces == ["lo"], f"vision has {interfaces}"
    seen = machine.do("nsenter", f"--target={publisher}", "--mount", "ls", "/var/lib/edge").split()
    assert sorted(seen) == ["outbox", "settings"], f"the publisher sees {seen}"
    as_publisher = ["setpriv", "--reuid=edge", "--regid=edge", "--clear-groups", "--bounding-set=-all"]
    inside = ["nsenter", f"--target={publisher}", "--mount", *as_publisher, "ls"]
    assert machine.call(*inside, "/proc/self/root/var/lib/edge").returncode == 0, "the look itself is blind"
    around = machine.call(*inside, f"/proc/{vision}/root/var/lib/edge")
    assert around.returncode != 0, f"through vision's process the publisher sees {around.stdout.split()}"
    for pid in (vision, publisher):
        status = machine.do("cat", f"/proc/{pid}/status")
        assert "CapEff:\t0000000000000000" in status, status
        assert "Seccomp:\t2" in status, status
    return {
        "vision_interfaces": interfaces,
        "publisher_sees": sorted(seen),
        "publisher_sees_through_vision": "nothing",
        "capabilities": "none",
    }


def _after(machine: Machine, unit: str, number: str) -> float:
    """Send a signal to a unit's main process; returns the time until its successor is ready, s."""
    old = machine.main_pid(unit)
    assert old
    machine.do("kill", f"-{number}", str(old))
    took_s = machine.until(
        lambda: machine.main_pid(unit) not in {0, old} and _is_active(machine, unit), f"{unit} is back", _START_S
    )
    return round(took_s, 1)


def _forgotten(machine: Machine, unit: str) -> list[int]:
    """Return a running unit's restart count before and after edge-steady.service has reset it."""

    def restarts() -> int:
        return int(machine.do("systemctl", "show", "--property=NRestarts", "--value", unit))

    assert machine.do("systemctl", "is-active", "edge-steady.timer").strip() == "active"
    counted = restarts()
    machine.do("systemctl", "start", "edge-steady.service")
    assert counted > restarts() == 0, f"{counted} restarts of {unit} are not forgotten"
    assert _is_active(machine, unit)
    return [counted, 0]


def _gauged(machine: Machine) -> str:
    """Give vision access to a battery gauge, as in docs/install.md; returns the devices that it may then open."""
    source, target = "/usr/share/edge/edge-gauge-serial.conf", "/etc/systemd/system/edge-vision.service.d/gauge.conf"
    machine.do("install", "-D", "-m", "0644", source, target)
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "restart", "edge-vision")
    machine.until(lambda: _active(machine), "vision runs with the drop-in", _START_S)
    may = machine.do("systemctl", "show", "--value", "--property=DeviceAllow", "edge-vision")
    assert "char-ttyUSB rw" in may, may
    assert "char-video4linux rw" in may, may
    return "by a drop-in, serial ports beside cameras"


def _upgraded_and_removed(machine: Machine, say: Callable[[str], None]) -> dict[str, Any]:
    say("upgrading")
    before = machine.do("sh", "-c", "cat /etc/edge/edge.toml; ls /var/lib/edge/outbox; readlink /opt/edge/current")
    store = machine.do("sha256sum", "/var/lib/edge/templates.edge")
    _make(machine, "install")
    after = machine.do("sh", "-c", "cat /etc/edge/edge.toml; ls /var/lib/edge/outbox; readlink /opt/edge/current")
    assert before.splitlines()[:-1] == after.splitlines()[:-1], "an upgrade changed settings or outbox"
    assert before.splitlines()[-1] != after.splitlines()[-1], "an upgrade installed nothing"
    assert machine.do("sha256sum", "/var/lib/edge/templates.edge") == store, "an upgrade changed the store"
    machine.until(lambda: _active(machine), "both run after the upgrade", _START_S)
    with _subscriber(machine) as events:
        machine.until(lambda: _matches(events()), "a match after the upgrade", _EVENT_S)
    say("removing")
    _make(machine, "uninstall")
    assert machine.call("systemctl", "cat", "edge-vision.service").returncode != 0, "the unit is still there"
    assert machine.call("test", "-e", "/usr/bin/edge-daemon").returncode != 0, "the program is still there"
    assert machine.do("sha256sum", "/var/lib/edge/templates.edge") == store, "removal touched the store"
    _make(machine, "purge")
    left = machine.do("sh", "-c", "ls -d /var/lib/edge /etc/edge 2>/dev/null || true")
    assert left == "", f"a purge left {left}"
    return {"upgrade_keeps": "settings, store, outbox", "uninstall_keeps": "settings, data", "purge_keeps": "nothing"}


def _make(machine: Machine, target: str) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    machine.do("make", "--directory=/usr/src/edge", target, **offline)


def _configure(machine: Machine, key: str) -> None:
    path = machine.root.parent / "edge.toml"
    path.write_text(_CONFIG.format(key=key))
    text = path.read_text()
    machine.do("sh", "-c", 'printf %s "$0" > /etc/edge/edge.toml', text)


def _active(machine: Machine) -> bool:
    return _is_active(machine, "edge-vision") and _is_active(machine, "edge-publisher")


def _is_active(machine: Machine, unit: str) -> bool:
    return machine.call("systemctl", "is-active", unit).stdout.strip() == "active"


def _matches(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event_type"] == "match"]


@contextmanager
def _subscriber(machine: Machine) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Subscribe as the project's example consumer, in the machine's network; yield a function for the events so far."""
    kept = machine.root.parent / f"events-{time.monotonic_ns()}.jsonl"
    inside = ["nsenter", f"--target={machine.pid}", "--net"]
    command = [*inside, sys.executable, "-m", "tools.subscribe", "--device", "proof", "--to", str(kept)]
    with (machine.root.parent / "subscriber.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
    try:
        yield lambda: [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    finally:
        process.kill()
        process.wait()
