"""The allow-listed event: limited in size, decoded strictly, and unchanged by encoding and decoding."""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from edge.errors import EventError
from edge.events.event import (
    MAX_BYTES,
    MAX_SEQ,
    Event,
    as_late,
    decode,
    display_name,
    encode,
    rfc3339,
    uuid7,
)
from edge.records import Band, EventType
from tests.events.samples import NOON_MS, match

hexes = st.binary(min_size=8, max_size=8).map(bytes.hex)
persons = st.from_regex(r"\Ap-[a-z2-7]{8}\Z")
names = st.text(max_size=60).map(display_name).map(lambda name: UNSET if name is None else name)


LIVE: tuple[bool | Literal["unknown"] | UnsetType, ...] = (True, False, "unknown", UNSET)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kinds: tuple[EventType, ...] = get_args(EventType)
    kind = draw(st.sampled_from(kinds))
    person = None if kind == "unknown" or (kind == "end" and draw(st.booleans())) else draw(persons)
    bands: tuple[Band | None, ...] = get_args(Band) if kind == "match" else (*get_args(Band), None)
    return Event(
        id=uuid7(draw(st.integers(-1, 2**63)), draw(st.binary(min_size=10, max_size=10))),
        device=draw(st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z")),
        boot=draw(hexes),
        seq=draw(st.integers(1, MAX_SEQ)),
        time=rfc3339(draw(st.integers(-(2**62), 2**62))),
        event_type=kind,
        encounter=draw(st.integers(1, MAX_SEQ)),
        person=person,
        band=None if person is None else draw(st.sampled_from(bands)),
        late=draw(st.booleans()),
        model=draw(hexes),
        name=UNSET if person is None else draw(names),
        live=UNSET if kind == "end" else draw(st.sampled_from(LIVE)),
    )


@given(events())
def test_every_event_fits_and_comes_back_the_same(event: Event) -> None:
    payload = encode(event)
    assert len(payload) <= MAX_BYTES
    assert decode(payload) == event
    assert set(json.loads(payload)) <= set(Event.__struct_fields__)


def test_the_largest_event_fits() -> None:
    longest = match(
        MAX_SEQ,
        id="ffffffff-ffff-7fff-bfff-ffffffffffff",
        device="d" * 32,
        encounter=MAX_SEQ,
        time="9999-12-31T23:59:59.999Z",
        name="😀" * 40,
        live="unknown",
    )
    assert 460 < len(encode(longest)) <= MAX_BYTES


@given(st.binary(max_size=600))
def test_any_bytes_are_an_event_or_an_event_error(payload: bytes) -> None:
    with pytest.raises(EventError):
        decode(payload)


@given(events(), st.data())
def test_a_changed_byte_is_an_event_error_or_another_valid_event(event: Event, data: st.DataObject) -> None:
    payload = bytearray(encode(event))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(encode(decode(bytes(payload)))) <= MAX_BYTES
    except EventError as e:
        assert "event" in e.what


BROKEN: dict[str, list[Any]] = {
    "id": ["018f", "018f0000-0000-4000-8000-000000000000", 7, None],  # a UUIDv4 is not a v7
    "device": ["", "Ünit", "UPPER", "a" * 33, "edge\n", "a/b"],
    "boot": ["", "0123456789ABCDEF", "0" * 15, "0" * 16 + "\n"],
    "seq": [0, -1, 1.5, "1", MAX_SEQ + 1, True],
    "time": ["2026-01-01T12:00:00Z", "2026-02-30T12:00:00.000Z", "yesterday", "2026-01-01T12:00:00.000+01:00"],
    "event_type": ["seen", "", None],
    "encounter": [0, "1"],
    "person": ["", "Jane Doe", "anna", "p-aaaaaaa", "p-aaaaaaaaa", "p-aaaaaaa1", "p-aaaaaaaa\n", 5],
    "band": ["perhaps", 0.93],
    "late": [0, "no", None],
    "model": ["", "lightcnn9", "a" * 64],
    "name": ["", "n" * 41, "line\nbreak", 'quo"te', "turn\u202eed", None],
    "v": [0, 2, "1"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BROKEN.items() for value in values])
def test_a_field_outside_its_form_is_refused_by_name(field: str, value: object) -> None:
    told = json.loads(encode(match())) | {field: value}
    with pytest.raises(EventError, match=field):
        decode(json.dumps(told).encode())
    with pytest.raises(EventError, match=field):
        encode(msgspec.structs.replace(match(), **{field: value}))


@pytest.mark.parametrize("field", ["score", "box", "embedding", "image", "text"])
def test_a_field_that_is_not_allowed_is_refused_by_name(field: str) -> None:
    told = json.loads(encode(match())) | {field: 0.93}
    with pytest.raises(EventError, match=field):
        decode(json.dumps(told).encode())


@pytest.mark.parametrize("field", [f.name for f in msgspec.structs.fields(Event) if f.required])
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    told = json.loads(encode(match()))
    del told[field]
    with pytest.raises(EventError, match=field):
        decode(json.dumps(told).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"person": None},
        {"band": None},
        {"event_type": "unknown"},
        {"event_type": "unknown", "person": None},
        {"event_type": "end", "person": None},
        {"event_type": "end", "person": None, "band": None, "name": "Jane"},
        {"event_type": "end", "live": True},
    ],
)
def test_contradictory_fields_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EventError, match=r"person|band|name|live"):
        match(**changes)


