"""Run a process again after a change of the settings: over the cable, or in the file with SIGHUP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge import config as configuration
from edge.config import Config
from edge.errors import ConfigError

_log = logging.getLogger(__name__)
_POLL_S = 1.0

Mark = tuple[int, int, int] | None


def follow(
    config_path: Path,
    stop: threading.Event,
    hangup: threading.Event,
    run: Callable[[Config, threading.Event], None],
) -> None:
    """Call `run(config, stop)` until `stop`, and again with the new settings on a hangup or after a change.

    Raises ConfigError if the file is wrong at the first start.
    """
    config = configuration.load(config_path)
    while True:
        hangup.clear()
        mark = _mark(config.data.settings_file)
        config = settings_of_now(config_path, config)  # after the mark, so that a change between the two is noticed
        over = threading.Event()
        watcher = threading.Thread(
            target=_watch, args=(config.data.settings_file, mark, stop, hangup, over), daemon=True
        )
        watcher.start()
        try:
            run(config, over)
        finally:
            over.set()
            watcher.join()
        if stop.is_set() or not (hangup.is_set() or _mark(config.data.settings_file) != mark):
            return
        _log.info("the settings are read again")


def repeat(
    config_path: Path, start: tuple[Config, ConfigError | None], run: Callable[[Config, ConfigError | None], int | None]
) -> int:
    """Call `run(config, fault)` until it returns an exit code; after None, call it again with the present settings.

    `start`: the result of `settings_at_start`.
    """
    settings, fault = start
    while (code := run(settings, fault)) is None:
        if fault is None:
            settings = settings_of_now(config_path, settings)
        else:
            settings, fault = settings_at_start(config_path)
    return code


def settings_at_start(config_path: Path) -> tuple[Config, ConfigError | None]:
    """Read the settings. If the owner's settings are wrong, return the settings without them, and the fault.

    Raises ConfigError if edge.toml itself is wrong.
    """
    try:
        return configuration.load(config_path), None
    except ConfigError as e:
        return configuration.load_without_owner(config_path), e


def settings_of_now(config_path: Path, known: Config) -> Config:
    """Read the settings again. If they are wrong, log this and return the last known ones."""
    try:
        return configuration.load(config_path)
    except ConfigError as e:
        _log.error("the previous settings stay in use: %s", e)
        return known


def _watch(path: Path, mark: Mark, stop: threading.Event, hangup: threading.Event, over: threading.Event) -> None:
    while not stop.wait(_POLL_S) and not over.is_set() and not hangup.is_set() and _mark(path) == mark:
        pass
    over.set()


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
