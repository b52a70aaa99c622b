"""Events, the only data about people that may leave the device: allow-listed fields, at most 512 bytes. Sans-IO.

Only the fields of `Event` can be sent: no score, no box, no embedding, no image, no free text. Every string has a
pattern that limits its length, so no event can exceed the limit; `encode` checks it too.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edge.errors import EventError
from edge.vocabulary import PersonId, Slug

MAX_BYTES = 512  # also a CHECK of the outbox table
MAX_SEQ = 2**53 - 1  # the largest integer that every JSON reader keeps exactly

# \Z and not $: `$` would accept a line break at the end
BootId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Seq = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
ModelHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]  # the first 16 hex digits of the file's SHA-256
Uuid7 = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")]
Utc = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")]
# printable, on one line, in one writing direction, and without characters that JSON must escape
_NAME_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\"\\"
_NAME_MAX = 40  # characters: at most 160 bytes of UTF-8
DisplayName = Annotated[str, Meta(pattern=rf"^[^{_NAME_FORBIDDEN}]{{1,{_NAME_MAX}}}\Z")]

_REMEDY = "docs/events.md lists every field and its form"


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fact about one encounter, identified by `(device, boot, seq)`; these and `id` stay when it is sent again."""

    v: Literal[1] = 1
    id: Uuid7
    device: Slug
    boot: BootId  # drawn at each start of the vision process
    seq: Seq  # 1, 2, 3, … within one boot
    time: Utc  # when the deciding frame was captured
    event_type: Literal["match", "unknown", "end"]
    encounter: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    person: PersonId | None
    band: Literal["certain", "likely"] | None
    late: bool = False  # set when it is sent
    model: ModelHash
    name: DisplayName | UnsetType = UNSET  # only if the owner turned names on
    # In match and unknown: whether the face was live, false: a picture of a face. Absent in events of older versions.
    live: bool | Literal["unknown"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        try:
            datetime.datetime.fromisoformat(self.time)
        except ValueError:
            raise EventError(f"event: time {self.time!r} is no such moment", _REMEDY) from None
        if self.event_type == "match" and (self.person is None or self.band is None):
            raise EventError("event: a match needs person and band", _REMEDY)
        if self.event_type == "unknown" and self.person is not None:
            raise EventError("event: person must be null in an unknown", _REMEDY)
        if self.event_type == "end" and self.live is not UNSET:
            raise EventError("event: live must be absent in an end", _REMEDY)
        if self.person is None and (self.band is not None or self.name is not UNSET):
            raise EventError("event: band and name must be absent where person is null", _REMEDY)


# errors of msgspec for invalid JSON; invalid UTF-8 and deep nesting raise Python's own errors
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """Return the event as JSON, at most 512 bytes; raises EventError naming the field that breaks the schema."""
    try:
        payload = _encoder.encode(event)
    except (UnicodeEncodeError, TypeError, OverflowError) as e:
        raise EventError(f"event: cannot be written as JSON: {e}", _REMEDY) from None
    decode(payload)  # msgspec checks types and patterns only when it reads
    return payload


def decode(payload: bytes) -> Event:
    """Return the event that `payload` states; raises EventError naming the field that breaks the schema."""
    if len(payload) > MAX_BYTES:
        raise EventError(f"event: {len(payload)} bytes, the limit is {MAX_BYTES}", _REMEDY)
    try:
        return _decoder.decode(payload)
    except UNREADABLE as e:
        raise EventError(f"event: {e}", _REMEDY) from None


def as_late(event: Event) -> Event:
    """Return the same event, same id, marked as sent late."""
    return msgspec.structs.replace(event, late=True)


def display_name(text: str) -> str | None:
    """Return a person's name for sending, without forbidden characters and cut to 40; None if nothing is left."""
    return re.sub(f"[{_NAME_FORBIDDEN}]", "", text).strip()[:_NAME_MAX] or None


def uuid7(unix_ms: int, random: bytes) -> str:
    """Return a UUIDv7 (RFC 9562, 5.7) of a Unix time in ms and 10 random bytes; times outside 48 bits are clamped."""
    if len(random) != 10:
        raise ValueError("a UUIDv7 takes 10 random bytes")
    stamp = min(max(unix_ms, 0), 2**48 - 1)
    rand_a = int.from_bytes(random[:2], "big") & 0xFFF
    rand_b = int.from_bytes(random[2:], "big") & (2**62 - 1)
    digits = f"{stamp << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def rfc3339(unix_ms: int) -> str:
    """Return a Unix time in ms as `2026-01-31T12:00:00.000Z`; a clock outside the years 1970 to 9999 is clamped."""
    stamp = min(max(unix_ms, 0), 253_402_300_799_999)  # 9999-12-31T23:59:59.999Z
    moment = datetime.datetime.fromtimestamp(stamp // 1000, tz=datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{stamp % 1000:03d}Z"