@pytest.mark.parametrize(("live", "sent"), [(True, b":true"), (False, b":false"), ("unknown", b':"unknown"')])
def test_liveness_is_sent_as_true_false_or_unknown(live: bool | Literal["unknown"], sent: bytes) -> None:
    assert b'"live"' + sent in encode(match(live=live))


@pytest.mark.parametrize("live", ["true", "yes", 1, None])
def test_liveness_in_other_words_is_refused(live: object) -> None:
    told = json.loads(encode(match())) | {"live": live}
    with pytest.raises(EventError, match="live"):
        decode(json.dumps(told).encode())


def test_an_event_of_an_older_version_without_liveness_is_still_read() -> None:
    payload = encode(match())
    assert b"live" not in payload
    assert decode(payload).live is UNSET


def test_a_payload_above_the_limit_is_refused_before_decoding() -> None:
    with pytest.raises(EventError, match="513 bytes"):
        decode(encode(match()).ljust(513))


def test_lateness_changes_nothing_else() -> None:
    event = match()
    assert msgspec.structs.replace(as_late(event), late=False) == event
    assert as_late(event).late


@given(st.text(max_size=80))
def test_any_name_becomes_one_that_may_be_sent_or_none(text: str) -> None:
    shown = display_name(text)
    if shown is not None:
        assert decode(encode(match(name=shown))).name == shown


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_uuid7_holds_its_time_and_form(unix_ms: int, random: bytes) -> None:
    read = uuid.UUID(uuid7(unix_ms, random))
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == unix_ms


def test_uuid7s_sort_by_time() -> None:
    ids = [uuid7(ms, b"\xff" * 10) if ms % 2 else uuid7(ms, b"\0" * 10) for ms in range(NOON_MS, NOON_MS + 50)]
    assert ids == sorted(ids)


def test_the_rfc_9562_example_is_met() -> None:
    # appendix A.6: rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F
    random = bytes.fromhex("0cc3" + "18c4dc0c0c07398f")
    assert uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_times_are_utc_with_milliseconds() -> None:
    assert rfc3339(NOON_MS + 7) == "2026-01-01T12:00:00.007Z"
    assert rfc3339(-5) == "1970-01-01T00:00:00.000Z"


def test_records_and_events_use_the_same_words() -> None:
    words = {f.name: f.type for f in msgspec.structs.fields(Event)}
    assert words["event_type"] == EventType
    assert words["band"] == Band | None
