"""Write docs/schema and docs/asyncapi.json from the types that the device uses: `python -m tools.schemas`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge import __version__
from edge.events.event import MAX_BYTES, Event
from edge.events.flow import Topics
from edge.events.messages import MAX_STATE_BYTES, Ack, Settings, State

DOCS = Path(__file__).parents[1] / "docs"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: dict[str, type[msgspec.Struct]] = {"event": Event, "state": State, "ack": Ack}
_PREFIX, _DEVICE = "{prefix}", "{device}"


def files() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each file's name under docs/ and its content."""
    for name, kind in _TYPES.items():
        schema = msgspec.json.schema(kind)
        yield f"schema/{name}.schema.json", {"$schema": _DIALECT, "title": name, **_portable(schema)}
    yield "asyncapi.json", asyncapi()


def _portable(value: Any) -> Any:
    r"""Return a schema with ECMA patterns, as JSON Schema requires: `$` matches only the end, `\Z` does not exist."""
    if isinstance(value, dict):
        return {
            key: inner.replace(r"\Z", "$").replace(r"\"", '"') if key == "pattern" else _portable(inner)
            for key, inner in value.items()
        }
    return [_portable(inner) for inner in value] if isinstance(value, list) else value


def asyncapi() -> dict[str, Any]:
    """Return the description of all topics, from the device's point of view: it sends events and receives acks."""
    topics = Topics(_PREFIX, _DEVICE)
    channels, operations, messages = {}, {}, {}
    for name, address, action, retain, text, payload in (
        ("event", topics.event, "send", False, f"One event, at most {MAX_BYTES} bytes.", _schema("event")),
        ("state", topics.state, "send", True, f"The newest state, at most {MAX_STATE_BYTES} bytes.", _schema("state")),
        (
            "availability",
            topics.availability,
            "send",
            True,
            "Whether the device is connected; `offline` is also its last will.",
            {"type": "string", "enum": ["online", "offline"]},
        ),
        ("ack", topics.ack, "receive", False, "A consumer has every event up to this one.", _schema("ack")),
        *(
            (f"set_{key}", f"{topics.base}/{key}/set", "receive", True, "A wish of the owner.", {"type": "boolean"})
            for key in Settings.__struct_fields__
        ),
    ):
        channels[name] = {
            "address": address,
            "parameters": {"prefix": {"default": "edge"}, "device": {"description": "[device] id"}},
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}_{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
        }
        plain = name == "availability"
        messages[name] = {
            "summary": text,
            "contentType": "text/plain" if plain else "application/json",
            "payload": payload,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Edge Face Runtime",
            "version": __version__,
            "description": "What a device publishes and takes over MQTT. docs/events.md says how to consume it.",
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"schema/{name}.schema.json"}


def text(content: dict[str, Any]) -> str:
    """Return a file's text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all files."""
    argparse.ArgumentParser(prog="python -m tools.schemas", description=__doc__).parse_args()
    for path, described in files():
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(text(described), encoding="utf-8")


if __name__ == "__main__":
    main()
