"""Build Debian packages: `make deb`, or `python -m tools.deb --release bookworm --arch arm64`. The last line is JSON.

There is one package per release and architecture. It contains the wheels that pip selects for that Python and machine.
Nothing is compiled or emulated, so every machine can build all packages. The system files are those of `make install`,
and the package's scripts use the shell functions of `systemd/install`. The device needs neither pip nor a network.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from edge import __version__
from tools.lock import blocks

PROJECT = Path(__file__).parents[1]
NAME = "edge-face-runtime"
PROGRAM = Path("usr/lib") / NAME
EXTRAS = ("enroll",)  # as `make install` without EXTRAS
_SOURCE = "cobs"  # has no wheels for some machines
_GLIBC = range(17, 37)  # minor versions of glibc 2 up to Debian 12's
_MARK = "# ── command line ──"  # line in systemd/install below its functions


@dataclass(frozen=True, slots=True)
class Release:
    """Parameters of a Debian release."""

    name: str
    suffix: str
    python: str
    systemd: int


RELEASES = {r.name: r for r in (Release("bookworm", "deb12", "3.11", 252), Release("trixie", "deb13", "3.13", 257))}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # Debian's architecture → that of wheels


def build(folder: Path, release: Release, arch: str, revision: int, say: Callable[[str], None]) -> Path:
    """Build one package in `folder` and return its path; raises CalledProcessError where pip or dpkg-deb fails."""
    version = f"{__version__}-{revision}+{release.suffix}"
    with tempfile.TemporaryDirectory(prefix="edge-deb-") as name:
        root = Path(name) / "root"
        root.mkdir(mode=0o755)
        say(f"{release.name} {arch}: fetching the wheels")
        _program(root, release, arch, Path(name))
        staged = {**os.environ, "DESTDIR": str(root), "SYSTEMD_VERSION": str(release.systemd)}
        subprocess.run([str(PROJECT / "systemd/install"), "install"], env=staged, check=True)
        _documents(root, version)
        _control(root, release, arch, version)
        say(f"{release.name} {arch}: packing")
        package = folder / f"{NAME}_{version}_{arch}.deb"
        folder.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", root, package]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package


def _program(root: Path, release: Release, arch: str, scratch: Path) -> None:
    """Lay out the program as a virtual environment of the release's Python, without running that Python."""
    home = root / PROGRAM
    packages = home / "lib" / f"python{release.python}" / "site-packages"
    packages.mkdir(parents=True)
    wheels = scratch / "wheels"
    ours = _wheels(wheels)
    target: list[str | Path] = ["--target", packages, "--implementation=cp", f"--python-version={release.python}"]
    target += [f"--platform=manylinux_2_{minor}_{MACHINES[arch]}" for minor in _GLIBC]
    target += [f"--platform=manylinux2014_{MACHINES[arch]}", "--only-binary=:all:", "--no-deps", "--no-compile"]
    locked = scratch / "locked.txt"
    locked.write_text("".join(text for name, text in _locked().items() if name != _SOURCE), encoding="utf-8")
    _pip("install", *target, "--require-hashes", "-r", locked)
    _pip("install", *target, "--no-index", ours, next(wheels.glob(f"{_SOURCE}-*.whl")))
    shutil.rmtree(packages / "bin", ignore_errors=True)  # these scripts contain the path of this machine's Python
    (home / "bin").mkdir()
    for link in ("python3", "python", f"python{release.python}"):
        (home / "bin" / link).symlink_to(f"/usr/bin/python{release.python}")
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    for command, module, function in _commands():
        script = home / "bin" / command
        call = f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
        script.write_text(f"#!/{PROGRAM}/bin/python3\n{call}")
        script.chmod(0o755)
        (root / "usr/bin" / command).symlink_to(f"/{PROGRAM}/bin/{command}")


