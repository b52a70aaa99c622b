"""A staged upgrade from an apt repository, and its roll-back, on three Debians with systemd.

    python -m tools.fleet updates

The first version is the package of `make deb`. The second is the same with a higher number, the third has a damaged
model file. `config/fleet/roll-out` brings both out: the second reaches all devices, the third stops at the first, which
goes back. The repository is signed, and served on the loopback of each device.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

from tools.deb import NAME, RELEASES, build
from tools.proof.package import _PACKAGES
from tools.rig import Missing
from tools.rig.machine import Machine, tree

FLEET = Path(__file__).parents[2] / "config/fleet"
DEVICES = ("canary", "hall", "door")
_RELEASE = RELEASES["bookworm"]
_PORT = 8000
_START_S = 300.0
_MODEL = "edge/models/lightcnn9-int8.onnx"
_CONFIG = '[device]\nid = "{name}"\n[camera]\nsource = "v4l2"\n[mqtt]\nhost = "127.0.0.1"\n'
_GNUPG = ("--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "")


def prove(folder: Path, package: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what became of each version on each device. Raises AssertionError where it is not as promised, Missing.

    `package`: the first version, of `make deb` for bookworm and amd64; None: it is made.
    """
    for program in ("dpkg-deb", "dpkg-scanpackages", "gpg"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed (apt install dpkg-dev gnupg)")
    first = package or build(folder, _RELEASE, "amd64", 1, say)
    say("second version, and a bad third one")
    good = _repacked(first, folder, "0.1.1-1+deb12", lambda _: None)
    bad = _repacked(first, folder, "0.1.2-1+deb12", _damage)
    with Repository(folder) as repository, contextlib.ExitStack() as stack:
        repository.publish(first)
        machines = {name: stack.enter_context(_device(folder, name, repository, say)) for name in DEVICES}
        figures: dict[str, Any] = {"devices": len(machines)}
        versions = {"first": version(first), "good": version(good), "bad": version(bad)}
        repository.publish(good)
        done = _rolled_out(folder, machines, versions["good"])
        say(done.stdout + done.stderr)
        assert done.returncode == 0, f"the good version did not get through: {done.stderr}"
        figures["good"] = {name: _installed(machine) for name, machine in machines.items()}
        assert set(figures["good"].values()) == {versions["good"]}
        repository.publish(bad)
        done = _rolled_out(folder, machines, versions["bad"])
        say(done.stdout + done.stderr)
        assert done.returncode == 1, "the bad version was not stopped"
        assert "stopped at canary; 0 upgraded before it, 2 not touched" in done.stderr, done.stderr
        assert "embedder" in done.stderr, f"the reason is not named: {done.stderr}"
        figures["bad"] = {name: _installed(machine) for name, machine in machines.items()}
        assert set(figures["bad"].values()) == {versions["good"]}, "the bad version stayed, or went on"
        for machine in machines.values():
            assert _active(machine), "services do not run"
        tried = machines["canary"].do("grep", "-c", f" {NAME}.* {versions['bad']}", "/var/log/dpkg.log")
        assert int(tried) > 0, "the bad version was never installed"
    return figures | {"stopped_at": DEVICES[0], "reason": "embedder"}


def version(package: Path) -> str:
    """Return the version of a package."""
    return subprocess.run(
        ["dpkg-deb", "--field", str(package), "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _repacked(package: Path, folder: Path, number: str, change: Callable[[Path], None]) -> Path:
    root = folder / f"repacked-{number}"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(root)], check=True)
    control = root / "DEBIAN/control"
    lines = control.read_text(encoding="utf-8").splitlines()
    lines = [f"Version: {number}" if line.startswith("Version: ") else line for line in lines]
    control.write_text("\n".join(lines) + "\n", encoding="utf-8")
    change(root)
    made = folder / f"{NAME}_{number}_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(made)], check=True, capture_output=True
    )
    shutil.rmtree(root)
    return made


def _damage(root: Path) -> None:
    (model,) = root.rglob(_MODEL)
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 0xFF
    model.write_bytes(data)


