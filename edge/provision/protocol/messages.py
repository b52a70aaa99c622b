"""The command set: every request, and one row for each. Unknown fields are errors, and all sizes are limited. Sans-IO.

Each request gets one reply, in order. A new command is a class and a row here, and a handler in the process that
answers it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge import forms
from edge.errors import ProvisionError
from edge.provision.protocol.fields import (
    MAX_PHOTO_BYTES,
    MAX_UPDATE_BYTES,
    Chunk,
    Host,
    Message,
    Name,
    Pem,
    PersonWord,
    Sha256,
    Small,
)
from edge.provision.protocol.limits import MAX_MESSAGE_BYTES
from edge.provision.protocol.replies import (
    Csr,
    DeviceInfo,
    Diagnostics,
    DiagnosticText,
    Done,
    Enrolled,
    People,
    Progress,
    Removed,
    Reply,
    Stored,
    Updated,
)
from edge.vocabulary import ArmedMinutes, Slug, TopicPrefix

WINDOW: Final = 8  # most requests without a reply: chunks are streamed, and a device needs no queue

# ── requests ──


class Info(Message, frozen=True, tag="info"):
    """Request the device's description and state."""


class SetName(Message, frozen=True, tag="set-name"):
    """Give the device its name in topics and events."""

    name: Slug


class SetTime(Message, frozen=True, tag="set-time"):
    """Set the device's clock."""

    unix_s: Annotated[float, Meta(ge=1_700_000_000, le=4_100_000_000)]


class SetMqtt(Message, frozen=True, tag="set-mqtt"):
    """Set the broker. None: unchanged; an empty password removes the password."""

    host: Host | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    prefix: TopicPrefix | None = None
    username: Annotated[str, Meta(max_length=256)] | None = None
    password: Annotated[str, Meta(max_length=256)] | None = None
    tls: bool | None = None
    discovery: bool | None = None
    acks: bool | None = None


class SetPrivacy(Message, frozen=True, tag="set-privacy"):
    """Set whether events may carry names."""

    publish_names: bool


class SetRunTime(Message, frozen=True, tag="set-run-time"):
    """Set how long a charge must last: 12h, "until 18:00", or "" for no wish."""

    run_time: Annotated[str, Meta(max_length=16)]


class MakeCsr(Message, frozen=True, tag="make-csr"):
    """Make a key for the broker, if there is none, and return a request for its certificate."""


class SetCertificate(Message, frozen=True, tag="set-certificate"):
    """Install the certificate of the device's key, and the certificate of the broker's authority."""

    certificate: Pem | None = None
    authority: Pem | None = None


class ListPeople(Message, frozen=True, tag="list-people"):
    """Request the enrolled people."""

    start: Small = 0


class Rename(Message, frozen=True, tag="rename"):
    """Give a person (id or name as in `people list`) another name."""

    person: PersonWord
    name: Name


class Ignore(Message, frozen=True, tag="ignore"):
    """Put a person (id or name) on the ignore list, or take the person off it."""

    person: PersonWord
    ignored: bool


class Remove(Message, frozen=True, tag="remove"):
    """Destroy the key of the templates of a person (id or name)."""

    person: PersonWord


class Renew(Message, frozen=True, tag="renew"):
    """Rotate all templates; without the store key old copies cannot be linked, and nobody enrols again."""


class Correct(Message, frozen=True, tag="correct"):
    """Correct the last unknown visit, or a wrong match. People are named by id or name.

    `person`: the person of the visit; empty: nobody who is enrolled. `instead_of`: the person of the wrong match;
    empty: the last unknown visit. `sure`: also if the visit looks like another person.
    """

    person: Annotated[str, Meta(max_length=64)] = ""
    instead_of: Annotated[str, Meta(max_length=64)] = ""
    sure: bool = False


class EnrolBegin(Message, frozen=True, tag="enrol-begin"):
    """Begin to enrol a new person or, with `to` (id or name), to extend an enrolled one. Cancels another enrolment."""

    source: Literal["camera", "photos"]
    name: Annotated[str, Meta(max_length=64)] = ""
    ignored: bool = False
    to: Annotated[str, Meta(max_length=64)] = ""
    namesake: bool = False  # a new person even if a person of this name is enrolled


class EnrolLook(Message, frozen=True, tag="enrol-look"):
    """Request the progress of the enrolment from the camera."""


class Photo(Message, frozen=True, tag="photo"):
    """One piece of a photo. The photo is examined after the last piece."""

    name: Name
    size: Annotated[int, Meta(ge=1, le=MAX_PHOTO_BYTES)]
    offset: Annotated[int, Meta(ge=0, le=MAX_PHOTO_BYTES)]
    data: Chunk


class EnrolFinish(Message, frozen=True, tag="enrol-finish"):
    """Store the person; `sure`: also if the pictures look like different people."""

    sure: bool = False


class EnrolCancel(Message, frozen=True, tag="enrol-cancel"):
    """Cancel the enrolment."""


class UpdateBegin(Message, frozen=True, tag="update-begin"):
    """Announce a model bundle; the reply has the offset from which to send it."""

    size: Annotated[int, Meta(ge=1, le=MAX_UPDATE_BYTES)]
    sha256: Sha256


