"""The publishers of N devices: each the real one, over the real outbox, in a process of its own.

    python -m tools.fleet.devices FOLDER HOST

A host process has loaded everything and forks one process for each of its devices, so a thousand fit into a few GB. One
that is killed loses what a crash would lose, and is started again after a second, as systemd would.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edge.config import Config
from edge.events import publisher
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.processes.signals import stop_on_signals
from tools.fleet.members import PIDS, Fleet, configured, load, name_of

_RESTART_S = 1.0
_LOOK_S = 0.1
_GOODBYE_S = 20.0


class Host:
    """Keeps the publishers of one host process running."""

    def __init__(self, fleet: Fleet, folder: Path, number: int) -> None:
        self._settings = {device: configured(fleet, folder, device) for device in fleet.members(number)}
        self._pids = folder / PIDS
        self._pids.mkdir(exist_ok=True)
        self._spread_s = fleet.reconnect_s  # they are not switched on in one instant
        self._running: dict[int, int] = {}  # process → device
        self._due: list[tuple[float, int]] = []  # when which device starts again

    def serve(self, stop: threading.Event) -> None:
        """Run all until told to stop; then end them."""
        gc.collect()
        gc.freeze()  # what is shared now stays shared
        for device in self._settings:
            self._start(device, self._spread_s)
        while not stop.wait(_LOOK_S):
            self._reap()
            while self._due and self._due[0][0] <= time.monotonic():
                self._start(self._due.pop(0)[1], 0.0)
        for number, patience_s in ((signal.SIGTERM, _GOODBYE_S), (signal.SIGKILL, _GOODBYE_S)):
            for pid in self._running:
                os.kill(pid, number)
            end_s = time.monotonic() + patience_s
            while self._running and time.monotonic() < end_s:
                self._reap()
                time.sleep(_LOOK_S)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while self._running and (pid := os.waitpid(-1, os.WNOHANG)[0]):
                self._due.append((time.monotonic() + _RESTART_S, self._running.pop(pid)))

    def _start(self, device: int, spread_s: float) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _one(self._settings[device], random.SystemRandom().uniform(0.0, spread_s))
                code = 0
            except BaseException:  # a forked process ends here whatever happens
                logging.getLogger(__name__).exception("%s", name_of(device))
            finally:
                os._exit(code)
        self._running[pid] = device
        part = self._pids / f".{name_of(device)}"
        part.write_text(str(pid), encoding="ascii")
        part.replace(self._pids / name_of(device))


def _one(settings: Config, wait_s: float) -> None:
    stop = stop_on_signals()
    stop.wait(wait_s)
    with contextlib.closing(Outbox.of(settings.data, settings.outbox)) as outbox:
        Publisher(settings, outbox).run(stop)


def depths(fleet: Fleet, folder: Path) -> Iterator[int]:
    """Yield the number of waiting events of each device."""
    for device in range(fleet.devices):
        settings = configured(fleet, folder, device)
        with contextlib.closing(Outbox.of(settings.data, settings.outbox)) as outbox:
            yield outbox.counts().depth


def look_every_s(devices: int) -> float:
    """Return how often a publisher looks at its outbox here, s: 0.2 on a device, less often where many share CPUs."""
    return max(publisher._TICK_S, devices / 1000)  # noqa: SLF001


def main() -> int:
    """Run the publishers of one host."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = Path(sys.argv[1])
    fleet = load(folder)
    publisher._TICK_S = look_every_s(fleet.devices)  # noqa: SLF001
    Host(fleet, folder, int(sys.argv[2])).serve(stop_on_signals())
    return 0


if __name__ == "__main__":
    sys.exit(main())
