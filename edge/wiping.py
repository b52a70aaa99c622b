"""Overwriting what must not be found in memory that is freed."""

from __future__ import annotations


def wipe(raw: bytearray) -> None:
    """Overwrite a secret, or a piece of a photo, in place."""
    raw[:] = bytes(len(raw))
