"""Frames on a byte stream: COBS(payload + CRC-32) and a zero byte. Sans-IO: bytes in, payloads out.

Zero bytes stand only between frames, so a receiver that joins late or receives noise finds the next frame. The checksum
detects accidental changes; the session above it detects deliberate ones.
"""

from __future__ import annotations

import zlib
from enum import Enum

from cobs import cobs

from edge.provision.protocol.limits import MAX_PAYLOAD_BYTES

_CRC_BYTES = 4
_DELIMITER = 0
_MAX_STUFFED_BYTES = cobs.max_encoded_length(MAX_PAYLOAD_BYTES + _CRC_BYTES)


class Damage(Enum):
    """Why bytes are not a valid frame."""

    TOO_LONG = "longer than a frame may be"
    STUFFING = "not COBS"
    CHECKSUM = "its checksum is wrong"


def encode(payload: bytes) -> bytes:
    """Return the bytes that carry a payload of 1..MAX_PAYLOAD_BYTES; ValueError for another length."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload has 1 to {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    checksum = zlib.crc32(payload).to_bytes(_CRC_BYTES, "little")
    stuffed: bytes = cobs.encode(payload + checksum)
    return stuffed + b"\0"


class Decoder:
    """Turns bytes, in pieces of any size, into payloads. Holds at most one frame."""

    def __init__(self) -> None:
        self._held = bytearray()  # the first bytes of a frame
        self._overlong = False  # whether the rest of a rejected frame is being skipped

    def feed(self, data: bytes) -> list[bytes | Damage]:
        """Return the completed payloads, and the fault of each damaged frame. Empty frames are ignored."""
        found: list[bytes | Damage] = []
        start = 0
        while (end := data.find(_DELIMITER, start)) >= 0:
            self._hold(data[start:end])
            found += self._finish()
            start = end + 1
        self._hold(data[start:])
        return found

    def _hold(self, piece: bytes) -> None:
        if self._overlong or len(self._held) + len(piece) > _MAX_STUFFED_BYTES:
            self._overlong = True
            self._held.clear()
        else:
            self._held += piece

    def _finish(self) -> list[bytes | Damage]:
        stuffed, overlong = bytes(self._held), self._overlong
        self._held.clear()
        self._overlong = False
        if overlong:
            return [Damage.TOO_LONG]
        return [_unstuff(stuffed)] if stuffed else []


def _unstuff(stuffed: bytes) -> bytes | Damage:
    try:
        content: bytes = cobs.decode(stuffed)
    except cobs.DecodeError:
        return Damage.STUFFING
    payload, checksum = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
    if not payload or zlib.crc32(payload).to_bytes(_CRC_BYTES, "little") != checksum:
        return Damage.CHECKSUM
    return payload
