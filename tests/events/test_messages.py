"""The retained state, the settable keys and the acks: allow-listed, capped, refused with a reason."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import EventError
from edge.events.event import MAX_SEQ, rfc3339
from edge.events.messages import (
    MAX_STATE_BYTES,
    Ack,
    Presence,
    State,
    VisionState,
    decode_state,
    encode_state,
    parse_ack,
    parse_set,
)
from edge.vocabulary import MAX_PRESENCE
from tests.events.samples import BOOT, NOON_MS, publisher_state
from tools.rig.publishing import vision_state


@pytest.mark.parametrize(("payload", "value"), [(b"true", True), (b"false", False), (b" true ", True)])
def test_recognition_can_be_set(payload: bytes, value: bool) -> None:
    assert parse_set("recognition", payload) is value


@pytest.mark.parametrize(
    "payload", [b"", b"on", b"1", b'"true"', b"null", b"{}", b"tru", b"\xff", b" " * 200, b"[" * 100]
)
def test_a_set_that_is_not_a_json_truth_value_is_refused(payload: bytes) -> None:
    with pytest.raises(EventError):
        parse_set("recognition", payload)


@pytest.mark.parametrize("key", ["publish_names", "threshold", "host", "", "Recognition", "../recognition"])
def test_no_other_key_can_be_set_over_mqtt(key: str) -> None:
    with pytest.raises(EventError, match="cannot be set over MQTT"):
        parse_set(key, b"true")


def test_an_ack_names_boot_and_seq() -> None:
    assert parse_ack(json.dumps({"boot": BOOT, "seq": 7}).encode()) == Ack(boot=BOOT, seq=7)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"7",
        b'{"seq":7}',
        b'{"boot":"x","seq":7}',
        b'{"boot":"0123456789abcdef","seq":-1}',
        b'{"boot":1,"seq":"7"}',
    ],
)
def test_an_ack_of_another_form_is_refused(payload: bytes) -> None:
    with pytest.raises(EventError):
        parse_ack(payload)


@given(st.binary(max_size=300), st.sampled_from(["recognition", "publish_names"]))
def test_any_bytes_are_a_request_or_the_declared_error(payload: bytes, key: str) -> None:
    for parse in (parse_ack, lambda text: parse_set(key, text)):
        try:
            parse(payload)
        except EventError as e:
            assert e.remedy


def test_the_largest_state_fits() -> None:
    counters = dict.fromkeys(("frames", "faces", "embeddings", "events", "held"), MAX_SEQ)
    rates = dict.fromkeys(("capture_fps", "detector_hz", "embeddings_hz"), 1000 / 3)
    battery = {"supply": "battery", "power_w": 1000 / 3, "budget_w": 1000 / 3, "wanted_end": rfc3339(NOON_MS)}
    battery |= {"forecast_end": rfc3339(NOON_MS), "temperature_c": -100 / 3, "battery_percent": 100 / 3}
    ids = ("p-" + "".join(letters) for letters in itertools.product("abcdefgh", repeat=8))
    here = {person: Presence(here=False, seen_s=MAX_SEQ) for person in itertools.islice(ids, MAX_PRESENCE)}
    vision = vision_state(mode="suspended", reason="undervoltage", presence=here, **battery, **counters, **rates)
    numbers = ("depth", "published", "resent", "denied", "dropped", "damaged_files", "bytes_sent", "rejected_sets")
    ours = publisher_state(link="login_refused", oldest=Ack(boot=BOOT, seq=MAX_SEQ), **dict.fromkeys(numbers, MAX_SEQ))
    state = State(device="d" * 32, time=rfc3339(NOON_MS), vision=vision, publisher=ours)
    assert len(encode_state(state)) <= MAX_STATE_BYTES


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature_c", 900.0), ("battery_percent", -1.0), ("mode", "turbo"), ("model", "free text"), ("frames", -1)],
)
def test_a_state_outside_its_ranges_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(EventError, match=field):
        encode_state(vision_state(**{field: value}))


def test_a_state_with_an_unknown_field_is_refused_by_name() -> None:
    told = msgspec.to_builtins(vision_state()) | {"ssid": "home"}
    with pytest.raises(EventError, match="ssid"):
        decode_state(json.dumps(told).encode(), VisionState)
