"""The published schemas: generated from the types, valid, and consistent with the decoders."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from edge.errors import EventError
from edge.events.event import decode, encode
from edge.events.flow import Topics
from edge.events.messages import State
from tests.events.samples import match, publisher_state
from tools import schemas
from tools.rig.publishing import vision_state

FILES = dict(schemas.files())
EVENT = Draft202012Validator(FILES["schema/event.schema.json"])
STATE = Draft202012Validator(FILES["schema/state.schema.json"])


@pytest.mark.parametrize("name", FILES)
def test_the_committed_files_are_those_of_the_types(name: str) -> None:
    assert (schemas.DOCS / name).read_text(encoding="utf-8") == schemas.text(FILES[name]), "python -m tools.schemas"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("schema/")])
def test_each_schema_is_a_valid_schema(name: str) -> None:
    Draft202012Validator.check_schema(FILES[name])
    assert "\\Z" not in schemas.text(FILES[name])


def test_what_the_device_sends_is_valid() -> None:
    for event in (match(1), match(2, event_type="unknown", person=None, band=None), match(3, name="Zoë", late=True)):
        EVENT.validate(json.loads(encode(event)))
    state = State(device="glasses", time="2026-05-01T12:00:00.000Z", vision=vision_state(), publisher=publisher_state())
    STATE.validate(json.loads(msgspec.json.encode(state)))


@pytest.mark.parametrize(
    "change",
    [
        {"score": 0.93},
        {"box": [1, 2, 3, 4]},
        {"image": "aGVsbG8="},
        {"event_type": "guess"},
        {"seq": 0},
        {"seq": "1"},
        {"device": "Glasses!"},
        {"person": "x" * 37},
        {"model": "a" * 15},
        {"name": "two\nlines"},
        {"name": "x" * 41},
        {"time": "yesterday"},
        {"band": "maybe"},
    ],
)
def test_schema_and_decoder_refuse_the_same_messages(change: dict[str, Any]) -> None:
    message = json.loads(encode(match(1))) | change
    with pytest.raises(ValidationError):
        EVENT.validate(message)
    with pytest.raises(EventError):
        decode(json.dumps(message).encode())


@pytest.mark.parametrize("field", ["id", "device", "boot", "seq", "time", "event_type", "encounter", "person", "model"])
def test_schema_and_decoder_require_the_same_fields(field: str) -> None:
    message = json.loads(encode(match(1)))
    del message[field]
    with pytest.raises(ValidationError):
        EVENT.validate(message)
    with pytest.raises(EventError):
        decode(json.dumps(message).encode())


def test_the_description_names_the_topics_that_are_used() -> None:
    described, topics = FILES["asyncapi.json"], Topics("edge", "glasses")
    addresses = {c["address"].format(prefix="edge", device="glasses") for c in described["channels"].values()}
    used = {topics.event, topics.state, topics.availability, topics.ack, f"{topics.base}/recognition/set"}
    assert addresses == used
    actions = {name: operation["action"] for name, operation in described["operations"].items()}
    assert {name for name, action in actions.items() if action == "receive"} == {
        "receive_ack",
        "receive_set_recognition",
    }
    assert not described["operations"]["send_event"]["bindings"]["mqtt"]["retain"]


def test_every_reference_of_the_description_resolves() -> None:
    described = copy.deepcopy(FILES["asyncapi.json"])

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [value["$ref"]] if "$ref" in value else []
            return here + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    for reference in references(described):
        if not reference.startswith("#/"):
            assert (schemas.DOCS / reference).is_file(), reference
            continue
        at: Any = described
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
