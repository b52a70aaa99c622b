"""Run the product as a user does: a configuration file, the command line, processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import config
from edge.config import Config
from edge.events.event import Event
from edge.events.outbox import Outbox
from tools.rig.brokers import silent_port, until

DEADLINE_S = 30.0
COMMAND_LIMIT_S = 60.0

Image = NDArray[np.uint8]  # (H, W, 3) uint8, BGR
Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Bench:
    """A device in a folder, with its configuration, data and commands."""

    folder: Path

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "edge.toml"

    @property
    def data(self) -> Path:
        """The folder of store, key and outbox."""
        return self.folder / "data"

    @property
    def settings(self) -> Config:
        """The configuration as the product reads it."""
        return config.load(self.path)

    def configure(self, sections: Sections | None = None) -> None:
        """Write the configuration: defaults for a test, overridden by `sections`."""
        device = {"id": "bench", "data_dir": str(self.data)}
        quiet: dict[str, dict[str, Any]] = {
            "device": device,
            "camera": {"source": "images", "paths": [str(self.folder)]},
            "mqtt": {"host": "127.0.0.1", "port": silent_port(), "discovery": False, "state_every_s": 1.0},
        }
        for section, values in (sections or {}).items():
            quiet[section] = quiet.get(section, {}) | dict(values)
        lines = [
            line
            for section, values in quiet.items()
            # JSON strings, numbers, booleans and lists are valid TOML.
            for line in (f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
        ]
        self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def call(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> Answer:
        """Run one command of `edge-daemon` to its end."""
        done = subprocess.run(
            self._command(arguments),
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
            env={**os.environ, **(environ or {})},
            cwd=self.folder,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def start(self, command: str, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
        """Run `run`, `vision` or `publish` in the background; kill it with all its children at the end."""
        log = self.folder / f"{command}-{time.monotonic_ns()}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                self._command([command]),
                stderr=sink,
                stdout=sink,
                env={**os.environ, **(environ or {})},
                cwd=self.folder,
                start_new_session=True,
            )
        try:
            yield Running(process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_S)

    def outbox(self) -> Outbox:
        """Open the outbox from this process; the caller closes it."""
        return Outbox.open(self.settings.data.outbox, max_events=100_000, max_age_s=1e6)

    def waiting(self) -> list[Event]:
        """Return the events that no broker has confirmed yet."""
        outbox = self.outbox()
        try:
            return [row.event for row in outbox.pending(100_000)]
        finally:
            outbox.close()

    def status(self) -> dict[str, Any]:
        """Return the output of `status --json`."""
        answer = self.call("status", "--json")
        assert answer.code == 0, answer.errors
        said: dict[str, Any] = json.loads(answer.output)
        return said

    def _command(self, arguments: Sequence[str | Path]) -> list[str]:
        command = [sys.executable, "-m", "edge.cli.daemon", *map(str, arguments)]
        return [*command, "--config", str(self.path)]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command."""

    code: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """Return its error message without log lines; a traceback raises AssertionError."""
        assert "Traceback" not in self.errors, self.errors
        return "error: " + self.errors.partition("error: ")[2]


@dataclass(frozen=True, slots=True)
class Running:
    """A command in the background."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until the log contains a text."""
        until(lambda: text in self.said or self._ended(text), f"{text!r} in {self.log.name}", deadline_s)

    def _ended(self, text: str) -> bool:
        assert self.process.poll() is None, f"ended before it said {text!r}:\n{self.said}"
        return False

    def ends(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the command's end; returns the exit code."""
        return self.process.wait(deadline_s)

    def stop(self, deadline_s: float = DEADLINE_S) -> int:
        """Send SIGTERM and wait for the end; returns the exit code."""
        self.process.terminate()
        return self.process.wait(deadline_s)


def write_clip(path: Path, images: Iterable[Image], fps: float = 30.0) -> Path:
    """Write a Motion-JPEG video; its complete frames stay readable when the file is truncated."""
    writer: cv2.VideoWriter | None = None
    for image in images:
        if writer is None:
            size = (image.shape[1], image.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
        writer.write(image)
    assert writer is not None
    writer.release()
    return path


def flip_byte(path: Path, offset: int = -1) -> None:
    """Change one byte of a file in place, by default the middle one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if offset < 0 else offset] ^= 0x01
    path.write_bytes(content)


def copy_of_package(name: str, folder: Path) -> Mapping[str, str]:
    """Copy an installed package with its models; returns the environment for commands to import the copy."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": str(folder)}
