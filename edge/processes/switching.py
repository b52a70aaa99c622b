"""Switches recognition on and off where the broker is away: the same wish as `…/recognition/set`."""

from __future__ import annotations

from contextlib import closing

from edge.config import Config
from edge.events.outbox import Outbox


def recognition(config: Config, wish: bool | None) -> bool:
    """Store a wish, where there is one; returns what holds now. Vision follows within a second. Raises OutboxError."""
    if wish is None and not config.data.outbox.exists():
        return True
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        if wish is not None:
            outbox.put_setting("recognition", wish)
        return outbox.settings().recognition
