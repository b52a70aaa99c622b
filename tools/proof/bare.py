"""`make demo` and `make test` on a system that has only Python, pip, make and packages.

The full form creates a bare Debian of each release, without /sys, mosquitto, FUSE, systemd and a compiler. It fetches
the wheels on this machine and runs both commands in that Debian, as an ordinary user whose only network is a loopback.
The short form hides the same tools on this machine, runs the tests that use them, and imports all other tests. In both
forms the proof listens on the MQTT ports of the loopback and counts connections: no test may connect to a broker that
it did not start. The proof needs root, or a kernel with user namespaces; the full form also needs debootstrap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.rig import Missing
from tools.rig.machine import CACHE, debootstrap, laid_over, made_once

CLAIM = "`make demo` and `make test` pass where only Python, pip and packages are, and touch no broker but their own."
PROJECT = Path(__file__).parents[2]
RELEASES = {"bookworm": "3.11", "trixie": "3.13"}
PACKAGES = "python3,python3-venv,python3-pip,make,libgomp1,ca-certificates"
_BUILD = ("setuptools>=77", "wheel", "pip")
# What the short form hides, and the tests that use it.
_TOOLS = (
    *("mosquitto", "mosquitto_passwd", "mosquitto_sub", "umockdev-run", "systemd-analyze", "fusermount3", "tcpdump"),
    *(
        "tshark",
        "strace",
        "ip",
        "nft",
        "debootstrap",
        "qemu-aarch64",
        "qemu-system-x86_64",
        "valgrind",
        "swtpm",
        "cc",
        "gcc",
    ),
)
_REACHING = (
    *(
        "tests/e2e/test_broker_security.py",
        "tests/e2e/test_doctor_and_broker.py",
        "tests/events/test_hostile_broker.py",
    ),
    *("tests/proof/test_power_cut.py", "tests/power/test_under_umockdev.py", "tests/systemd/test_units.py"),
    "tests/cli/test_doctor.py::test_a_credential_without_a_tpm_is_weak",
)
_EXTRAS = ("demo", "dev")  # what `make demo` and `make test` install
_LIMIT_S = 3600.0


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return how each command ended; raises AssertionError where one failed, Missing where it cannot be tried."""
    if short:
        return _hidden(say)
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Missing("a bare Debian needs root and debootstrap (apt install debootstrap)")
    return {release: _in_a_tree(release, say) for release in RELEASES}


def _hidden(say: Callable[[str], None]) -> dict[str, Any]:
    """Hide the tools, run the tests that use them, and import all other tests."""
    say("hiding what a bare system has not")
    hide = "\n".join(
        f"for d in /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin; do "
        f'[ -e "$d/{name}" ] && mount --bind /dev/null "$(readlink -f "$d/{name}")"; done'
        for name in _TOOLS
    )
    script = f"""
for f in /lib/*/libfuse*.so* /usr/lib/*/libfuse*.so*; do [ -f "$f" ] && mount --bind /dev/null "$f"; done
mount -t tmpfs tmpfs /sys
{hide}
exec "$@"
"""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    figures: dict[str, Any] = {}
    for name, arguments in (
        ("imported", ["--collect-only", "-qq"]),
        ("run", ["-n", "2", "--dist", "loadfile", *_REACHING]),
    ):
        inside = [sys.executable, "-m", "tools.proof.bare_inside", *pytest, *arguments]
        done = _unshared(["sh", "-c", script, "bare", *inside])
        figures[name] = _outcome(done, "")
    return figures


def _unshared(command: Sequence[str], *options: str, limit_s: float = 1800.0) -> subprocess.CompletedProcess[str]:
    """Run a command in its own mount and network namespaces; the network has only a loopback."""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    whole = ["unshare", *rights, "--mount", "--net", "--propagation", "private", *options, *command]
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=limit_s, cwd=PROJECT)


def _outcome(done: subprocess.CompletedProcess[str], what: str) -> dict[str, Any]:
    """Return the outcome of a command; raises AssertionError with the end of its output where it failed."""
    lines = done.stdout.strip().splitlines()
    said = f"{what}{done.stdout[-3000:]}{done.stderr[-2000:]}"
    assert lines, said
    assert lines[-1].startswith("{"), said
    ended: dict[str, Any] = json.loads(lines[-1])
    assert ended["code"] == 0, said
    assert ended["brokers_contacted"] == 0, f"{what}something connected to a broker that it did not start: {said}"
    counts = next((line for line in reversed(lines) if " passed" in line), "")
    return {"outcome": counts.strip("= ") or lines[-2] if len(lines) > 1 else "", **ended}


