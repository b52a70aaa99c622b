"""The publisher process: outbox → MQTT. It sees neither pixels nor the template store."""

from __future__ import annotations

import logging
import threading

from edge.config import Config
from edge.errors import OutboxError
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.health import Notifier

_log = logging.getLogger(__name__)
_RETRY_S = 2.0


def run(config: Config, stop: threading.Event, notifier: Notifier) -> None:
    """Publish until `stop` is set. Start-up waits for nobody: neither for the disk nor for the broker."""
    notifier.ready("opening the outbox")
    outbox = _open(config, stop, notifier)
    if outbox is None:
        return
    try:
        Publisher(config, outbox, alive=notifier.alive).run(stop)
    finally:
        outbox.close()


def _open(config: Config, stop: threading.Event, notifier: Notifier) -> Outbox | None:
    """Open or create the outbox, however long it is locked or its disk is away; None if told to stop first."""
    said = ""
    while not stop.is_set():
        try:
            return Outbox.of(config)
        except OutboxError as e:
            if str(e) != said:
                said = str(e)
                _log.error("%s", e)
            notifier.alive("waiting for the outbox")
            stop.wait(_RETRY_S)
    return None
