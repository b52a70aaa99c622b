"""The records of the recording file system, one per change. Reading them needs no FUSE."""

from __future__ import annotations

from dataclasses import dataclass

MARK = ".mark:"
ROOT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One change. `node` is a file or, for names and `syncdir`, the folder that holds the name."""

    what: str  # make, write, truncate, sync, link, unlink, rename, syncdir, mark
    node: int = 0
    name: str = ""
    other: tuple[int, str] = (0, "")  # rename: where to; link: (new node, "dir" or "file")
    at: int = 0
    data: bytes = b""


def apply_write(data: bytearray, offset: int, content: bytes) -> None:
    """Apply one write in place; a gap between the end of `data` and `offset` becomes zeros."""
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(content)] = content


def apply_truncate(data: bytearray, length: int) -> None:
    """Apply one truncation in place."""
    if length < len(data):
        del data[length:]
    else:
        data.extend(bytes(length - len(data)))
