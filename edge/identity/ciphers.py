"""Records encrypted at their place: AES-256-GCM under a key, with the name of the place as additional data."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import StoreError

Octets = bytes | bytearray | memoryview

_NONCE_BYTES, _TAG_BYTES = 12, 16


def encrypt(key: Octets, plain: Octets, place: bytes) -> bytes:
    """Return a record, its nonce first, that opens at its place alone."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, place)


def decrypt(key: Octets, sealed: bytes, place: bytes) -> bytearray:
    """Return what a record holds, for the caller to overwrite; StoreError where it does not belong there."""
    plain = bytearray(max(len(sealed) - _NONCE_BYTES - _TAG_BYTES, 0))
    decrypt_into(plain, key, sealed, place)
    return plain


def decrypt_into(plain: bytearray | memoryview, key: Octets, sealed: bytes, place: bytes) -> None:
    """Decrypt a record into memory of its length; StoreError where it does not belong there."""
    try:
        AESGCM(key).decrypt_into(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place, plain)
    except (InvalidTag, ValueError):  # ValueError: too short to be a record, or of another length
        store, person, _, _, kind, position = place.decode().split("|")
        raise inconsistent(f"record '{kind}' {position} of '{person or store}' does not belong there") from None


def inconsistent(what: str) -> StoreError:
    """Return the error of an image that does not fit together."""
    return StoreError(f"altered: {what}", "put the file back from a backup, or remove it and enrol everybody again")
