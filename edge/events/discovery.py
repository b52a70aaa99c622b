"""Home Assistant device discovery: one message describes the device and all its entities. Sans-IO.

Home Assistant ignores retained messages on event topics; the events here are not retained.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from edge import __version__
from edge.events.flow import Topics

GAUGES = ("temperature", "battery")  # entities that are announced where there is something to measure
BIRTH = b"online"  # Home Assistant says so on `<discovery_prefix>/status` when it has started
Entity = dict[str, Any]  # the description of one entity, in Home Assistant's abbreviations

_DIAGNOSTIC = {"entity_category": "diagnostic"}
_COUNTER = {"state_class": "total_increasing", **_DIAGNOSTIC}
# Key → the field of the state that it shows, and what Home Assistant must know of it.
_SENSORS: dict[str, tuple[str, Entity]] = {
    "mode": ("vision.mode", {"name": "Mode"}),
    "reason": ("vision.reason", {"name": "Reason", **_DIAGNOSTIC}),
    "temperature": (
        "vision.temperature_c",
        {"name": "Temperature", "device_class": "temperature", "unit_of_measurement": "°C", **_DIAGNOSTIC},
    ),
    "battery": (
        "vision.battery_percent",
        {"name": "Battery", "device_class": "battery", "unit_of_measurement": "%", **_DIAGNOSTIC},
    ),
    "liveness": ("vision.liveness", {"name": "Liveness", **_DIAGNOSTIC}),
    "pictures": ("vision.pictures", {"name": "Pictures of people", **_COUNTER}),
    "outbox": ("publisher.depth", {"name": "Waiting events", "state_class": "measurement", **_DIAGNOSTIC}),
    "dropped": ("publisher.dropped", {"name": "Dropped events", **_COUNTER}),
}


def topic(discovery_prefix: str, device: str) -> str:
    """Return the topic of the device's discovery message."""
    return f"{discovery_prefix}/device/edge-{device}/config"


def status_topic(discovery_prefix: str) -> str:
    """Return the topic on which Home Assistant says that it is online."""
    return f"{discovery_prefix}/status"


def payload(
    topics: Topics,
    presence: Mapping[str, str] = MappingProxyType({}),
    *,
    gauges: Collection[str] = GAUGES,
    gone: Collection[str] = (),
) -> bytes:
    """Return the discovery message: an event entity, a switch, and sensors that read `…/state`.

    `presence`: person id → name. Each has two entities: whether the person is here, and when they were last seen.
    `gauges`: which of `GAUGES` the device has. `gone`: ids of people whose entities Home Assistant must remove.
    """
    node = f"edge-{topics.device}"
    entities = {"event": _encounter(topics), "recognition": _switch(topics)}
    for key, (field, attributes) in _SENSORS.items():
        if key not in GAUGES or key in gauges:
            entities[key] = {"p": "sensor", **attributes, **_reading(topics, field)}
    for person, name in presence.items():
        entities |= _presence(topics, person, name or person)
    cmps: dict[str, Entity] = {key: {**entity, "unique_id": f"{node}-{key}"} for key, entity in entities.items()}
    for person in set(gone) - set(presence):
        cmps |= {f"presence_{person}": {"p": "binary_sensor"}, f"last_seen_{person}": {"p": "sensor"}}
    message = {
        "dev": {"ids": [node], "name": f"Edge {topics.device}", "mdl": "Edge Face Runtime", "sw": __version__},
        "o": {"name": "edge-face-runtime", "sw": __version__},
        "availability": [{"topic": topics.availability}],
        "qos": 1,
        "cmps": cmps,
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _encounter(topics: Topics) -> Entity:
    return {
        "p": "event",
        "name": "Encounter",
        "state_topic": topics.event,
        "event_types": ["match", "unknown", "end"],
        "icon": "mdi:face-recognition",
    }


def _switch(topics: Topics) -> Entity:
    return {
        "p": "switch",
        "name": "Recognition",
        "command_topic": f"{topics.base}/recognition/set",
        "payload_on": "true",
        "payload_off": "false",
        "state_on": "True",
        "state_off": "False",
        **_reading(topics, "vision.recognition"),
    }


def _presence(topics: Topics, person: str, name: str) -> dict[str, Entity]:
    """Return the entities of one person. Their templates read the state of this person only."""
    of_person = f"((value_json.vision or {{}}).get('presence') or {{}}).get('{person}', {{}})"
    guarded = " if value_json is defined else None"
    moment = "timestamp_custom('%Y-%m-%dT%H:%M:%S+00:00', false, None)"
    return {
        f"presence_{person}": {
            "p": "binary_sensor",
            "name": name,
            "device_class": "occupancy",
            "payload_on": "True",
            "payload_off": "False",
            "state_topic": topics.state,
            "value_template": f"{{{{ {of_person}.get('here'){guarded} }}}}",
        },
        f"last_seen_{person}": {
            "p": "sensor",
            "name": f"{name} last seen",
            "device_class": "timestamp",
            "state_topic": topics.state,
            "value_template": f"{{{{ ({of_person}.get('seen_s') | {moment}){guarded} }}}}",
        },
    }


def _reading(topics: Topics, path: str) -> dict[str, str]:
    """Read one field of the state; the entity is unknown while it is null.

    `vision` is null until the vision process has run. A state that is taken back is empty, and no JSON.
    """
    group, _, field = path.partition(".")
    template = f"{{{{ (value_json.{group} or {{}}).get('{field}') if value_json is defined else None }}}}"
    return {"state_topic": topics.state, "value_template": template}
