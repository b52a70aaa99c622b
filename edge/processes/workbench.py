"""Vision and publisher as two processes, without systemd: the same split as on a device."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

from edge.config import Config
from edge.errors import OutboxError
from edge.events.outbox import Outbox

_log = logging.getLogger(__name__)

Name = Literal["vision", "publish"]
_STOP_S = 10.0  # how long a process may take to end before it is killed
_DRAIN_S = 10.0  # how long the publisher may take to send what a finished recording left behind
_POLL_S = 0.2


def run(config: Config, config_path: Path, stop: threading.Event) -> int:
    """Run both until told to stop, until one fails, or until a finite source has ended and its events are sent.

    Returns the exit code of the process that failed, that of vision after a finite source, or 0.
    """
    processes = {name: _start(name, config_path) for name in ("publish", "vision")}
    code = 0
    try:
        while not stop.wait(_POLL_S):
            if (code := processes["publish"].poll() or 0) or processes["publish"].poll() == 0:
                _log.error("the publisher has ended with code %d", code)
                return code or 1
            ended = processes["vision"].poll()
            if ended is not None:
                _log.info("vision has ended with code %d", ended)
                _await_empty(config, stop)
                return ended
        return 0
    finally:
        _stop(processes)


def _start(name: Name, config_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge.cli.daemon", name, "--config", str(config_path)]
    return subprocess.Popen(command)  # noqa: S603 - our own module, and a path that has been read as configuration


def _await_empty(config: Config, stop: threading.Event) -> None:
    """Give the publisher time to send what is left; it stays in the outbox if the broker is away."""
    try:
        outbox = Outbox.open(
            config.outbox_path, max_events=config.outbox.max_events, max_age_s=config.outbox.max_age_h * 3600
        )
        with closing(outbox):
            for _ in range(round(_DRAIN_S / _POLL_S)):
                if outbox.counts().depth == 0 or stop.wait(_POLL_S):
                    return
            _log.warning("%d events wait in the outbox for the broker", outbox.counts().depth)
    except OutboxError as e:
        _log.error("%s", e)


def _stop(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """End both, vision first, so that its last events are still sent."""
    for name in ("vision", "publish"):
        process = processes[name]
        if process.poll() is not None:
            continue
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            _log.error("%s does not end and is killed", name)
            process.kill()
            process.wait()
