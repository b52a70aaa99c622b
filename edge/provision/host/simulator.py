"""A complete device without hardware: the real processes, a video as the camera, a pty as the cable."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ProvisionError, SourceError
from edge.footage import locate

_START_S = 90.0  # a small or busy computer takes its time
_STOP_S = 10.0
_CONFIG = """# A simulated device; edge-enroll writes its settings to data/settings.
[device]
id = "simulated"
data_dir = {data}
[camera]
source = "video"
paths = {video}
loop = true
[mqtt]
# No broker until one is set over the cable: the simulation holds this port, and nothing listens on it.
host = "127.0.0.1"
port = {port}
discovery = false
state_every_s = 1.0
[provision]
armed_minutes = 60
set_clock = false
update_key = {key}
"""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A running device."""

    port: Path
    code: str
    config: Path
    log: Path


def default_video() -> Path:
    """Return public footage of one man from its package; raises ProvisionError if that is not installed."""
    try:
        return locate("carphone")
    except SourceError as e:
        raise ProvisionError(
            f"no video for the simulated camera: {e.what}", f"name one with --video, or: {e.remedy}"
        ) from None


@contextmanager
def device(video: Path, folder: Path | None = None, update_key: str = "") -> Iterator[Simulated]:
    """Run a device with a video as its camera during the context; `folder` keeps it for the next time."""
    with ExitStack() as stack:
        home = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-simulated-")))
        home.mkdir(parents=True, exist_ok=True)
        made = Simulated(home / "port", "", home / "edge.toml", home / "device.log")
        port = stack.enter_context(_silent_port())
        data, paths = json.dumps(str(home / "data")), json.dumps([str(video.resolve())])
        made.config.write_text(
            _CONFIG.format(data=data, video=paths, port=port, key=json.dumps(update_key)), encoding="utf-8"
        )
        log = stack.enter_context(made.log.open("ab"))
        commands = (("run",), ("provision", "--pty", str(made.port)))
        processes = [subprocess.Popen(_daemon(made.config, *c), stdout=log, stderr=log) for c in commands]  # noqa: S603
        stack.callback(_stop, processes)
        _await(processes, made)
        armed = subprocess.run(_daemon(made.config, "arm", "--json"), capture_output=True, text=True, check=False)  # noqa: S603
        yield Simulated(made.port, str(json.loads(armed.stdout)["code"]), made.config, made.log)


@contextmanager
def _silent_port() -> Iterator[int]:
    """Yield a port that refuses connections: it is bound, and nothing listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _daemon(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli.daemon", *arguments, "--config", str(config)]


def _await(processes: Sequence[subprocess.Popen[bytes]], made: Simulated) -> None:
    deadline_s = time.monotonic() + _START_S
    socket = made.config.parent / "data" / "control" / "vision.sock"
    while not (made.port.is_symlink() and socket.exists()):
        if time.monotonic() > deadline_s or any(process.poll() is not None for process in processes):
            raise ProvisionError(f"the simulated device does not start:\n{made.log.read_text()}", "see the log above")
        time.sleep(0.05)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