class Repository:
    """A signed apt repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._home = folder / "repository", folder / "gnupg"
        self.key = folder / "edge.asc"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._home.mkdir(mode=0o700)
        self._gpg("--quick-generate-key", "Edge repository <edge@localhost>", "rsa3072", "sign", "1d")
        self.key.write_text(self._gpg("--armor", "--export"), encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True)

    def publish(self, package: Path) -> None:
        """Add a package, and sign the new list."""
        shutil.copy(package, self.folder)
        command = ["dpkg-scanpackages", "--multiversion", "."]
        listed = subprocess.run(command, cwd=self.folder, capture_output=True, check=True).stdout
        (self.folder / "Packages").write_bytes(listed)
        digest = hashlib.sha256(listed).hexdigest()
        head = f"Origin: Edge\nSuite: stable\nArchitectures: amd64\nDate: {formatdate(usegmt=True)}\n"
        release = self.folder / "Release"
        release.write_text(f"{head}SHA256:\n {digest} {len(listed)} Packages\n", encoding="ascii")
        self._gpg("--clearsign", "--output", str(self.folder / "InRelease"), str(release))

    def _gpg(self, *arguments: str) -> str:
        command = ["gpg", "--homedir", str(self._home), *_GNUPG, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"gpg: {done.stderr[-500:]}")
        return done.stdout


@contextlib.contextmanager
def _device(folder: Path, name: str, repository: Repository, say: Callable[[str], None]) -> Iterator[Machine]:
    """Boot a device that has the repository among its sources, and the first version from it."""
    layer = folder / f"layer-{name}"
    for place in ("etc/apt/keyrings", "etc/apt/sources.list.d", "usr/local/sbin", "etc/edge"):
        (layer / place).mkdir(parents=True)
    (layer / "etc/apt/sources.list").touch()
    shutil.copy(repository.key, layer / "etc/apt/keyrings/edge.asc")
    source = f"deb [signed-by=/etc/apt/keyrings/edge.asc] http://127.0.0.1:{_PORT} ./\n"
    (layer / "etc/apt/sources.list.d/edge.list").write_text(source, encoding="ascii")
    (layer / "etc/edge/edge.toml").write_text(_CONFIG.format(name=name), encoding="ascii")
    shutil.copy(FLEET / "edge-upgrade", layer / "usr/local/sbin")
    machine = Machine(folder / name, tree(say, _RELEASE.name, _PACKAGES), [layer])
    try:
        with machine.booted(), _served(machine, repository.folder):
            say(f"{name}: installs the first version from the repository")
            machine.do("apt-get", "update")
            keep = "Dpkg::Options::=--force-confold"
            machine.do("apt-get", "install", "--yes", "-o", keep, NAME, DEBIAN_FRONTEND="noninteractive")
            machine.do("systemctl", "start", "edge.target")
            machine.until(lambda: _active(machine), f"{name}: vision and publisher are active", _START_S)
            yield machine
    finally:
        machine.remove()


@contextlib.contextmanager
def _served(machine: Machine, folder: Path) -> Iterator[None]:
    """Serve the repository on the loopback of a machine, which has no other network."""
    inside = ["nsenter", f"--target={machine.pid}", "--net", sys.executable, "-m", "http.server"]
    command = [*inside, "--bind", "127.0.0.1", "--directory", str(folder), str(_PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        probe = ["python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {_PORT}))"]
        machine.until(lambda: machine.call(*probe).returncode == 0, "the repository is served", 30)
        yield
    finally:
        server.terminate()
        server.wait(10)


def _rolled_out(folder: Path, machines: dict[str, Machine], number: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the desk; in place of ssh, a command enters the namespaces of a machine."""
    enter = "--mount --uts --ipc --net --pid --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root"
    cases = "\n".join(f"{name}) pid={machine.pid} ;;" for name, machine in machines.items())
    run = folder / "run"
    run.write_text(
        f'#!/bin/sh\nname=$1; shift\ncase $name in\n{cases}\nesac\nexec nsenter --target=$pid {enter} "$@"\n'
    )
    run.chmod(0o755)
    return subprocess.run(
        [str(FLEET / "roll-out"), number, *machines],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGE_RUN": str(run)},
    )


def _installed(machine: Machine) -> str:
    return machine.do("dpkg-query", "--show", "--showformat=${Version}", NAME).strip()


def _active(machine: Machine) -> bool:
    units = ("edge-vision", "edge-publisher")
    return all(machine.call("systemctl", "is-active", unit).stdout.strip() == "active" for unit in units)
