"""A model bundle that is being sent: its pieces are on the disk, so the next run continues after a pulled cable."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from edge import files
from edge.errors import ProvisionError

_MAX_META_BYTES = 1024
_SPARE_BYTES = 32 << 20  # of the medium stays free: the bundle is unpacked beside itself


class _Announced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class Staging:
    """The one bundle that is being sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._meta = folder / "update.json"
        self.path = folder / "update.bundle"

    def begin(self, size: int, sha256: str) -> int:
        """Announce a bundle; returns how many of its bytes have arrived. Another bundle is deleted."""
        announced = _Announced(size, sha256)
        if self._announced() == announced:
            return min(self.size(), size)
        self.discard()
        free = os.statvfs(self._folder)
        if free.f_bavail * free.f_frsize < 2 * size + _SPARE_BYTES:
            raise ProvisionError("not enough free space for the update", "free some space; nothing was changed")
        files.replace(self._meta, msgspec.json.encode(announced))
        os.close(files.create(self.path, shared=True))  # vision reads it
        return 0

    def write(self, offset: int, data: memoryview) -> int:
        """Add a piece; returns how many bytes have arrived. Pieces come in order."""
        announced = self._announced()
        have = self.size()
        if announced is None or offset != have or offset + len(data) > announced.size:
            raise ProvisionError(f"a piece at {offset}, but {have} bytes are there", "begin the update again")
        with self.path.open("ab") as file:
            file.write(data)
        return have + len(data)

    def check(self) -> None:
        """Compare the complete bundle with its announcement; on ProvisionError it is deleted."""
        announced = self._announced()
        if announced is None or self.size() < announced.size:
            raise ProvisionError("the update is not complete", "send the rest of it")
        if hashlib.sha256(self.path.read_bytes()).hexdigest() != announced.sha256:
            self.discard()
            raise ProvisionError("the update arrived damaged", "send it again")

    def discard(self) -> None:
        """Delete the received part."""
        self._meta.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def size(self) -> int:
        """How many bytes have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _announced(self) -> _Announced | None:
        try:
            return msgspec.json.decode(files.read(self._meta, _MAX_META_BYTES), type=_Announced)
        except (OSError, msgspec.MsgspecError):
            return None
