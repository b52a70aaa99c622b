"""Switch recognition on and off without a broker: the same setting as `…/recognition/set`."""

from __future__ import annotations

from contextlib import closing

from edge.config import Config
from edge.events.outbox import Outbox


def recognition(config: Config, wish: bool | None) -> bool:
    """Store `wish` if given; return the present setting. Vision follows in a second. Raises OutboxError."""
    if wish is None and not config.data.outbox.exists():
        return True
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        if wish is not None:
            outbox.put_setting("recognition", wish)
        return outbox.settings().recognition
