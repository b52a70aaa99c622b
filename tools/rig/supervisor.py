"""Supervise one command as systemd does by its unit file: watchdog, watchdog signal, restart."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_POLL_S = 0.05
UNITS = Path(__file__).parents[2] / "systemd"


class Supervisor:
    """Keeps a command running as its unit file says. Times are of `time.monotonic`, s, equal in all processes."""

    def __init__(
        self, unit: str, command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        text = (UNITS / f"{unit}.service").read_text(encoding="utf-8")

        def value(key: str, default: str = "") -> str:
            found = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
            return found[-1] if found else default

        assert value("Type") == "notify"
        assert value("Restart") == "on-failure"
        self._watchdog_s, self._restart_s = float(value("WatchdogSec")), float(value("RestartSec"))
        self._start_s = float(value("TimeoutStartSec", "90"))
        self._signal = signal.Signals[value("WatchdogSignal", "SIGABRT")]
        self._command, self._environ = list(command), {**os.environ, **(environ or {})}
        self._folder = folder
        self.pid = 0
        self.status = ""  # the process's last status message
        self.starts = 0
        self.watchdogs = 0  # number of watchdog timeouts
        self.alive_s = 0.0  # first feeding of the watchdog after readiness, s; 0: not yet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def log(self) -> Path:
        """Return the path of the processes' output."""
        return self._folder / "log.txt"

    def _run(self) -> None:
        address = self._folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, self.log.open("ab") as log:
            heard.bind(str(address))
            heard.settimeout(_POLL_S)
            environ = {**self._environ, "NOTIFY_SOCKET": str(address)}
            while not self._over.is_set():
                _drain(heard)
                self.alive_s = 0.0
                process = subprocess.Popen(
                    self._command, env=environ, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
                )
                self.pid, self.starts = process.pid, self.starts + 1
                self._watch(process, heard)
                self._kill_all(process, signal.SIGKILL)  # with its children, like a control group
                if process.returncode == 0:
                    return
                self._over.wait(self._restart_s)

    def _watch(self, process: subprocess.Popen[bytes], heard: socket.socket) -> None:
        """Wait until the process has ended, by itself or killed."""
        deadline_s, ready = time.monotonic() + self._start_s, False
        while not self._over.is_set():
            ended = process.poll() is not None  # checked before reading, so that the last messages are read too
            try:
                message = heard.recv(4096).decode()
            except TimeoutError:
                if ended:
                    return
                message = ""
            lines = dict(line.partition("=")[::2] for line in message.splitlines())
            ready = ready or "READY" in lines
            self.status = lines.get("STATUS", self.status)
            now_s = time.monotonic()
            if lines.keys() & {"READY", "WATCHDOG"}:
                deadline_s = now_s + self._watchdog_s
            if ready and "WATCHDOG" in lines and not self.alive_s:
                self.alive_s = now_s
            if now_s > deadline_s:
                self.watchdogs += 1
                self._kill_all(process, self._signal)

    @staticmethod
    def _kill_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()


def _drain(heard: socket.socket) -> None:
    """Discard messages of an ended process."""
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while heard.recv(4096, socket.MSG_DONTWAIT):
            pass