class UpdateChunk(Message, frozen=True, tag="update-chunk"):
    """One piece of the announced bundle."""

    offset: Annotated[int, Meta(ge=0, le=MAX_UPDATE_BYTES)]
    data: Chunk


class UpdateApply(Message, frozen=True, tag="update-apply"):
    """Check the bundle, test it, and use it."""


class UpdateRollBack(Message, frozen=True, tag="update-roll-back"):
    """Return to the previous model."""


class ListDiagnostics(Message, frozen=True, tag="list-diagnostics"):
    """Request the contents of a diagnostics bundle."""


class ReadDiagnostics(Message, frozen=True, tag="read-diagnostics"):
    """Request one part of it."""

    name: Annotated[str, Meta(pattern=r"^[a-z-]{1,32}\Z")]


class Arm(Message, frozen=True, tag="arm"):
    """Stay ready for longer."""

    minutes: ArmedMinutes


class Disarm(Message, frozen=True, tag="disarm"):
    """Accept no further conversation until the button is pressed."""


class FactoryReset(Message, frozen=True, tag="factory-reset"):
    """Delete all people and settings; `name` must be the device's name, as a confirmation."""

    name: Slug


class Bye(Message, frozen=True, tag="bye"):
    """End the conversation; unfinished work is dropped."""


# ── commands ──

End = Literal["device", "vision"]


@dataclass(frozen=True, slots=True)
class Command:
    """One row: a request, its possible replies besides Failed, and the processes that answer it, in order.

    "device" is the provisioning process, which has the cable; a request for "vision" alone is passed on to it. `words`
    are the words of `edge-enroll` that send the request. With `said`, the command line is made from the row: the fields
    are its arguments, and `said` is printed afterwards.
    """

    request: type[Message]
    replies: tuple[type[Message], ...]
    by: tuple[End, ...]
    words: str = ""
    said: str = ""


_DEVICE: tuple[End, ...] = ("device",)
_VISION: tuple[End, ...] = ("vision",)
_BOTH = _DEVICE + _VISION

COMMANDS: tuple[Command, ...] = (
    Command(Info, (DeviceInfo,), _DEVICE, "info"),
    Command(SetName, (Done,), _DEVICE, "name", "the device is called {name}"),
    Command(SetTime, (Done,), _DEVICE, "time"),
    Command(SetMqtt, (Done,), _DEVICE, "mqtt"),
    Command(SetPrivacy, (Done,), _DEVICE, "privacy"),
    Command(SetRunTime, (Done,), _DEVICE, "run-time", "the run time is set"),
    Command(MakeCsr, (Csr,), _DEVICE, "certificate-request"),
    Command(SetCertificate, (Done,), _DEVICE, "certificate"),
    Command(ListPeople, (People,), _VISION, "people list"),
    Command(Rename, (Done,), _VISION, "people rename", "{person} is now called {name}"),
    Command(Ignore, (Done,), _VISION, "people ignore"),
    Command(Remove, (Removed,), _VISION, "people remove"),
    Command(Renew, (Done,), _VISION, "people renew", "renewed"),
    Command(Correct, (Done,), _VISION, "people correct"),
    Command(EnrolBegin, (Progress,), _VISION, "people add"),
    Command(EnrolLook, (Progress,), _VISION, "people add"),
    Command(Photo, (Stored, Progress), _BOTH, "people add"),
    Command(EnrolFinish, (Enrolled,), _VISION, "people add"),
    Command(EnrolCancel, (Done,), _VISION, "people add"),
    Command(UpdateBegin, (Stored,), _DEVICE, "update"),
    Command(UpdateChunk, (Stored,), _DEVICE, "update"),
    Command(UpdateApply, (Updated,), _BOTH, "update"),
    Command(UpdateRollBack, (Updated,), _VISION, "update"),
    Command(ListDiagnostics, (Diagnostics,), _DEVICE, "diagnostics"),
    Command(ReadDiagnostics, (DiagnosticText,), _DEVICE, "diagnostics"),
    Command(Arm, (Done,), _DEVICE, "stay-armed"),
    Command(Disarm, (Done,), _DEVICE, "disarm", "disarmed"),
    Command(FactoryReset, (Done,), _DEVICE, "factory-reset"),
    Command(Bye, (Done,), _DEVICE),
)


def one_of(kinds: Iterable[type[Message]]) -> Any:
    """Return the union of message types, for a decoder."""
    return functools.reduce(operator.or_, kinds)


_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(one_of(row.request for row in COMMANDS))
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Message) -> bytes:
    """Return the bytes of a message; ValueError if it does not fit into a sealed frame."""
    raw = _encoder.encode(message)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(raw)} bytes does not fit into a frame")
    return raw


def check(request: Message) -> None:
    """Check a message before it is sent; raises ProvisionError, which names the wrong field."""
    try:
        _requests.decode(_encoder.encode(request))
    except msgspec.ValidationError as e:
        path = forms.path_of(e)
        must = forms.in_words(forms.field_type(type(request), path))
        raise ProvisionError(f"{path or 'the request'} must be {must}", "see docs/provisioning.md") from None


def decode_request(raw: bytes | bytearray) -> Message:
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
        # The error does not contain the value, which may be a name.
        raise ProvisionError(f"not a {what} of this protocol ({type(e).__name__})", "update both ends") from None
