"""Records encrypted with AES-256-GCM; the name of a record's place in the store is the additional data."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import StoreError

Octets = bytes | bytearray | memoryview

_NONCE_BYTES, _TAG_BYTES = 12, 16


def encrypt(key: Octets, plain: Octets, place: bytes) -> bytes:
    """Return the nonce followed by the ciphertext; the record can be decrypted only with the same `place`."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, place)


def decrypt(key: Octets, sealed: bytes, place: bytes) -> bytearray:
    """Return a record's plaintext, which the caller overwrites; raise StoreError if it belongs to another place."""
    plain = bytearray(max(len(sealed) - _NONCE_BYTES - _TAG_BYTES, 0))
    decrypt_into(plain, key, sealed, place)
    return plain


def decrypt_into(plain: bytearray | memoryview, key: Octets, sealed: bytes, place: bytes) -> None:
    """Decrypt a record into memory of its length; raise StoreError if it belongs to another place."""
    try:
        AESGCM(key).decrypt_into(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place, plain)
    except (InvalidTag, ValueError):  # ValueError: too short to be a record, or of another length
        store, person, _, _, kind, position = place.decode().split("|")
        raise inconsistent(f"record '{kind}' {position} of '{person or store}' does not belong there") from None


def inconsistent(what: str) -> StoreError:
    """Return the error for an image whose parts do not fit together."""
    return StoreError(f"altered: {what}", "put the file back from a backup, or remove it and enrol everybody again")
