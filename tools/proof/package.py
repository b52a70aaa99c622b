"""The Debian package on a booted Debian of each release: installed, at work, upgraded, removed, purged.

The full form builds two revisions of the package for each release (amd64). It installs them with dpkg in a booted
Debian under a real systemd (`tools/rig/machine.py`), without a network. The packages for arm64 are built and inspected.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.deb import MACHINES, NAME, PROGRAM, RELEASES, Release, build
from tools.rig import Missing
from tools.rig.machine import Machine, tree

CLAIM = (
    "The Debian package installs without a network, starts, keeps settings at an upgrade, and a purge leaves nothing."
)

_PACKAGES = "systemd,systemd-sysv,dbus,python3,ca-certificates,iproute2,procps,libgomp1,libstdc++6,passwd"
_START_S = 120.0
_ELF_MACHINE = {"amd64": 62, "arm64": 183}  # e_machine: EM_X86_64, EM_AARCH64
_CONFIG = """
[device]
id = "proof"
[camera]
source = "v4l2"
[mqtt]
host = "127.0.0.1"
"""


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures; raises AssertionError where something does not hold, Missing where it cannot be tried."""
    if shutil.which("dpkg-deb") is None:
        raise Missing("dpkg-deb is not installed (apt install dpkg)")
    if short:
        raise Missing("there is no short form: each package carries 100 MB of wheels")
    if os.geteuid() != 0:
        raise Missing("booting a machine needs root")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edge-package-") as name:
        for release in RELEASES.values():
            made = [build(Path(name), release, "amd64", revision, say) for revision in (1, 2)]
            looked_into(made[0], release, "amd64")
            figures[f"{release.name} amd64"] = _lived_through(Path(name), release, made, say)
            foreign = build(Path(name), release, "arm64", 1, say)
            figures[f"{release.name} arm64"] = f"made, {looked_into(foreign, release, 'arm64')} modules for aarch64"
    return figures


def looked_into(package: Path, release: Release, arch: str) -> int:
    """Return a package's number of compiled modules; AssertionError where one is for another machine or Python."""
    with tempfile.TemporaryDirectory(prefix="edge-look-") as name:
        subprocess.run(["dpkg-deb", "--raw-extract", package, name], check=True)
        root = Path(name)
        modules = [path for path in root.rglob("*.so*") if path.is_file() and not path.is_symlink()]
        for path in modules:
            with path.open("rb") as file:
                head = file.read(20)
            machine = int.from_bytes(head[18:20], "little")
            assert head[:4] == b"\x7fELF", f"{path.name} is no ELF file"
            assert machine == _ELF_MACHINE[arch], f"{path.name} is for machine {machine}"
            tag = path.name.split(".cpython-")[1:]
            assert not tag or tag[0].startswith(release.python.replace(".", "")), f"{path.name} is for another Python"
        names = {path.name.split("-")[0] for path in root.glob(f"{PROGRAM}/lib/*/site-packages/*.dist-info")}
        assert {"edge_face_runtime", "onnxruntime", "numpy", "opencv_python_headless", "paho_mqtt"} <= names, names
        units = {path.name for path in (root / "usr/lib/systemd/system").iterdir()}
        assert {"edge-vision.service", "edge-publisher.service", "edge.target"} <= units, units
        assert (release.systemd >= 254) == ("edge-vision.service.d" in units), units
        assert MACHINES[arch] not in (root / "DEBIAN/control").read_text(), "Debian's word for it is expected"
    return len(modules)


def _lived_through(folder: Path, release: Release, packages: list[Path], say: Callable[[str], None]) -> dict[str, Any]:
    """Install, start, upgrade, remove and purge on a booted machine."""
    layer = folder / f"layer-{release.name}"
    (layer / "srv").mkdir(parents=True)
    for package in packages:
        shutil.copy(package, layer / "srv")
    machine = Machine(folder / release.name, tree(say, release.name, _PACKAGES), [layer])
    try:
        with machine.booted():
            before = _files(machine)
            say(f"{release.name}: installing")
            machine.do("dpkg", "--install", f"/srv/{packages[0].name}")
            machine.do("sh", "-c", 'printf %s "$0" > /etc/edge/edge.toml', _CONFIG)
            machine.do("systemctl", "start", "edge.target")
            took_s = machine.until(lambda: _active(machine), "vision and publisher are active", _START_S)
            machine.do("edge-daemon", "check-config", "--config", "/etc/edge/edge.toml")
            say(f"{release.name}: upgrading")
            old = machine.main_pid("edge-vision")
            machine.do("dpkg", "--install", f"/srv/{packages[1].name}")
            assert machine.do("cat", "/etc/edge/edge.toml") == _CONFIG, "an upgrade changed the settings"
            machine.until(lambda: _active(machine), "both run after the upgrade", _START_S)
            assert machine.main_pid("edge-vision") != old, "the old program goes on after an upgrade"
            say(f"{release.name}: removing")
            machine.do("dpkg", "--remove", NAME)
            assert not _active(machine), "it runs on after its removal"
            assert machine.do("cat", "/etc/edge/edge.toml") == _CONFIG, "a removal changed the settings"
            assert machine.call("test", "-d", "/var/lib/edge/outbox").returncode == 0, "a removal took the data"
            machine.do("dpkg", "--purge", NAME)
            left = sorted(_files(machine) - before)
            assert left == [], f"a purge left {left[:10]}"
            assert machine.call("getent", "passwd", "edge").returncode != 0, "a purge left the user"
            return {"start_to_ready_s": round(took_s, 1), "upgrade_keeps": "settings, data", "purge_keeps": "nothing"}
    finally:
        machine.remove()


def _active(machine: Machine) -> bool:
    units = ("edge-vision", "edge-publisher")
    return all(machine.call("systemctl", "is-active", unit).stdout.strip() == "active" for unit in units)


def _files(machine: Machine) -> set[str]:
    """Return the files that a package could leave behind, without the state of dpkg and systemd."""
    places = ["/etc", "/opt", "/usr", "/var/lib"]
    skipped = ["/var/lib/dpkg", "/var/lib/systemd", "/etc/.pwd.lock"]
    found = machine.do("find", *places, "-xdev", "-not", "-name", "__pycache__", "-not", "-name", "*.pyc").splitlines()
    return {path for path in found if not path.startswith(tuple(skipped)) and not path.endswith("-")}
