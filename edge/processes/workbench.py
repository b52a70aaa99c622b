"""Vision and publisher as two processes, without systemd: the same split as on a device."""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Literal

from edge.config import Config
from edge.errors import OutboxError
from edge.events.outbox import Outbox
from edge.processes import instance

_log = logging.getLogger(__name__)

Name = Literal["vision", "publish"]
_STOP_S = 10.0  # how long a process may take to end before it is killed
_DRAIN_S = 10.0  # longest wait until the publisher has sent the events of a finished recording
_LAST_WORDS_S = 2.0  # time to send the last events of a vision process that was stopped
_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def run(config: Config, config_path: Path, stop: threading.Event) -> int:
    """Run both until a stop is requested, until one fails, or until a finite source has ended and its events are sent.

    Returns the exit code of the failed process, of vision after a finite source, or 0. Raises SecondInstanceError if
    another daemon runs on this data folder.
    """
    instance.refuse_second(config.data)
    processes = {name: _start(name, config_path) for name in ("publish", "vision")}
    try:
        while not stop.wait(_POLL_S):
            code = processes["publish"].poll()
            if code is not None:
                _log.error("the publisher has ended with code %d", code)
                return code or 1
            code = processes["vision"].poll()
            if code is not None:
                _log.info("vision has ended with code %d", code)
                return code
        return 0
    finally:
        _end(processes["vision"], "vision")  # first, so that its last events are still sent
        _await_empty(config, processes["publish"], stop)
        _end(processes["publish"], "the publisher")


def _start(name: Name, config_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge.cli.daemon", name, "--config", str(config_path)]
    # Its own process group: Ctrl-C reaches only the workbench, which stops the two in order.
    # The program is our own module, and the path was read as configuration. This process has one thread: fork is safe.
    return subprocess.Popen(command, process_group=0, preexec_fn=_die_with_parent)  # noqa: S603, PLW1509


def _die_with_parent() -> None:
    """Have the kernel end this process if the workbench is killed, so that no camera keeps running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _await_empty(config: Config, publisher: subprocess.Popen[bytes], stop: threading.Event) -> None:
    """Give the publisher time to send what is left; it stays in the outbox if the broker is away."""
    try:
        with closing(Outbox.of(config.data, config.outbox)) as outbox:
            began_s = time.monotonic()
            while (depth := outbox.counts().depth) and publisher.poll() is None:
                if time.monotonic() - began_s > (_LAST_WORDS_S if stop.is_set() else _DRAIN_S):
                    break
                time.sleep(_POLL_S)
            if depth:
                _log.warning("%d events wait in the outbox for the broker", depth)
    except OutboxError as e:
        _log.error("%s", e)


def _end(process: subprocess.Popen[bytes], name: str) -> None:
    """Ask a process to end; kill it if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        _log.error("%s does not end and is killed", name)
        process.kill()
        process.wait()
