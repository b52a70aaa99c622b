"""The store key: its source, its permissions, and how well it is protected.

A spec names it: `file:PATH` (relative to the data folder) or `credential:NAME` (systemd's LoadCredential and
LoadCredentialEncrypted). Its bytes never leave `StoreKey`; other code gets only keys derived from it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge import files
from edge.errors import StoreKeyError
from edge.identity.counter import Counter

KEY_BYTES = 32
_HEX_CHARACTERS = 2 * KEY_BYTES
_READ_LIMIT_BYTES = 4096
_MIN_DISTINCT_BYTES = 8  # in 32: random bytes have fewer once in 1e30, a zeroed or typed file always


class StoreKey:
    """A 256-bit secret that can be derived from, and neither printed, compared nor pickled.

    `counter`: stores under this key are bound to it too, so that older copies do not open.
    """

    __slots__ = ("__secret", "counter")

    def __init__(self, secret: bytes, counter: Counter | None = None) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a store key has {KEY_BYTES} bytes")
        self.__secret = bytes(secret)
        self.counter = counter

    def derive(self, purpose: str, salt: bytes) -> bytes:
        """Return the 32-byte key of one purpose and one salt (HKDF-SHA256, RFC 5869)."""
        return HKDF(SHA256(), KEY_BYTES, salt, b"edge-face store 1 " + purpose.encode()).derive(self.__secret)

    def __repr__(self) -> str:
        return "StoreKey(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a store key is never pickled or copied")


class NoCredentialError(StoreKeyError):
    """The key is a credential, and systemd passed none: the process is no service, or its unit names none."""


@dataclass(frozen=True, slots=True)
class KeyStrength:
    """How well the key of a spec is protected, for `doctor`."""

    level: Literal["WEAK", "PLATFORM"]
    reason: str
    remedy: str = ""


def strength(spec: str, *, tpm2: bool) -> KeyStrength:
    """Return how well a key spec protects against theft of the device; StoreKeyError for an unknown kind.

    `tpm2`: whether the device has one; systemd-creds then uses it by default.
    """
    kind, _ = _parse(spec)
    if kind == "file":
        return _FILE
    return _SEALED_BY_TPM2 if tpm2 else _SEALED_BY_HOST


def load_key(spec: str, data_dir: Path, environ: Mapping[str, str], counter: Counter | None = None) -> StoreKey:
    """Return the key of a spec; StoreKeyError when it is missing, malformed or readable by others."""
    kind, _ = _parse(spec)
    path = _path_of(spec, data_dir, environ)
    trusted = {os.geteuid(), 0, *_owner_of(data_dir)}
    try:
        return StoreKey(_decode(_read(path, None if kind == "credential" else trusted), path), counter)
    except FileNotFoundError:
        raise StoreKeyError(f"{path}: no such store key", _MISSING[kind]) from None
    except OSError as e:
        raise StoreKeyError(f"{path}: the store key cannot be read: {e.strerror}", "check its owner and mode") from None


def load_or_create_key(
    spec: str, data_dir: Path, store_path: Path, environ: Mapping[str, str], counter: Counter | None = None
) -> StoreKey:
    """Return the key of a spec. A key file is created first if neither it nor the store exists."""
    kind, _ = _parse(spec)
    path = _path_of(spec, data_dir, environ)
    if kind == "file" and not os.path.lexists(path):
        if store_path.exists():
            raise StoreKeyError(
                f"{path}: no such store key, and {store_path} was sealed with it",
                "put the key back from its backup; without it, remove the store and enrol everybody again",
            )
        create_key_file(path)
    return load_key(spec, data_dir, environ, counter)


def create_key_file(path: Path) -> None:
    """Write a new random key as a line of hexadecimal, 0600 and durable; StoreKeyError when the file exists."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = files.create(path)
    except FileExistsError:
        raise StoreKeyError(f"{path}: exists already", "a key is never overwritten: the store would be lost") from None
    except OSError as e:
        raise StoreKeyError(f"{path}: cannot be made: {e.strerror}", "check the folder's owner and mode") from None
    try:
        files.write_all(fd, os.urandom(KEY_BYTES).hex().encode() + b"\n")
        files.sync_folder(path.parent)
    except OSError as e:
        path.unlink(missing_ok=True)  # half a key would block the next attempt
        raise StoreKeyError(f"{path}: cannot be written: {e.strerror}", "free some space") from None


