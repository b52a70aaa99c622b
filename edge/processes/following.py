"""Run a process again whenever the owner has changed the settings over the cable."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge import config as configuration
from edge.config import Config

_log = logging.getLogger(__name__)
_POLL_S = 1.0

Mark = tuple[int, int, int] | None


def follow(config_path: Path, stop: threading.Event, run: Callable[[Config, threading.Event], None]) -> None:
    """Call `run(config, stop)` until `stop`, and anew with the settings of now when they have changed."""
    while True:
        mark = _mark(configuration.load(config_path).settings_path)
        config = configuration.load(config_path)  # after the mark: a change between the two is followed, not missed
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(config.settings_path, mark, stop, over), daemon=True)
        watcher.start()
        try:
            run(config, over)
        finally:
            over.set()
            watcher.join()
        if stop.is_set() or _mark(config.settings_path) == mark:
            return
        _log.info("the settings have changed")


def _watch(path: Path, mark: Mark, stop: threading.Event, over: threading.Event) -> None:
    while not stop.wait(_POLL_S) and not over.is_set() and _mark(path) == mark:
        pass
    over.set()


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
