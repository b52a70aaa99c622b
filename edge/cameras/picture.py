"""Pictures from files and from memory, decoded in this process; those of others go through `edge.cameras.decoder`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import MAX_IMAGE_PIXELS
from edge.cameras.heic import decode_heic
from edge.content import kind_of_bytes
from edge.errors import SourceError

MAX_IMAGE_BYTES = 64 * 2**20  # larger files are no photos
_SCALES = (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's markers that begin a frame: SOF0 to SOF15
_SCAN = 0xDA  # SOS
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})  # a stuffed zero, TEM, RST0 to RST7: nothing follows them
# The promised formats; OpenCV would decode many more. TIFF and WebP are recognised by two places.
_KINDS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
FORMATS = "give JPEG, PNG, WebP, BMP or TIFF"


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read one picture as (H, W, 3) uint8 BGR, upright; gray and RGBA are converted; raises SourceError.

    For pictures of the project's own: it decodes in this process.
    """
    return decode_image(read_bytes(path), str(path))


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file that may be a picture; raises SourceError."""
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_IMAGE_BYTES:
            limit = MAX_IMAGE_BYTES >> 20
            raise SourceError(f"{path}: {size} bytes is no picture", f"give a picture of 1 byte to {limit} MB")
        return np.fromfile(path, np.uint8)
    except OSError as e:
        raise SourceError(f"{path}: cannot be read: {e.strerror}", "check the path and its permissions") from None


def decode_image(data: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Decode the bytes of a picture to (H, W, 3) uint8 BGR, upright; `name` is what errors call it.

    A JPEG of more than MAX_IMAGE_PIXELS comes at a half, a quarter or an eighth of its size; other pictures, and JPEGs
    whose decoder holds them whole, are refused then. Raises SourceError.
    """
    if kind_of_bytes(data[:64].tobytes()) == "heic":
        return decode_heic(data, name)
    if not _is_promised(data[:12].tobytes()):
        raise SourceError(f"{name}: not a picture that can be decoded", FORMATS)
    if _held_whole_px(data) <= MAX_IMAGE_PIXELS:
        for scale in _SCALES:
            try:
                image = cv2.imdecode(data, scale)  # applies EXIF rotation, drops alpha, expands gray
            except cv2.error as e:
                if "CV_IO_MAX_IMAGE" in e.err:
                    continue  # said after a look at its head
                raise SourceError(f"{name}: cannot be decoded: {e.err}", "save it again as JPEG or PNG") from None
            if image is None:
                raise SourceError(f"{name}: not a picture that can be decoded", FORMATS)
            return np.asarray(image, np.uint8)
    limit = f"{MAX_IMAGE_PIXELS // 10**6} megapixels"
    raise SourceError(f"{name}: has too many pixels", f"give one of at most {limit}, or a JPEG that is not progressive")


def _is_promised(head: bytes) -> bool:
    return head.startswith(_KINDS) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def _held_whole_px(data: NDArray[np.uint8]) -> int:
    """Return the pixels of a JPEG in several scans, whose decoder holds it whole at any scale; 0 for other pictures."""
    head, at = data.data, 2
    pixels = components = 0
    progressive = False
    if bytes(head[:2]) != b"\xff\xd8":
        return 0
    while at + 10 <= len(head):
        marker = head[at + 1]
        if head[at] != 0xFF or marker == 0xFF:
            at += 1  # filling
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        if marker in _FRAMES:
            pixels = int.from_bytes(head[at + 5 : at + 7]) * int.from_bytes(head[at + 7 : at + 9])
            progressive, components = marker & 3 == 2, head[at + 9]
        elif marker == _SCAN:
            return pixels if progressive or head[at + 4] < components else 0
        at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return 0