def _commands() -> Iterator[tuple[str, str, str]]:
    """Yield each command of the project with its module and function."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for command, place in project["scripts"].items():
        module, _, function = place.partition(":")
        yield command, module, function


def _locked() -> dict[str, str]:
    """Return name → locked requirement with version and hashes, as `make install` uses them."""
    texts = [(PROJECT / f"systemd/locked/{name}.txt").read_text(encoding="utf-8") for name in ("base", *EXTRAS)]
    return {name: text for whole in texts for name, text in blocks(whole).items()}


def _wheels(folder: Path) -> Path:
    """Build the wheels that no index has for all machines: the project's, whose path is returned, and that of cobs.

    cobs has an optional C extension; without a compiler it is built as pure Python.
    """
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="edge-source-") as name:
        source = Path(name) / "edge"
        files = subprocess.run(
            ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
        for file in filter(None, files.split("\0")):
            if file.startswith("edge/") or "/" not in file:
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / file, source / file)
        _pip("wheel", "--no-deps", "--wheel-dir", folder, source)
        locked = Path(name) / "locked.txt"
        locked.write_text(_locked()[_SOURCE], encoding="utf-8")
        given: list[str | Path] = [
            "--no-deps",
            "--no-cache-dir",
            "--wheel-dir",
            folder,
            "--require-hashes",
            "-r",
            locked,
        ]
        _pip("wheel", *given, CC="false")
    return next(folder.glob("edge_face_runtime-*.whl"))


def _pip(*arguments: str | Path, **environ: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    if done.returncode:
        raise SystemExit(f"pip failed: {done.stderr[-2000:]}")


def _documents(root: Path, version: str) -> None:
    folder = root / "usr/share/doc" / NAME
    folder.mkdir(parents=True)
    licence = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    notices = "\n\n".join(
        f"edge/models/{notice.name}:\n\n{notice.read_text(encoding='utf-8')}"
        for notice in sorted((PROJECT / "edge/models").glob("*LICENSE*"))
    )
    (folder / "copyright").write_text(f"{NAME}: Apache-2.0\n\n{licence}\n\n{notices}", encoding="utf-8")
    entry = f"{NAME} ({version}) stable; urgency=medium\n\n  * CHANGELOG.md of the project lists the changes.\n\n"
    entry += f" -- The Edge Face Runtime authors <noreply@edge-face-runtime.invalid>  {formatdate(0)}\n"
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(entry.encode(), 9, mtime=0))


def _control(root: Path, release: Release, arch: str, version: str) -> None:
    """Write the control files of dpkg: fields, checksums, and the scripts for installation and removal."""
    folder = root / "DEBIAN"
    folder.mkdir()
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and folder not in path.parents
    )
    major, minor = map(int, release.python.split("."))
    size_kb = sum(path.stat().st_size for path in files) // 1024
    (folder / "control").write_text(
        f"""Package: {NAME}
Version: {version}
Architecture: {arch}
Maintainer: The Edge Face Runtime authors <noreply@edge-face-runtime.invalid>
Installed-Size: {size_kb}
Section: misc
Priority: optional
Depends: python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1}), libgomp1, libstdc++6, systemd (>= 252), passwd
Recommends: ca-certificates
Suggests: python3-picamera2, mosquitto
Description: Face recognition that lives on the device
 A daemon for Raspberry Pi and Jetson class wearables. It watches a camera,
 recognises the people whom its owner enrolled, and sends match events over
 MQTT. No frame, face, score or embedding leaves the device.
""",
        encoding="utf-8",
    )
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
    ]
    (folder / "md5sums").write_text("".join(sums), encoding="utf-8")
    # The trigger updates the environment when picamera2 is installed or removed later.
    (folder / "triggers").write_text("interest-noawait /usr/lib/python3/dist-packages/picamera2\n", encoding="utf-8")
    functions = (PROJECT / "systemd/install").read_text(encoding="utf-8").partition(_MARK)[0]
    for script, body in _SCRIPTS.items():
        text = f"{functions}\nprogram=/{PROGRAM}\n{body}"
        (folder / script).write_text(text, encoding="utf-8")
        (folder / script).chmod(0o755)


# The functions' variables `here` and `source` are no folders of a checkout here. DESTDIR is not set.
_SCRIPTS = {
    "preinst": """
case "$1" in
install | upgrade)
    if [ -L /opt/edge/current ]; then # the program of `make install` gives way; settings and data stay
        rm -f /usr/bin/edge-daemon /usr/bin/edge-enroll /usr/bin/edge-bench
        rm -rf /opt/edge
    fi
    ;;
esac
""",
    "postinst": """
environment() { # what makes a virtual environment of the folder; picamera2 comes from apt
    if [ -d /usr/lib/python3/dist-packages/picamera2 ]; then site=true; else site=false; fi
    printf 'home = /usr/bin\\ninclude-system-site-packages = %s\\n' $site >"$program/pyvenv.cfg"
}

case "$1" in
configure)
    environment
    "$program/bin/python3" -m compileall -q "$program/lib" || true # some packages carry files for other Pythons
    activate
    edge-daemon check-config --config /etc/edge/edge.toml
    ;;
triggered)
    environment
    ;;
esac
""",
    "prerm": """
case "$1" in
remove | deconfigure) halt ;;
esac
case "$1" in
remove | upgrade)
    rm -f "$program/pyvenv.cfg"
    find "$program/lib" -name __pycache__ -type d -prune -exec rm -rf {} +
    ;;
esac
""",
    "postrm": """
case "$1" in
remove) if running; then systemctl daemon-reload; fi ;;
purge)
    do_purge
    ;;
esac
""",
}


def main() -> int:
    """Build the packages of the command line, by default all four."""
    parser = argparse.ArgumentParser(prog="python -m tools.deb", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, action="append")
    parser.add_argument("--arch", choices=MACHINES, action="append")
    parser.add_argument(
        "--revision", type=int, default=1, help="of this package of this version; a higher one upgrades"
    )
    parser.add_argument("--to", type=Path, default=PROJECT / "dist")
    asked = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        raise SystemExit("dpkg-deb is not installed: apt install dpkg")
    made = [
        build(asked.to, RELEASES[release], arch, asked.revision, lambda line: print(line, file=sys.stderr, flush=True))
        for release in asked.release or RELEASES
        for arch in asked.arch or MACHINES
    ]
    print(json.dumps({path.name: path.stat().st_size for path in made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
