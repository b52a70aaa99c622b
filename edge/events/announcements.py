"""What Home Assistant is told of the device, and which retained topics of earlier settings must be removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from edge.config import MqttConfig
from edge.events import discovery
from edge.events.event import UNREADABLE
from edge.events.flow import Topics
from edge.events.outbox import Outbox


class Announcements:
    """The device's discovery message and its retained topics. `presence`: person id → published name."""

    def __init__(self, mqtt: MqttConfig, topics: Topics, presence: Mapping[str, str]) -> None:
        self._topics, self._presence = topics, presence
        self._described = mqtt.discovery
        self._gauges: frozenset[str] = frozenset()  # in the description
        self._removed: frozenset[str] = frozenset()  # people whose entities Home Assistant must remove
        self.topic = discovery.topic(mqtt.discovery_prefix, topics.device)

    def description(self) -> bytes:
        """Return the discovery message."""
        return discovery.payload(self._topics, self._presence, gauges=self._gauges, gone=self._removed)

    def learn(self, gauges: frozenset[str]) -> bool:
        """Take what the device measures of itself; return whether the description must be sent again."""
        new = not gauges <= self._gauges
        self._gauges |= gauges
        return self._described and new

    def outdated(self, outbox: Outbox) -> Iterator[str]:
        """Yield the retained topics of earlier settings, the description first; raises OutboxError.

        After the last one, the outbox notes what is announced from now on. If the caller stops earlier, the topics
        are yielded again on the next connection.
        """
        current = [self._topics.availability, self._topics.state, *([self.topic] if self._described else [])]
        before = retained_topics(outbox.get_report("retained"))
        yield from (topic for topic in reversed(before) if topic not in current)
        if before != current:
            outbox.put_report("retained", msgspec.json.encode(current))
        announced = _listed(outbox.get_report("announced"))
        self._removed = frozenset(announced) - frozenset(self._presence)
        if announced != (now := sorted({*announced, *self._presence})):
            outbox.put_report("announced", msgspec.json.encode(now))


def retained_topics(report: bytes | None) -> list[str]:
    """Return the topics in a stored report, without those that nobody can publish to; empty if it is damaged."""
    return [topic for topic in _listed(report) if topic and not set(topic) & set("+#\0")]


def _listed(report: bytes | None) -> list[str]:
    try:
        return msgspec.json.decode(report or b"[]", type=list[str])
    except UNREADABLE:
        return []
