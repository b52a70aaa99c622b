"""The command set: every request and every reply, strict and capped. Sans-IO.

One request gets one reply, in their order. Every text, list and number has a limit, an unknown field is an error, and
no reply has a field of bytes: nothing here could carry a frame, a crop, an embedding or a key back over the cable.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge.errors import ProvisionError
from edge.provision.protocol.limits import CHUNK_BYTES, MAX_MESSAGE_BYTES
from edge.vocabulary import ArmedMinutes, PersonId, Slug, TopicPrefix

MAX_PHOTO_BYTES: Final = 16 << 20  # a phone's largest JPEG
MAX_UPDATE_BYTES: Final = 64 << 20
WINDOW: Final = 8  # requests that a host may have under way: chunks stream, and a device needs no queue

Text = Annotated[str, Meta(max_length=1000)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,253}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Share = Annotated[float, Meta(ge=0, le=1)]
Small = Annotated[int, Meta(ge=0, le=1_000_000)]
Pem = Annotated[str, Meta(pattern=r"^-----BEGIN ", max_length=16_000)]
Chunk = Annotated[memoryview, Meta(max_length=CHUNK_BYTES)]  # into the received message, which is wiped


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="t"):
    """Base of all messages."""


# ── requests ──


class Info(Message, frozen=True, tag="info"):
    """Ask what this device is, and how it is."""


class SetName(Message, frozen=True, tag="set-name"):
    """Give the device its name in topics and events."""

    name: Slug


class SetTime(Message, frozen=True, tag="set-time"):
    """Tell the device the time."""

    unix_s: Annotated[float, Meta(ge=1_700_000_000, le=4_100_000_000)]


class SetMqtt(Message, frozen=True, tag="set-mqtt"):
    """Name the broker. None: as it was; an empty password takes it away."""

    host: Host | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    prefix: TopicPrefix | None = None
    username: Annotated[str, Meta(max_length=256)] | None = None
    password: Annotated[str, Meta(max_length=256)] | None = None
    tls: bool | None = None
    discovery: bool | None = None
    acks: bool | None = None


class SetPrivacy(Message, frozen=True, tag="set-privacy"):
    """Say whether events may carry names."""

    publish_names: bool


class SetRunTime(Message, frozen=True, tag="set-run-time"):
    """Say how long a charge must last: "12h", "until 18:00", or "" for no wish."""

    run_time: Annotated[str, Meta(max_length=16)]


class MakeCsr(Message, frozen=True, tag="make-csr"):
    """Make a key for the broker, if there is none, and ask for its certificate."""


class SetCertificate(Message, frozen=True, tag="set-certificate"):
    """Hand in the certificate of the device's key, and the authority of the broker."""

    certificate: Pem | None = None
    authority: Pem | None = None


class ListPeople(Message, frozen=True, tag="list-people"):
    """Ask who is enrolled."""

    start: Small = 0


class Rename(Message, frozen=True, tag="rename"):
    """Give a person another name."""

    person: PersonId
    name: Name


class Ignore(Message, frozen=True, tag="ignore"):
    """Put a person on the ignore list, or take the person off it."""

    person: PersonId
    ignored: bool


class Remove(Message, frozen=True, tag="remove"):
    """Destroy the key of a person's templates."""

    person: PersonId


class Renew(Message, frozen=True, tag="renew"):
    """Rotate all templates anew."""


class EnrolBegin(Message, frozen=True, tag="enrol-begin"):
    """Begin to enrol; what was begun before is forgotten."""

    name: Name
    source: Literal["camera", "photos"]
    ignored: bool = False


class EnrolLook(Message, frozen=True, tag="enrol-look"):
    """Ask how the enrolment from the camera goes."""


class Photo(Message, frozen=True, tag="photo"):
    """One piece of one photo; it is looked at when the last piece has come."""

    name: Name
    size: Annotated[int, Meta(ge=1, le=MAX_PHOTO_BYTES)]
    offset: Annotated[int, Meta(ge=0, le=MAX_PHOTO_BYTES)]
    data: Chunk


class EnrolFinish(Message, frozen=True, tag="enrol-finish"):
    """Keep the person."""


class EnrolCancel(Message, frozen=True, tag="enrol-cancel"):
    """Forget what was begun."""


class UpdateBegin(Message, frozen=True, tag="update-begin"):
    """Announce a model bundle; the reply says from where on to send it."""

    size: Annotated[int, Meta(ge=1, le=MAX_UPDATE_BYTES)]
    sha256: Sha256


class UpdateChunk(Message, frozen=True, tag="update-chunk"):
    """One piece of the announced bundle."""

    offset: Annotated[int, Meta(ge=0, le=MAX_UPDATE_BYTES)]
    data: Chunk


class UpdateApply(Message, frozen=True, tag="update-apply"):
    """Check the bundle, test it, and use it."""


class UpdateRollBack(Message, frozen=True, tag="update-roll-back"):
    """Use the model before."""


class ListDiagnostics(Message, frozen=True, tag="list-diagnostics"):
    """Ask what a diagnostics bundle would hold."""


class ReadDiagnostics(Message, frozen=True, tag="read-diagnostics"):
    """Send one part of it."""

    name: Annotated[str, Meta(pattern=r"^[a-z-]{1,32}\Z")]


class Arm(Message, frozen=True, tag="arm"):
    """Stay ready for longer."""

    minutes: ArmedMinutes


class Disarm(Message, frozen=True, tag="disarm"):
    """Take no further conversation until armed again."""


class FactoryReset(Message, frozen=True, tag="factory-reset"):
    """Forget everybody and everything that was set; `name` is the device's, so that it is meant."""

    name: Slug


