"""docs/events.md and Home Assistant's description stay true to the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edge.events import discovery
from edge.events.event import Event, decode
from edge.events.flow import Topics
from edge.events.messages import (
    MAX_STATE_BYTES,
    SETTABLE,
    Link,
    PublisherState,
    State,
    VisionState,
    encode_state,
    parse_ack,
    parse_set,
)
from edge.vocabulary import Mode, Reason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")


def example(name: str) -> bytes:
    block = re.search(rf"```json {name}\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    return json.dumps(json.loads(block[1]), separators=(",", ":")).encode()


def documented_fields(heading: str) -> list[str]:
    """Return the first column of the table with this heading."""
    table = PAGE.partition(f"| {heading} | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_examples_are_valid_messages() -> None:
    event = decode(example("event"))
    ack = parse_ack(example("ack"))
    state = msgspec.json.decode(example("state"), type=State)
    assert (ack.boot, ack.seq) == (event.boot, event.seq)
    assert len(encode_state(state)) <= MAX_STATE_BYTES
    assert state.vision is not None


@pytest.mark.parametrize(
    ("heading", "schema"),
    [("field", Event), ("field of `vision`", VisionState), ("field of `publisher`", PublisherState)],
)
def test_every_field_is_explained_and_no_other(heading: str, schema: type[msgspec.Struct]) -> None:
    assert documented_fields(heading) == list(schema.__struct_fields__)


def test_every_word_is_explained() -> None:
    for words in (Mode, Reason, Link):
        for word in get_args(words):
            assert f"`{word}`" in PAGE


def test_every_settable_key_is_explained() -> None:
    for key in (field.name for field in SETTABLE):
        assert f"/{key}/set" in PAGE
        assert parse_set(key, b"false") is False


TOPICS = Topics("edge", "glasses")


def test_home_assistant_is_told_of_an_event_entity_and_reads_fields_that_exist() -> None:
    told = json.loads(discovery.payload(TOPICS))
    event = told["cmps"]["event"]
    assert (event["p"], event["state_topic"]) == ("event", TOPICS.event)
    assert event["event_types"] == list(get_args({f.name: f.type for f in msgspec.structs.fields(Event)}["event_type"]))
    assert told["availability"] == [{"topic": TOPICS.availability}]
    known = {"vision": VisionState.__struct_fields__, "publisher": PublisherState.__struct_fields__}
    for entity in told["cmps"].values():
        template = re.fullmatch(
            r"\{\{ \(value_json\.(\w+) or \{\}\)\.get\('(\w+)'\) if value_json is defined else None \}\}",
            entity.get("value_template", ""),
        )
        assert template is not None or entity is event
        assert template is None or template[2] in known[template[1]]


def test_the_description_keeps_home_assistants_rules() -> None:
    # source: https://www.home-assistant.io/integrations/mqtt/#discovery-messages, for device discovery
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", discovery.topic("homeassistant", "glasses-7_b"))
    told = json.loads(discovery.payload(TOPICS))
    assert told["dev"]["ids"]
    assert told["o"]["name"]
    for key, entity in told["cmps"].items():
        assert re.fullmatch(r"[a-z_]+", key)
        assert entity["p"] in {"event", "sensor", "switch"}
        assert entity["unique_id"]
        assert entity["state_topic"]
        assert ("command_topic" in entity) == (entity["p"] == "switch")
        assert entity.get("entity_category", "diagnostic") == "diagnostic"
        assert ("unit_of_measurement" in entity) == ("device_class" in entity)


def test_a_person_whose_presence_is_published_has_two_entities_and_nobody_else_is_named() -> None:
    told = json.loads(discovery.payload(TOPICS, {"p-rnqtdt7l": "Anna", "p-d3md4pgf": ""}))
    people = {key: entity for key, entity in told["cmps"].items() if "p-" in key}
    assert {key: (entity["p"], entity["name"]) for key, entity in people.items()} == {
        "presence_p-rnqtdt7l": ("binary_sensor", "Anna"),
        "last_seen_p-rnqtdt7l": ("sensor", "Anna last seen"),
        "presence_p-d3md4pgf": ("binary_sensor", "p-d3md4pgf"),
        "last_seen_p-d3md4pgf": ("sensor", "p-d3md4pgf last seen"),
    }
    assert {entity["state_topic"] for entity in people.values()} == {TOPICS.state}


def test_a_person_who_is_no_longer_published_is_removed_and_missing_gauges_are_not_announced() -> None:
    # source: https://www.home-assistant.io/integrations/mqtt/#discovery-messages, "Removing a component"
    told = json.loads(discovery.payload(TOPICS, {"p-rnqtdt7l": ""}, gauges=(), gone={"p-rnqtdt7l", "p-d3md4pgf"}))
    assert told["cmps"]["presence_p-d3md4pgf"] == {"p": "binary_sensor"}
    assert told["cmps"]["last_seen_p-d3md4pgf"] == {"p": "sensor"}
    assert told["cmps"]["presence_p-rnqtdt7l"]["state_topic"]
    assert not {"battery", "temperature"} & set(told["cmps"])


def test_the_page_shows_the_description_as_it_is() -> None:
    page = (ROOT / "docs" / "home-assistant.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```json discovery\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert json.loads(shown) == json.loads(discovery.payload(Topics("edge", "glasses-7")))


def test_every_entity_has_a_unique_name_and_the_switch_sends_valid_payloads() -> None:
    told = json.loads(discovery.payload(TOPICS))
    ids = [entity["unique_id"] for entity in told["cmps"].values()]
    assert len(set(ids)) == len(ids)
    switch = told["cmps"]["recognition"]
    key = TOPICS.set_key(switch["command_topic"])
    assert key is not None
    assert [parse_set(key, switch[f"payload_{word}"].encode()) for word in ("on", "off")] == [True, False]
