"""A Debian with a real systemd as PID 1 in namespaces: a device without its own kernel and hardware.

It needs root, debootstrap and access to packages. The bare tree is made once and cached. Each machine is an overlay.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.rig import Missing

CACHE = Path.home() / ".cache/edge-face-proof"
RELEASE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto,ca-certificates,iproute2,procps,make,libgomp1"
_CONTROLLERS = ("systemd", "memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "freezer", "blkio")
_BOOT_S, _COMMAND_S = 60.0, 600.0

# $1: the root. The script runs in new namespaces; its mounts end with them.
_INIT = f"""
set -e
cd "$1"
mount --bind . . && cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    for name in {" ".join(_CONTROLLERS)}; do
        [ -d /sys/fs/cgroup/$name ] || continue
        mkdir sys/fs/cgroup/$name
        [ $name = systemd ] && options=none,name=systemd || options=$name
        mount -t cgroup -o $options cgroup sys/fs/cgroup/$name
    done
fi
ip link set lo up
hostname edge-proof
mkdir -p old
pivot_root . old
umount -l /old
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
"""


def tree(say: Callable[[str], None], release: str = RELEASE, packages: str = PACKAGES) -> Path:
    """Return a bare Debian with some packages, made on the first call; raises Missing where it cannot be made."""
    path = CACHE / release
    if not path.is_dir():
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise Missing("a Debian tree needs root and debootstrap (apt install debootstrap)")
        say("making a Debian tree (some minutes, once)")
        with made_once(path) as part:
            debootstrap(part, release, packages)
    return path


@contextmanager
def made_once(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, and rename it to `path` on success, so an existing tree is complete."""
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    yield part
    part.rename(path)


def debootstrap(folder: Path, release: str, packages: str, *options: str) -> None:
    """Install a minimal Debian with these packages into a folder; raises Missing where that fails."""
    command = ["debootstrap", *options, "--variant=minbase", f"--include={packages}", release, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"debootstrap failed: {done.stdout[-500:]}")


def laid_over(folder: Path, *layers: Path) -> Path:
    """Mount an overlay at `folder`/root: the layers, the first one uppermost; changes are written to `folder`."""
    root = folder / "root"
    for part in (root, folder / "upper", folder / "work"):
        part.mkdir(parents=True)
    options = f"lowerdir={':'.join(map(str, layers))},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    return root


class Machine:
    """A machine over the bare tree and the folders of `layers`; its changes are written to `folder`."""

    def __init__(self, folder: Path, base: Path, layers: Sequence[Path] = ()) -> None:
        self.root = laid_over(folder, *layers, base)
        self._unshare: subprocess.Popen[bytes] | None = None
        self.pid = 0  # process id of its systemd, outside the namespaces

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Boot the machine; kill all its processes at the end, like a power failure."""
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--propagation", "private"]
        command = ["unshare", *namespaces, "--fork", "--kill-child", "sh", "-c", _INIT, "init", str(self.root)]
        with (self.root.parent / "console.log").open("ab") as log:
            self._unshare = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_own_cgroup,  # noqa: PLW1509  # the proof has one thread
            )
        try:
            self.pid = self._first_process()
            self.until(self._is_up, "systemd says that it is up", _BOOT_S)
            yield
        finally:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            self._unshare.wait(30)
            self._unshare, self.pid = None, 0

    def _first_process(self) -> int:
        assert self._unshare is not None
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        end_s = time.monotonic() + _BOOT_S
        while time.monotonic() < end_s and self._unshare.poll() is None:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.02)
        raise AssertionError(f"it did not boot: {(self.root.parent / 'console.log').read_text()[-2000:]}")

    def _is_up(self) -> bool:
        assert self._unshare is not None
        assert self._unshare.poll() is None, (self.root.parent / "console.log").read_text()[-2000:]
        return self.call("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def call(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; the exit code is not checked."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return subprocess.run(
            [*inside, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S,
            env={**path, **environ},
        )

    def do(self, *command: str, **environ: str) -> str:
        """Run a command inside; returns its output. Raises AssertionError where it fails."""
        done = self.call(*command, **environ)
        assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}"
        return done.stdout

    def main_pid(self, unit: str) -> int:
        """Return the process id of a unit's main process inside the machine, 0 where it does not run."""
        return int(self.do("systemctl", "show", "--value", "--property=MainPID", unit).strip() or 0)

    def until(self, condition: Callable[[], object], what: str, deadline_s: float) -> float:
        """Wait for a condition; returns the waiting time, s. Raises AssertionError with `what` after the deadline."""
        began_s = time.monotonic()
        while not condition():
            if time.monotonic() - began_s > deadline_s:
                raise AssertionError(f"waited {deadline_s:.0f} s in vain: {what}")
            time.sleep(0.1)
        return time.monotonic() - began_s

    def remove(self) -> None:
        """Unmount its file system."""
        subprocess.run(["umount", "--lazy", str(self.root)], check=False)


def _own_cgroup() -> None:
    """Move this process, which becomes the machine, into its own control group in every hierarchy."""
    top = Path("/sys/fs/cgroup")
    names = [""] if (top / "cgroup.controllers").exists() else list(_CONTROLLERS)
    for folder in (top / name for name in names):
        if not folder.is_dir():
            continue
        group = folder / "edge-proof"
        group.mkdir(exist_ok=True)
        for limit in ("cpuset.cpus", "cpuset.mems"):
            if (group / limit).exists() and not (group / limit).read_text().strip():
                (group / limit).write_text((folder / limit).read_text())
        (group / "cgroup.procs").write_text(str(os.getpid()))
