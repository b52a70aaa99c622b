"""Types of the fields of messages, each with its limit. Sans-IO."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edge.provision.protocol.limits import CHUNK_BYTES
from edge.vocabulary import form

MAX_PHOTO_BYTES: Final = 16 << 20  # a phone's largest JPEG
MAX_UPDATE_BYTES: Final = 64 << 20

Text = Annotated[str, Meta(max_length=1000)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
PersonWord = Annotated[
    str, form(r"^[^\x00-\x1f\x7f-\x9f]{1,64}\Z", "the id of a person, or a name that one person has")
]
Host = Annotated[
    str,
    form(
        r"^([A-Za-z0-9._-]{1,253}|[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f.]{0,15}){2,8})\Z",
        "the broker's name or address alone, without mqtt:// and without a port",
    ),
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Share = Annotated[float, Meta(ge=0, le=1)]
Small = Annotated[int, Meta(ge=0, le=1_000_000)]
Pem = Annotated[str, form(r"^-----BEGIN ", "PEM text of at most 16,000 characters", max_length=16_000)]
Chunk = Annotated[memoryview, Meta(max_length=CHUNK_BYTES)]  # into the received message, which is wiped


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="t"):
    """Base of all messages."""
