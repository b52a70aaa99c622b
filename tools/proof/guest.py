"""A QEMU guest with USB gadget, USB host and V4L2 camera: set-up over the cable, an unplugged cable, recognition.

The guest runs Debian's stock kernel. Its initial RAM file system holds the bare Debian of `tools/rig/machine.py` and
the product as pip installs it. dummy_hcd connects a USB gadget with a USB host on the same machine; vivid is a virtual
V4L2 camera. Without hardware virtualization a boot takes a minute, and measured times are meaningless.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.proof.boot import wheels
from tools.rig import Missing
from tools.rig.machine import CACHE, laid_over, tree

CLAIM = "On a real USB gadget the device is found, set up, and survives an unplugged cable; a V4L2 camera too."

_PROJECT = Path(__file__).parents[2]
_INSIDE = _PROJECT / "tools/rig/guest"
_LIMIT_S = 3600.0
_MEMORY_MIB = 4096
_PROGRAMS = ("qemu-system-x86_64", "cpio", "debootstrap")
_NEEDLESS = ("var/cache", "var/lib/apt", "usr/share/doc", "usr/share/man", "usr/share/locale", "wheels", "tmp")


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return each step's answer; raises AssertionError where one fails, Missing where it cannot be tried."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if short or missing or os.geteuid() != 0:
        raise Missing(f"this needs root and {', '.join(missing or _PROGRAMS)}, and takes minutes: it has no short form")
    with tempfile.TemporaryDirectory(prefix="edge-guest-", dir=CACHE) as name:
        folder = Path(name)
        kernel, system = _built(folder, say)
        steps = _booted(kernel, system, folder, say)
    return {step["step"]: step["result"] for step in steps}


def _built(folder: Path, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Return kernel and initial RAM file system."""
    root = laid_over(folder, tree(say))
    try:
        say("installing kernel and product")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        _inside(root, "apt-get", "update", "-qq")
        _inside(root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "kmod")
        depends = _inside(root, "apt-cache", "depends", "--important", "linux-image-amd64")
        package = depends.rpartition("Depends:")[2].split()[0]
        _inside(root, "sh", "-c", f"cd /tmp && apt-get download -qq {package} && dpkg -x {package}_*.deb kernel")
        unpacked = root / "tmp/kernel"  # not into /: the package's /lib would replace the link to /usr/lib
        (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, folder / "kernel")
        shutil.copytree(unpacked / "lib/modules", root / "usr/lib/modules")
        _inside(root, "depmod", kernel.name.removeprefix("vmlinuz-"))
        shutil.copytree(wheels(say), root / "wheels")
        _inside(root, "python3", "-m", "venv", "/opt/edge")
        offline = ["--quiet", "--no-index", "--find-links", "/wheels"]
        _inside(root, "/opt/edge/bin/pip", "install", *offline, "edge-face-runtime[enroll]")
        (root / "usr/lib/edge").mkdir(parents=True)
        shutil.copy(_PROJECT / "systemd/edge-gadget", root / "usr/lib/edge/edge-gadget")
        shutil.copy(_INSIDE / "inside.py", root / "edge-test.py")
        shutil.copy(_INSIDE / "init", root / "init")
        (root / "init").chmod(0o755)
        say("packing")
        for needless in _NEEDLESS:
            shutil.rmtree(root / needless, ignore_errors=True)
        with (folder / "system.cpio").open("wb") as packed:
            find = subprocess.Popen(["find", ".", "-xdev", "-print0"], cwd=root, stdout=subprocess.PIPE)
            pack = ["cpio", "--quiet", "--null", "--create", "--format=newc"]
            subprocess.run(pack, cwd=root, stdin=find.stdout, stdout=packed, check=True)
            assert find.wait() == 0
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=False)
    return folder / "kernel", folder / "system.cpio"


def _inside(root: Path, *command: str) -> str:
    done = subprocess.run(["chroot", str(root), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


def _booted(kernel: Path, system: Path, folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Boot the guest and follow its console to the end."""
    say("booting")
    machine = ["qemu-system-x86_64", "-machine", "accel=tcg", "-cpu", "max", "-smp", "2", "-m", str(_MEMORY_MIB)]
    quiet = ["-nographic", "-no-reboot", "-nic", "none", "-kernel", str(kernel), "-initrd", str(system)]
    command = ["timeout", str(_LIMIT_S), *machine, *quiet, "-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]
    steps, over = [], False
    with (folder / "console.log").open("w", encoding="utf-8") as log:
        guest = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
        try:
            for line in guest.stdout or ():
                log.write(line)
                _, ours, answer = line.rstrip().partition("EDGE ")
                if not ours:
                    continue
                if answer == "end":
                    over = True
                    break
                steps.append(json.loads(answer))
                say(answer)
        finally:
            guest.kill()
            guest.communicate()
    console = (folder / "console.log").read_text(encoding="utf-8")[-3000:]
    assert over, console
    last = steps[-1]["step"] if steps else "nothing"
    assert last == "gadget_removed", f"the last step was {last}: {console}"
    return steps