class Bye(Message, frozen=True, tag="bye"):
    """End the conversation; what was begun and not finished is forgotten."""


# fmt: off
Request = (
    Info | SetName | SetTime | SetMqtt | SetPrivacy | SetRunTime | MakeCsr | SetCertificate | ListPeople | Rename
    | Ignore | Remove | Renew | EnrolBegin | EnrolLook | Photo | EnrolFinish | EnrolCancel | UpdateBegin | UpdateChunk
    | UpdateApply | UpdateRollBack | ListDiagnostics | ReadDiagnostics | Arm | Disarm | FactoryReset | Bye
)
# fmt: on


# ── replies ──


class Done(Message, frozen=True, tag="done"):
    """It is done, durably; `note` says more where there is more."""

    note: Text = ""


class Failed(Message, frozen=True, tag="failed"):
    """It is not done, nothing has changed, and this is the way out."""

    what: Text
    remedy: Text = ""


class DeviceInfo(Message, frozen=True, tag="device-info"):
    """Reply to Info."""

    name: Text
    version: Text
    model: Text
    model_slot: Text
    people: Small
    camera: Text  # what vision last said: "normal", "paused", "camera_lost", …
    unix_s: float
    broker: Text
    tls: bool
    certificate: bool
    publish_names: bool
    run_time: Text
    armed_s: Small  # how long new conversations are still taken


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody enrolled."""

    id: PersonId
    name: Name
    templates: Small
    created: Annotated[str, Meta(max_length=10)]
    ignored: bool


class People(Message, frozen=True, tag="people"):
    """Reply to ListPeople: a page, and how many there are."""

    people: Annotated[list[Person], Meta(max_length=100)]
    total: Small


class Csr(Message, frozen=True, tag="csr"):
    """Reply to MakeCsr; the key stays."""

    pem: Pem


class Progress(Message, frozen=True, tag="progress"):
    """How an enrolment goes: reply to EnrolBegin, EnrolLook and Photo."""

    hint: Text  # "look left", "come closer", "too dark", …; for a photo: why it is refused, or empty
    quality: Share = 0.0  # of the last face
    accepted: Small = 0
    wanted: Small = 0
    poses: Annotated[list[Literal["left", "front", "right"]], Meta(max_length=3)] = []  # seen so far
    looks_like: Annotated[list[Text], Meta(max_length=10)] = []  # enrolled people for whom this one would be taken
    ready: bool = False  # more would not help


class PictureOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of a picture."""

    name: Text
    refused: Annotated[list[Text], Meta(max_length=10)] = []
    template: bool = False


class Enrolled(Message, frozen=True, tag="enrolled"):
    """Reply to EnrolFinish."""

    person: Person
    looks_like: Annotated[list[Text], Meta(max_length=10)] = []
    pictures: Annotated[list[PictureOutcome], Meta(max_length=100)] = []


class Removed(Message, frozen=True, tag="removed"):
    """Reply to Remove: what was checked after the file had been replaced."""

    person: PersonId
    generation: Small  # of the store that no longer holds the person
    key_destroyed: bool  # neither the wrapped key nor a record of the person stands in the new file


class Stored(Message, frozen=True, tag="stored"):
    """Reply to UpdateBegin, UpdateChunk, and to all pieces of a photo but the last: so much of it is there."""

    offset: Annotated[int, Meta(ge=0, le=MAX_UPDATE_BYTES)]


class Updated(Message, frozen=True, tag="updated"):
    """Reply to UpdateApply and UpdateRollBack."""

    model: Text
    slot: Text
    self_test: float  # least cosine to the golden embeddings


class Diagnostic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part of a diagnostics bundle."""

    name: Text
    holds: Text
    size: Small


class Diagnostics(Message, frozen=True, tag="diagnostics"):
    """Reply to ListDiagnostics."""

    parts: Annotated[list[Diagnostic], Meta(max_length=20)]


class DiagnosticText(Message, frozen=True, tag="diagnostic-text"):
    """Reply to ReadDiagnostics."""

    text: Annotated[str, Meta(max_length=16_000)]


# fmt: off
Reply = (
    Done | Failed | DeviceInfo | People | Csr | Progress | Enrolled | Removed | Stored | Updated | Diagnostics
    | DiagnosticText
)
# fmt: on

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """Return a message as it is sealed; ValueError where it is longer than a sealed frame."""
    raw = _encoder.encode(message)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(raw)} bytes does not fit into a frame")
    return raw


def check(request: Request) -> None:
    """Refuse what the other end would refuse, and say which field; for the end where it was typed: ProvisionError."""
    try:
        _requests.decode(_encoder.encode(request))
    except msgspec.ValidationError as e:
        what, _, where = str(e).partition(" - at `$.")
        raise ProvisionError(f"{where.rstrip('`') or 'the request'}: {what}", "see docs/provisioning.md") from None


def decode_request(raw: bytes | bytearray) -> Request:
    """Return the request; its chunks point into `raw`. Raises ProvisionError for anything else."""
    return _decode(_requests, raw, "request")


def decode_reply(raw: bytes | bytearray) -> Reply:
    """Return the reply; raises ProvisionError for anything else."""
    return _decode(_replies, raw, "reply")


_M = TypeVar("_M")


def _decode(decoder: msgspec.msgpack.Decoder[_M], raw: bytes | bytearray, what: str) -> _M:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        # What was wrong is told without the value: it may be a name.
        raise ProvisionError(f"not a {what} of this protocol ({type(e).__name__})", "update both ends") from None