def _in_a_tree(release: str, say: Callable[[str], None]) -> dict[str, Any]:
    figures = {}
    with inside(release, tree(release, say), say) as root:
        for target in ("demo", "test"):
            say(f"{release}: make {target}")
            done = as_user(root, f"python3 tools/proof/bare_inside.py make {target}")
            figures[target] = _outcome(done, f"{release}: make {target}: ")
    return figures


def as_user(root: Path, command: str, limit_s: float = _LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout of a bare Debian, as its ordinary user, with a loopback and no other network."""
    up = f"{sys.executable} -c 'from tools.proof.bare_inside import loopback_up; loopback_up()'"
    # `su` keeps the environment, so pip uses the wheels and asks no index.
    chroot = f"chroot {root} env -i {_ENVIRONMENT} su anna -s /bin/sh -c"
    script = f'{up}; mount -t proc proc {root}/proc; exec {chroot} "cd /home/anna/edge && {command}"'
    return _unshared(["sh", "-c", script], "--pid", "--fork", limit_s=limit_s)


@contextmanager
def inside(release: str, bare: Path, say: Callable[[str], None], extras: Sequence[str] = _EXTRAS) -> Iterator[Path]:
    """Hold a bare Debian with this checkout and the wheels of what it installs; yields its root."""
    found = _wheels(release, say, extras)
    with tempfile.TemporaryDirectory(prefix="edge-bare-") as name, _system(Path(name), bare, found) as root:
        yield root


_ENVIRONMENT = (
    "HOME=/home/anna LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin "
    "PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1"
)


@contextmanager
def _system(folder: Path, tree: Path, wheels: Path) -> Iterator[Path]:
    """Yield the root of a bare Debian with the checkout in an ordinary user's home."""
    root = laid_over(folder, tree)
    try:
        (root / "wheels").mkdir()
        _mount("--bind", wheels, root / "wheels")
        for node in ("null", "zero", "full", "random", "urandom", "tty"):
            (root / "dev" / node).touch()
            _mount("--bind", f"/dev/{node}", root / "dev" / node)
        for kind, options, place in (("tmpfs", "mode=1777", "shm"), ("devpts", "newinstance,ptmxmode=0666", "pts")):
            (root / "dev" / place).mkdir(exist_ok=True)
            _mount("-t", kind, "-o", options, kind, root / "dev" / place)
        (root / "dev/ptmx").unlink(missing_ok=True)
        (root / "dev/ptmx").symlink_to("pts/ptmx")
        subprocess.run(["chroot", root, "useradd", "--create-home", "anna"], check=True)
        _checkout(root / "home/anna/edge")
        subprocess.run(["chroot", root, "chown", "-R", "anna:", "/home/anna"], check=True)
        yield root
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", root], check=False)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _checkout(folder: Path) -> None:
    """Copy the tracked files of this checkout, with their uncommitted changes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def tree(release: str, say: Callable[[str], None], name: str = "bare", more: str = "") -> Path:
    """Return a bare Debian, with `more` packages under another name; made on the first call."""
    path = CACHE / f"{name}-{release}"
    if not path.is_dir():
        say(f"making a {name} {release} (some minutes, once)")
        with made_once(path) as part:
            debootstrap(part, release, PACKAGES + more)
    return path


def _wheels(release: str, say: Callable[[str], None], wanted_extras: Sequence[str]) -> Path:
    """Return a folder with the wheels of everything that the project installs with these extras."""
    say(f"{release}: fetching wheels")
    folder = CACHE / f"wheels-{release}"
    folder.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *_BUILD]
    left = list(wanted_extras)
    while left:  # an extra may ask for others
        for line in extras[left.pop()]:
            own = re.fullmatch(rf"{project['name']}\[(.*)\]", line)
            left += own[1].split(",") if own else []
            wanted += [] if own else [line]
    assets = next(line for line in (PROJECT / "Makefile").read_text().splitlines() if line.startswith("ASSETS := "))
    version = RELEASES[release]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--find-links", str(folder)]
    binary = ["--only-binary=:all:", f"--python-version={version}"]
    pure = {**os.environ, "CC": "false"}  # packages without a wheel are built without their C parts
    if not list(folder.glob("cobs-*.whl")):
        build = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
            "--wheel-dir",
            str(folder),
        ]
        subprocess.run([*build, "-c", str(PROJECT / "tools/constraints.txt"), "cobs"], check=True, cwd="/", env=pure)
    subprocess.run([*pip, *binary, "-c", str(PROJECT / "tools/constraints.txt"), *wanted], check=True, cwd="/")
    subprocess.run([*pip, *binary, "--no-deps", *assets.removeprefix("ASSETS := ").split()], check=True, cwd="/")
    return folder
