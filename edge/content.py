"""The type of a file by its first bytes, since suffixes may be wrong or missing. No picture is decoded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from edge.vocabulary import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_log = logging.getLogger(__name__)

Kind = Literal["picture", "video", "heic", "other"]

HEIC_REMEDY = (
    "install the extra: pip install '.[heic]'; or set the phone to JPEG (iPhone: Settings, Camera, Formats, Most "
    "Compatible), or convert it with heif-convert"
)

_HEAD_BYTES = 1 << 16
_MOTION_JPEG_BYTES = 4 << 20  # a first picture of a stream that is larger than that is a photo
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
_VIDEOS = (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1", b"OggS", b"0&\xb2u\x8ef\xcf\x11")
_MOVIE_BOXES = frozenset({b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})  # QuickTime without ftyp
_TS_PACKET_BYTES = 188
_SOI_AFTER_EOI = b"\xff\xd9\xff\xd8"


def kind_of(path: Path) -> Kind:
    """Return what a file is by its content; "other" also where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            kind = kind_of_bytes(head)
            if kind == "picture" and head.startswith(b"\xff\xd8") and _is_motion_jpeg(head, file.read):
                return "video"
            return kind
    except OSError:
        return "other"


def kind_of_bytes(head: bytes) -> Kind:
    """Return what begins with these bytes. A stream of JPEGs begins as a picture does."""
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head.startswith(b"\xff\xd8\xff") or head.startswith(_PICTURES):
        return "picture"
    if head.startswith(b"RIFF"):
        return {b"WEBP": "picture", b"AVI ": "video"}.get(head[8:12], "other")  # type: ignore[return-value]
    transport = head[:1] == head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G"
    return "video" if head.startswith(_VIDEOS) or head[4:8] in _MOVIE_BOXES or transport else "other"


def played_in(folder: Path) -> Iterator[Path]:
    """Yield, sorted, pictures and videos, by content or by suffix; the log names the rest, save hidden files."""
    rest = []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        if kind_of(path) != "other" or path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            yield path
        else:
            rest.append(path.name)
    if rest:
        _log.warning("%s: passed over, neither pictures nor videos: %s", folder, ", ".join(rest))


def _of_brands(head: bytes) -> Kind:
    """Distinguish pictures from films in a file of ISO boxes, by the brands in its first box."""
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4]), len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return "picture"
    return "heic" if head[8:12] in _HEIF_BRANDS or b"heic" in brands else "video"


def _is_motion_jpeg(head: bytes, read: Callable[[int], bytes]) -> bool:
    """Whether a second picture follows the first, and not one that the first names as its companion (MPF)."""
    if b"MPF\0" in head:
        return False
    return _SOI_AFTER_EOI in head + read(_MOTION_JPEG_BYTES)
