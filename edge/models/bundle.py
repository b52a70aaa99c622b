"""A model update as one signed file: a manifest and the files that it names.

Layout: the line `EDGE MODEL 1`, 64 bytes of Ed25519 signature, then MessagePack. The signature covers the line and the
MessagePack. Nothing is decoded before the signature is verified. The release number identifies older bundles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from edge.errors import ModelError
from edge.models.manifest import EmbedderEntry, LivenessEntry, Manifest, load_manifest

MANIFEST_NAME: Final = "manifest.json"
CALIBRATION_SUFFIX: Final = "-calibration.json"
_MAGIC = b"EDGE MODEL 1\n"
_SIGNATURE_BYTES = 64
_REMEDY = "take a bundle that is signed for this device"

FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # no folder, no hidden file


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The signed content."""

    files: Annotated[dict[FileName, bytes], Meta(max_length=16)]
    release: Annotated[int, Meta(ge=0, lt=1 << 31)] = 0  # 0: made before release numbers existed


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle with a verified signature."""

    files: Mapping[str, bytes]
    release: int
    raw: bytes = field(repr=False)  # the whole bundle, for the check at each start


def unpack(raw: bytes, public_key: str) -> Bundle:
    """Return the content of a bundle that `public_key` (64 hexadecimal digits) has signed; raises ModelError."""
    if not public_key:
        raise ModelError("this device takes no model updates", "set [provision] update_key to the signer's public key")
    start = len(_MAGIC) + _SIGNATURE_BYTES
    if not raw.startswith(_MAGIC) or len(raw) <= start:
        raise ModelError("not a model bundle", "make one with: python -m tools.sign_model")
    body = raw[start:]
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(raw[len(_MAGIC) : start], _MAGIC + body)
    except InvalidSignature:
        raise ModelError("the bundle is not signed with the key that this device trusts", _REMEDY) from None
    try:
        content = msgspec.msgpack.decode(body, type=Content)
    except msgspec.MsgspecError as e:
        raise ModelError(f"the bundle is signed, but cannot be read: {e}", _REMEDY) from None
    if MANIFEST_NAME not in content.files:
        raise ModelError("the bundle has no manifest", _REMEDY)
    return Bundle(content.files, content.release, raw)


def pack(manifest: Path, private_key: Ed25519PrivateKey, release: int = 0) -> bytes:
    """Return a signed bundle of a manifest, the files beside it that it names, and its calibrations.

    `release`: one more than that of the previous bundle; a device that has used a later one refuses it.
    """
    names = [name for name in _names(load_manifest(manifest)) if (manifest.parent / name).is_file()]
    content = {name: (manifest.parent / name).read_bytes() for name in names}
    body = msgspec.msgpack.encode(Content({MANIFEST_NAME: manifest.read_bytes(), **content}, release))
    return _MAGIC + private_key.sign(_MAGIC + body) + body


def _names(manifest: Manifest) -> list[str]:
    names: list[str] = []
    for entry in manifest.models:
        own = [file.path for file in entry.own_files]
        names += own
        if own and isinstance(entry, EmbedderEntry | LivenessEntry):
            names.append(f"{entry.name}{CALIBRATION_SUFFIX}")
    return names
