"""The publisher process: outbox → MQTT. It sees neither pixels nor the template store."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, closing

from edge.config import Config
from edge.errors import ConfigError, OutboxError
from edge.events.outbox import Outbox
from edge.events.publisher import Publisher
from edge.health import Notifier
from edge.processes import instance

_log = logging.getLogger(__name__)
_RETRY_S = 2.0


def run(config: Config, stop: threading.Event, notifier: Notifier) -> None:
    """Publish until `stop` is set. The start waits neither for the disk nor for the broker.

    Raises SecondInstanceError if another publisher sends from this outbox.
    """
    notifier.ready("opening the outbox")
    with ExitStack() as stack:
        opened = _open(config, stop, notifier, stack)
        if opened is not None:
            named, outbox = opened
            Publisher(named, outbox, alive=notifier.alive).run(stop)


def _open(config: Config, stop: threading.Event, notifier: Notifier, stack: ExitStack) -> tuple[Config, Outbox] | None:
    """Retry until the outbox opens. Return None on a stop request."""
    said = ""
    while not stop.is_set():
        try:
            with ExitStack() as attempt:
                named = attempt.enter_context(instance.sole(config, "publisher"))
                outbox = attempt.enter_context(closing(Outbox.of(named.data, named.outbox)))
                stack.enter_context(attempt.pop_all())
                return named, outbox
        except (OutboxError, ConfigError) as e:
            if str(e) != said:
                said = str(e)
                _log.error("%s", e)
            notifier.alive("waiting for the outbox")
            stop.wait(_RETRY_S)
    return None
