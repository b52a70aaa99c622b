"""An event's CloudEvents 1.0 attributes, for the user properties of MQTT 5 (binary content mode). Sans-IO.

Brokers and bridges with CloudEvents support use them for routing without reading the payload, which is unchanged. The
attributes contain only data of the event (MQTT Protocol Binding for CloudEvents 1.0.2, 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.events.event import Event

CONTENT_TYPE = "application/json"
Attributes = Sequence[tuple[str, str]]


def attributes(event: Event, source: str) -> Attributes:
    """Return the attributes of an event; `source` is the prefix of its topics, such as `edge/glasses-7`."""
    return [
        ("specversion", "1.0"),
        ("id", event.id),
        ("source", source),
        ("type", f"edge.{event.event_type}"),
        ("time", event.time),
    ]
