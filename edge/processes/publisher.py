"""The publisher process: outbox → MQTT. It sees neither pixels nor the template store."""

from __future__ import annotations

import logging
import sys
import threading

from edge.config import Config
from edge.errors import OutboxError
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.processes.signals import stop_on_signals

_log = logging.getLogger(__name__)
_RETRY_S = 2.0


def run(config: Config, stop: threading.Event | None = None) -> None:
    """Publish until SIGTERM or SIGINT (or until `stop` is set, where the caller handles signals); logs to stderr."""
    stop = stop or stop_on_signals()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    outbox = _open(config, stop)
    if outbox is None:
        return
    try:
        Publisher(config, outbox).run(stop)
    finally:
        outbox.close()


def _open(config: Config, stop: threading.Event) -> Outbox | None:
    """Open or create the outbox, however long it is locked or its disk is away; None if told to stop first."""
    said = ""
    while not stop.is_set():
        try:
            return Outbox.open(
                config.outbox_path,
                max_events=config.outbox.max_events,
                max_age_s=config.outbox.max_age_h * 3600.0,
            )
        except OutboxError as e:
            if str(e) != said:
                said = str(e)
                _log.error("%s", e)
            stop.wait(_RETRY_S)
    return None
