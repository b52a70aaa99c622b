"""All other messages between device and broker: the retained state, the settable keys, the consumer's acks. Sans-IO.

As with the event, fields that are not named here are neither sent nor accepted. Whether names are published is the
owner's choice in the configuration file and cannot be set over MQTT.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge.errors import EventError
from edge.events.event import MAX_SEQ, UNREADABLE, BootId, ModelHash, Utc
from edge.forms import in_words
from edge.vocabulary import MAX_PRESENCE, LivenessMode, Mode, PersonId, Reason, SilentReason, Slug, Supply, Wish

MAX_STATE_BYTES = 3584
MAX_REQUEST_BYTES = 128  # the longest valid request is an ack of 56 bytes

Link = Literal[
    "connecting",
    "connected",
    "stopped",
    "unreachable",  # no TCP connection, or the name is unknown
    "lost",  # the broker closed or stopped answering
    "tls_failed",
    "login_refused",
    "refused",  # any other refusal of the connection
    "id_in_use",  # another client with the same client id is connected, or was
    "settings",  # a file that [mqtt] names is missing, unfit or readable by others
    "event_denied",  # connected, but the broker denies the event topic
]

_Rate = Annotated[float, Meta(ge=0, le=1000)]
_Counter = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
_Celsius = Annotated[float, Meta(ge=-60, le=200)]
_Percent = Annotated[float, Meta(ge=0, le=100)]
_Watt = Annotated[float, Meta(ge=0, le=1000)]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages: frozen, and unknown fields are errors."""


class Silent(_Message, frozen=True, kw_only=True):
    """Count of one reason for a missing event."""

    count: _Counter
    last_s: _Counter  # Unix time of the last, whole seconds


class Presence(_Message, frozen=True, kw_only=True):
    """Whether one person is here, where the owner has it published."""

    here: bool  # from a match on until the end of the visit
    seen_s: _Counter | None = None  # Unix time of the last match or end; null: none that is remembered


class VisionState(_Message, frozen=True, kw_only=True):
    """The vision process's state; it waits in the outbox until the publisher sends it."""

    boot: BootId
    mode: Mode
    reason: Reason
    recognition: bool  # whether it recognises now; the wish of `recognition/set` once it is carried out
    capture_fps: _Rate
    detector_hz: _Rate
    embeddings_hz: _Rate
    frames: _Counter
    faces: _Counter
    embeddings: _Counter
    events: _Counter
    silent: dict[SilentReason, Silent] = {}  # why there was no event, since this `boot`
    held: _Counter = 0  # events in memory because the outbox cannot be written
    temperature_c: _Celsius | None = None
    battery_percent: _Percent | None = None
    supply: Supply = "unknown"
    power_w: _Watt | None = None  # drawn from the battery now
    budget_w: _Watt | None = None  # may be drawn until the wanted end
    wanted_end: Utc | None = None
    forecast_end: Utc | None = None  # when the reserve is reached as things go; with `infeasible` at the floor
    wish: Wish | None = None  # whether the wanted run time is followed; null: of a version without it
    liveness: LivenessMode | None = None  # null: of a version without it
    pictures: _Counter = 0  # encounters whose face was a picture
    # of the people whom [privacy] presence names, and of nobody else
    presence: Annotated[dict[PersonId, Presence], Meta(max_length=MAX_PRESENCE)] = {}
    model: ModelHash


class Ack(_Message, frozen=True, kw_only=True):
    """`…/ack`: the consumer has every event of `boot` up to and with `seq`."""

    boot: BootId
    seq: Annotated[int, Meta(ge=0, le=MAX_SEQ)]


class PublisherState(_Message, frozen=True, kw_only=True):
    """The publisher's state; counters since its start, `dropped` and `damaged_files` of the outbox."""

    link: Link
    depth: _Counter  # events in the outbox
    oldest: Ack | None  # events of this boot below this seq will not come again; null before the first event
    published: _Counter  # events that the broker took
    resent: _Counter  # sendings of an event that was sent before
    denied: _Counter  # events that the broker refused; they are kept and sent again
    dropped: _Counter  # events given up: too many or too old
    damaged_files: _Counter  # outbox files moved aside because they were damaged
    bytes_sent: _Counter  # topics and payloads of all that was published
    rejected_sets: _Counter  # requests refused


class State(_Message, frozen=True, kw_only=True):
    """`…/state`, retained. `vision` is null until the vision process has run once."""

    v: Literal[1] = 1
    device: Slug
    time: Utc
    vision: VisionState | None
    publisher: PublisherState


class Settings(_Message, frozen=True, kw_only=True):
    """The settings of `…/<key>/set`, each JSON `true` or `false`. The field names are the settable keys."""

    recognition: bool = True


SETTABLE = msgspec.structs.fields(Settings)
_SETTABLE_TYPES: dict[str, Any] = {f.name: f.type for f in SETTABLE}


_S = TypeVar("_S", VisionState, PublisherState)


def encode_state(state: State | VisionState | PublisherState) -> bytes:
    """Return a state as JSON; raises EventError naming the field that breaks the schema."""
    try:
        payload = msgspec.json.encode(state)
        msgspec.json.decode(payload, type=type(state))
    except (*UNREADABLE, msgspec.EncodeError, TypeError) as e:
        raise EventError(f"state: {e}", "docs/events.md lists every field and its range") from None
    if len(payload) > MAX_STATE_BYTES:
        raise EventError(f"state: {len(payload)} bytes, the limit is {MAX_STATE_BYTES}", "shorten it")
    return payload


def decode_state(payload: bytes, kind: type[_S]) -> _S:
    """Return a process's state, a VisionState or PublisherState; raises EventError."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except UNREADABLE as e:
        raise EventError(f"state: {e}", "run the vision process and the publisher from the same version") from None


def parse_set(key: str, payload: bytes) -> bool:
    """Return the value that a `…/<key>/set` asks for; raises EventError saying why it is refused."""
    if key not in _SETTABLE_TYPES:
        raise EventError(f"'{key}' cannot be set over MQTT", "settable: " + ", ".join(_SETTABLE_TYPES))
    value: bool = _request(payload, _SETTABLE_TYPES[key])
    return value


def parse_ack(payload: bytes) -> Ack:
    """Return the consumer's cumulative ack; raises EventError saying why it is refused."""
    ack: Ack = _request(payload, Ack)
    return ack


def _request(payload: bytes, form: Any) -> Any:
    if len(payload) > MAX_REQUEST_BYTES:
        raise EventError(f"{len(payload)} bytes, the limit is {MAX_REQUEST_BYTES}", "docs/events.md shows the form")
    try:
        return msgspec.json.decode(payload, type=form)
    except UNREADABLE:
        raise EventError(f"must be {in_words(form)}, as JSON", "docs/events.md shows the form") from None
