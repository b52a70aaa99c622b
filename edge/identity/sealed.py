"""The sealed file: a clear header, then one AES-256-GCM ciphertext of everything else. Pure: bytes in, bytes out.

    magic · version · body length · generation · store id · nonce · key check · CRC-32 of the header ‖ body and its tag

In version 2 the body begins with its length in 2 bytes and a secret that is bound to a counter (`counter.py`): the seal
then needs this secret beside the store key. Version 1 has no such part.

The header is the additional data of the seal, so a change of any byte is detected. Three values in it serve only the
error message: the CRC distinguishes a damaged header from another key, the key check another key from a damaged body,
the length a truncated file from an altered one. They have no other use. Every later version keeps this header.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import StoreError, StoreKeyError
from edge.identity.keys import StoreKey

VERSION, BOUND_VERSION = 1, 2
STORE_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_CHECK_BYTES = 12

_MAGIC = b"EDGEFACE"
_FIELDS = struct.Struct(f">{len(_MAGIC)}sIQQ{STORE_ID_BYTES}s{NONCE_BYTES}s{KEY_CHECK_BYTES}s")
_CRC = struct.Struct(">I")
_BOUND_LENGTH = struct.Struct(">H")
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
    version: int = VERSION

    def encode(self) -> bytes:
        """Return the 72 bytes at the head of the file."""
        fields = (self.length, self.generation, self.store_id, self.nonce, self.key_check)
        packed = _FIELDS.pack(_MAGIC, self.version, *fields)
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
        if version not in {VERSION, BOUND_VERSION}:
            raise StoreError(
                f"written in format {version}; this program reads the formats up to {BOUND_VERSION}",
                "update this program, or put a file of its own version back",
            )
        length, generation, store_id, nonce, key_check = fields
        return cls(length, generation, store_id, nonce, key_check, version)


@dataclass(frozen=True, slots=True)
class Bound:
    """A secret that the seal needs beside the store key."""

    secret: bytes = field(repr=False)
    stored: bytes  # the secret as the file holds it: only the TPM2 that bound it reveals it


def seal(
    image: bytes, key: StoreKey, store_id: bytes, generation: int, nonce: bytes, *, bound: Bound | None = None
) -> bytes:
    """Return the whole file; `nonce` is 12 fresh random bytes."""
    part = b"" if bound is None else _BOUND_LENGTH.pack(len(bound.stored)) + bound.stored
    version = VERSION if bound is None else BOUND_VERSION
    length = len(part) + len(image) + TAG_BYTES
    header = Header(length, generation, store_id, nonce, _key_check(key, store_id), version).encode()
    sealing = _sealing_key(key, store_id, b"" if bound is None else bound.secret)
    return header + part + AESGCM(sealing).encrypt(nonce, image, header + part)


def bound_part(raw: bytes) -> bytes | None:
    """Return the secret as the file holds it, None in version 1; StoreError for a damaged file."""
    if Header.decode(raw).version == VERSION:
        return None
    begin = HEADER_BYTES + _BOUND_LENGTH.size
    length: int = _BOUND_LENGTH.unpack_from(raw, HEADER_BYTES)[0] if len(raw) >= begin else 0
    if not length or len(raw) < begin + length:
        raise StoreError(f"truncated within what is bound to the TPM2, at {len(raw)} bytes", _RESTORE)
    return raw[begin : begin + length]


def unseal(raw: bytes, key: StoreKey, secret: bytes = b"") -> tuple[Header, bytes]:
    """Return header and image; StoreKeyError for another key, StoreError for any byte that is not as written.

    `secret`: what was bound, revealed.
    """
    header = Header.decode(raw)
    if not hmac.compare_digest(header.key_check, _key_check(key, header.store_id)):
        raise StoreKeyError(
            "sealed with another key than the one given",
            "check [store] key and the unit's credential; the key that was there when the store was made is needed",
        )
    length = len(raw) - HEADER_BYTES
    if length != header.length:
        fault = "truncated" if length < header.length else "longer than it was written"
        raise StoreError(f"{fault}: {length} bytes follow the header instead of {header.length}", _RESTORE)
    part = bound_part(raw)
    begin = HEADER_BYTES + (0 if part is None else _BOUND_LENGTH.size + len(part))
    try:
        sealing = _sealing_key(key, header.store_id, secret)
        return header, AESGCM(sealing).decrypt(header.nonce, memoryview(raw)[begin:], raw[:begin])
    except InvalidTag:
        raise StoreError("damaged or tampered with: the key is right, the content is not", _RESTORE) from None


def _sealing_key(key: StoreKey, store_id: bytes, secret: bytes) -> bytes:
    return key.derive("seal", store_id) if not secret else key.derive("bound seal", store_id + secret)


def _key_check(key: StoreKey, store_id: bytes) -> bytes:
    return key.derive("key check", store_id)[:KEY_CHECK_BYTES]