def destroy_key(spec: str, data_dir: Path) -> None:
    """Wipe and remove a key file and a link to it; a credential belongs to systemd and stays.

    StoreKeyError where that fails.
    """
    kind, value = _parse(spec)
    if kind != "file":
        return
    path = data_dir / value
    try:
        files.discard(Path(os.path.realpath(path)))
        path.unlink(missing_ok=True)  # a dangling link would block the next key
    except OSError as e:
        raise StoreKeyError(f"{path}: cannot be removed: {e.strerror}", "check its owner") from None


_FILE = KeyStrength(
    "WEAK",
    "the key file lies beside the store: anybody with the card or the disk can open the store",
    "use key = 'credential:NAME' with systemd-creds and a TPM2",
)
_SEALED_BY_TPM2 = KeyStrength("PLATFORM", "systemd holds it, sealed by this device's TPM2 unless it was sealed without")
_SEALED_BY_HOST = KeyStrength(
    "WEAK",
    "this device has no TPM2: the host key that sealed the credential lies on the same card or disk as the store",
    "seal it again on a device with a TPM2; without one, anybody with the card can open the store",
)
_MISSING: Mapping[str, str] = {
    "file": "put it back from its backup; without it, reset the device or remove the store, and enrol everybody again",
    "credential": "add LoadCredentialEncrypted= to the unit under this name; see systemd-creds(1)",
}


def _parse(spec: str) -> tuple[str, str]:
    kind, _, value = spec.partition(":")
    if kind not in _MISSING or not value or "\0" in value:
        raise StoreKeyError(f"[store] key = {spec!r} is not understood", 'write "file:PATH" or "credential:NAME"')
    return kind, value


def _path_of(spec: str, data_dir: Path, environ: Mapping[str, str]) -> Path:
    kind, value = _parse(spec)
    if kind == "file":
        return data_dir / value
    if "/" in value or value in {".", ".."}:
        raise StoreKeyError(f"[store] key = {spec!r}: a credential has a name, not a path", 'write "credential:NAME"')
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise NoCredentialError(
            f"[store] key = {spec!r}: no credential was handed to this process",
            "start it through its systemd unit, or use a key file on a workbench",
        )
    return Path(folder) / value


def _owner_of(folder: Path) -> tuple[int, ...]:
    """Return the folder's owner, who can replace its files: root may therefore use a key that this user owns."""
    try:
        return (folder.stat().st_uid,)
    except OSError:
        return ()


def _read(path: Path, trusted: set[int] | None) -> bytes:
    """Return the content. Symbolic links are followed, and the checks apply to the opened file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in its place must not block the start
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StoreKeyError(f"{path}: the store key is not a regular file", "name another in [store] key")
        # systemd protects credentials by their folder; a credential may have mode 0440 and owner root.
        if trusted is not None:
            _refuse_exposed(path, status, trusted)
        return file.read(_READ_LIMIT_BYTES)


def _refuse_exposed(path: Path, status: os.stat_result, trusted: set[int]) -> None:
    if status.st_uid not in trusted:
        raise StoreKeyError(
            f"{path}: the store key belongs to another user (uid {status.st_uid})",
            f"chown {os.geteuid()} {path}",
        )
    if status.st_mode & 0o077:
        raise StoreKeyError(
            f"{path}: the store key is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod 600 {path}; if others could read it, make a new key and enrol again",
        )


def _decode(content: bytes, path: Path) -> bytes:
    """Return 32 bytes from 32 raw bytes or 64 hexadecimal characters; the error contains only the length."""
    secret = content
    if len(content.strip()) == _HEX_CHARACTERS:
        try:
            secret = bytes.fromhex(content.decode("ascii"))
        except ValueError:  # its text would contain a character of the key
            secret = b""
    if len(secret) != KEY_BYTES:
        raise StoreKeyError(
            f"{path}: not a store key: {len(content)} bytes",
            f"it holds {KEY_BYTES} raw bytes or {_HEX_CHARACTERS} hexadecimal characters; an empty one, from before "
            "the first enrolment, may be removed",
        )
    if len(set(secret)) < _MIN_DISTINCT_BYTES:
        raise StoreKeyError(f"{path}: the store key is not random", "put it back from its backup, or make a new one")
    return secret
