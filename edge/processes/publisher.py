"""The publisher process: outbox → MQTT. It sees neither pixels nor the template store."""

from __future__ import annotations

import logging
import threading

from edge.config import Config
from edge.errors import OutboxError
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher

_log = logging.getLogger(__name__)
_RETRY_S = 2.0


def run(config: Config, stop: threading.Event) -> None:
    """Publish until `stop` is set."""
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
            return Outbox.of(config)
        except OutboxError as e:
            if str(e) != said:
                said = str(e)
                _log.error("%s", e)
            stop.wait(_RETRY_S)
    return None
