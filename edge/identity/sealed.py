"""The sealed file: a clear header, then one AES-256-GCM ciphertext of everything else. Pure: bytes in, bytes out.

    magic · version · body length · generation · store id · nonce · key check · CRC-32 of the header ‖ body and its tag

The header is the additional data of the seal, so a change of any byte is detected. Three values in it serve only the
error message: the CRC distinguishes a damaged header from another key, the key check another key from a damaged body,
the length a truncated file from an altered one. They have no other use. Every later version keeps this header.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import StoreError, StoreKeyError
from edge.identity.keys import StoreKey

VERSION = 1
STORE_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_CHECK_BYTES = 12

_MAGIC = b"EDGEFACE"
_FIELDS = struct.Struct(f">{len(_MAGIC)}sIQQ{STORE_ID_BYTES}s{NONCE_BYTES}s{KEY_CHECK_BYTES}s")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size

_RESTORE = "put the file back from a backup, or remove it and enrol everybody again"


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of the file."""

    length: int  # bytes of the body, its tag included
    generation: int  # 1, 2, …: one more with each write
    store_id: bytes  # 16 random bytes, made with the store
    nonce: bytes  # 12 random bytes, made with each write
    key_check: bytes  # 12 bytes derived from store key and store id

    def encode(self) -> bytes:
        """Return the 72 bytes at the head of the file."""
        fields = (self.length, self.generation, self.store_id, self.nonce, self.key_check)
        packed = _FIELDS.pack(_MAGIC, VERSION, *fields)
        return packed + _CRC.pack(zlib.crc32(packed))

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Return the header of a file; StoreError when it is none, damaged, or of a later version."""
        if not raw.startswith(_MAGIC[: len(raw)]):
            raise StoreError("not a template store", "check the path, or " + _RESTORE)
        if len(raw) < HEADER_BYTES:
            raise StoreError(f"truncated within its header, at {len(raw)} bytes", _RESTORE)
        packed, crc = raw[: _FIELDS.size], raw[_FIELDS.size : HEADER_BYTES]
        if _CRC.pack(zlib.crc32(packed)) != crc:
            raise StoreError("damaged: its header does not match its checksum", _RESTORE)
        _, version, *fields = _FIELDS.unpack(packed)
        if version != VERSION:
            raise StoreError(
                f"written in format {version}; this program reads format {VERSION}",
                "update this program, or put a file of its own version back",
            )
        return cls(*fields)


def seal(image: bytes, key: StoreKey, store_id: bytes, generation: int, nonce: bytes) -> bytes:
    """Return the whole file; `nonce` is 12 fresh random bytes."""
    header = Header(len(image) + TAG_BYTES, generation, store_id, nonce, _key_check(key, store_id)).encode()
    return header + AESGCM(key.derive("seal", store_id)).encrypt(nonce, image, header)


def unseal(raw: bytes, key: StoreKey) -> tuple[Header, bytes]:
    """Return header and image; StoreKeyError for another key, StoreError for any byte that is not as written."""
    header = Header.decode(raw)
    body = memoryview(raw)[HEADER_BYTES:]
    if not hmac.compare_digest(header.key_check, _key_check(key, header.store_id)):
        raise StoreKeyError(
            "sealed with another key than the one given",
            "check [store] key and the unit's credential; the key that was there when the store was made is needed",
        )
    if len(body) != header.length:
        fault = "truncated" if len(body) < header.length else "longer than it was written"
        raise StoreError(f"{fault}: {len(body)} bytes follow the header instead of {header.length}", _RESTORE)
    try:
        return header, AESGCM(key.derive("seal", header.store_id)).decrypt(header.nonce, body, raw[:HEADER_BYTES])
    except InvalidTag:
        raise StoreError("damaged or tampered with: the key is right, the content is not", _RESTORE) from None


def _key_check(key: StoreKey, store_id: bytes) -> bytes:
    return key.derive("key check", store_id)[:KEY_CHECK_BYTES]
