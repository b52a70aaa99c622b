"""Find JPEG pictures in a stream of bytes by their own structure. Sans-IO.

HTTP cameras send their pictures as `multipart/x-mixed-replace`, and many do it wrongly: no boundary before the first
picture, a boundary with two dashes too many, no length. Bytes between pictures are therefore skipped, and a picture is
parsed from marker to marker (ITU-T T.81, B.1.1). Most segments carry their length. In the coded data after a scan
header every 0xFF of the data is followed by 0x00 or a restart marker. A thumbnail lies in a segment and is skipped with
it.
"""

from __future__ import annotations

import re

MAX_JPEG_BYTES = 16 * 1024 * 1024  # a JPEG of 12 megapixels at high quality has 10 MB

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length: TEM, RST0 to RST7
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of coded data, the first that is no part of it


class JpegSplitter:
    """Takes bytes as they come and returns the pictures that are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._at = 0  # how far the picture at the start of the bytes has been followed
        self._coded = False  # whether that is within coded data
        self.skipped = 0  # bytes outside of pictures

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pictures that end in `data`, oldest first.

        One without its end marker, with the next picture's start in its coded data, gets the marker: some cameras never
        send it. One of more than `MAX_JPEG_BYTES` is dropped.
        """
        self._bytes += data
        found: list[bytes] = []
        while self._begin():
            end = self._follow()
            if end is None:
                if len(self._bytes) > MAX_JPEG_BYTES:
                    self._drop(len(_START))
                    continue
                break
            if end > 0:
                found.append(bytes(self._bytes[:end]))
            self._drop(end or len(_START), picture=end > 0)
        return found

    def rest(self) -> bytes:
        """Return a picture whose end is missing, once no more will come; nothing where its data never began."""
        rest = bytes(self._bytes + _END) if self._coded else b""
        self._bytes.clear()
        self._at, self._coded = 0, False
        return rest

    def _begin(self) -> bool:
        """Skip to the start of a picture; False where there is none yet."""
        if self._at:
            return True
        start = self._bytes.find(_START)
        if start < 0:
            self._drop(max(0, len(self._bytes) - len(_START) + 1))
            return False
        self._drop(start)
        self._at = 2
        return True

    def _drop(self, count: int, *, picture: bool = False) -> None:
        del self._bytes[:count]
        self._at, self._coded = 0, False
        self.skipped += 0 if picture else count

    def _follow(self) -> int | None:
        """Go from marker to marker; return the picture's length, 0 where it is none, None where bytes are missing."""
        data = self._bytes
        while True:
            if self._coded:
                marker = _MARKER.search(data, self._at)
                if marker is None:
                    self._at = max(self._at, len(data) - 1)
                    return None
                self._at, self._coded = marker.start(), False
            if self._at + 4 > len(data):
                kind = data[self._at + 1] if self._at + 2 <= len(data) and data[self._at] == 0xFF else None
                return self._at + 2 if kind == _EOI else None
            if data[self._at] != 0xFF:
                return 0
            kind = data[self._at + 1]
            if kind == _EOI:
                return self._at + 2
            if kind == _SOI:
                data[self._at : self._at] = _END  # the next picture: this one has no end
                return self._at + len(_END)
            if kind == 0xFF or kind in _BARE:
                self._at += 1 if kind == 0xFF else 2
                continue
            length = int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            if length < 2 or kind == 0x00:
                return 0
            self._at += 2 + length
            self._coded = kind == _SOS
