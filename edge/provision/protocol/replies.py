"""Every reply. No reply has a field of bytes, so none can carry a frame, a crop, an embedding or a key. Sans-IO."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.provision.protocol.fields import MAX_UPDATE_BYTES, Message, Name, Pem, Share, Small, Text
from edge.vocabulary import PersonId

MAX_NAMES = 100  # in one reply


class Done(Message, frozen=True, tag="done"):
    """The request is carried out, durably; `note`: an optional remark."""

    note: Text = ""


class Failed(Message, frozen=True, tag="failed"):
    """The request failed and nothing has changed; `remedy`: how to continue."""

    what: Text
    remedy: Text = ""
    asks: Literal["", "taken", "different"] = ""  # the name is taken; different people are shown


class DeviceInfo(Message, frozen=True, tag="device-info"):
    """Reply to Info."""

    name: Text
    version: Text
    model: Text
    model_slot: Text
    people: Small
    camera: Text  # vision's last state: "normal", "paused", "camera_lost", …
    unix_s: float
    broker: Text
    tls: bool
    certificate: bool
    publish_names: bool
    run_time: Text
    armed_s: Small  # remaining time in which new conversations are accepted


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An enrolled person."""

    id: PersonId
    name: Name
    templates: Small
    created: Annotated[str, Meta(max_length=10)]
    ignored: bool


class People(Message, frozen=True, tag="people"):
    """Reply to ListPeople: one page, and the number of all people."""

    people: Annotated[list[Person], Meta(max_length=100)]
    total: Small


class Csr(Message, frozen=True, tag="csr"):
    """Reply to MakeCsr. The key stays on the device."""

    pem: Pem


class Progress(Message, frozen=True, tag="progress"):
    """The progress of an enrolment: reply to EnrolBegin, EnrolLook and Photo."""

    hint: Text  # "look left", "come closer", "too dark", …; for a photo: why it is refused, or empty
    quality: Share = 0.0  # of the last face
    accepted: Small = 0
    wanted: Small = 0
    poses: Annotated[list[Literal["left", "front", "right"]], Meta(max_length=3)] = []  # noqa: RUF012  # seen so far
    looks_like: Annotated[list[Text], Meta(max_length=10)] = []  # noqa: RUF012  # enrolled people for whom this one would be taken
    ready: bool = False  # more pictures would not help


class PictureOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of one picture."""

    name: Text
    refused: Annotated[list[Text], Meta(max_length=10)] = []  # msgspec copies it
    template: bool = False
    remedy: Text = ""  # of a picture that could not be read


class Enrolled(Message, frozen=True, tag="enrolled"):
    """Reply to EnrolFinish."""

    person: Person
    looks_like: Annotated[list[Text], Meta(max_length=10)] = []  # noqa: RUF012  # msgspec copies it
    pictures: Annotated[list[PictureOutcome], Meta(max_length=100)] = []  # noqa: RUF012  # msgspec copies it
    says: Annotated[list[Text], Meta(max_length=10)] = []  # noqa: RUF012  # the outcome, and what would make it better


class Removed(Message, frozen=True, tag="removed"):
    """Reply to Remove: the check of the new file."""

    person: PersonId
    generation: Small  # of the store that no longer holds the person
    key_destroyed: bool  # the new file holds neither the wrapped key nor a record of the person


class Stored(Message, frozen=True, tag="stored"):
    """Reply to UpdateBegin, UpdateChunk, and to all pieces of a photo but the last: how many bytes have arrived."""

    offset: Annotated[int, Meta(ge=0, le=MAX_UPDATE_BYTES)]


class Updated(Message, frozen=True, tag="updated"):
    """Reply to UpdateApply and UpdateRollBack."""

    model: Text
    slot: Text
    self_test: float  # least cosine to the golden embeddings
    enrol_again: Annotated[list[Name], Meta(max_length=MAX_NAMES)] = []  # noqa: RUF012  # people it cannot recognise
    enrol_again_count: Small = 0  # of all of them


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
