"""The sizes that a receiver must be able to hold. Each limit follows from the first."""

from __future__ import annotations

from typing import Final

CHUNK_BYTES: Final = 32 << 10  # a piece of a photo or of an update
MAX_MESSAGE_BYTES: Final = CHUNK_BYTES + 1024  # a chunk and the fields around it; every other message is shorter
MAX_PAYLOAD_BYTES: Final = 1 + MAX_MESSAGE_BYTES + 16  # kind, sealed message, tag
