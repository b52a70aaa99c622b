"""JPEG pictures in a byte stream are found complete, with any bytes between them and in any chunks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras import jpegs
from edge.cameras.jpegs import JpegSplitter
from tests.footage import video

PICTURES = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in video("carphone")[:3]]
THUMBNAIL = b"\xff\xe1" + (2 + len(PICTURES[1])).to_bytes(2, "big") + PICTURES[1]  # in an APP1 segment, as EXIF has it
WITH_THUMBNAIL = PICTURES[0][:2] + THUMBNAIL + PICTURES[0][2:]


def split(data: bytes, step: int) -> list[bytes]:
    splitter = JpegSplitter()
    return [found for at in range(0, len(data), step) for found in splitter.feed(data[at : at + step])]


@pytest.mark.parametrize("step", [1, 7, 1000, 1_000_000])
@pytest.mark.parametrize(
    "between",
    [b"", b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n", b"----b\nX: \xff\xd8\n\n", b"\x00" * 100],
)
def test_pictures_are_complete_with_any_bytes_between_them(between: bytes, step: int) -> None:
    stream = between.join([b"", *PICTURES, b""])
    assert split(stream, step) == PICTURES


@pytest.mark.parametrize("step", [1, 4096])
def test_a_thumbnail_is_part_of_its_picture(step: int) -> None:
    assert len(PICTURES[1]) < 65000
    assert split(WITH_THUMBNAIL + PICTURES[2], step) == [WITH_THUMBNAIL, PICTURES[2]]


def test_a_truncated_picture_does_not_lose_the_next_one() -> None:
    half = PICTURES[0][: len(PICTURES[0]) // 2].rstrip(b"\xff")
    assert split(half + PICTURES[1] + PICTURES[2], 512) == [half + b"\xff\xd9", PICTURES[1], PICTURES[2]]


def test_a_last_picture_without_end_marker_is_returned_at_the_end_of_the_stream() -> None:
    splitter = JpegSplitter()
    assert splitter.feed(PICTURES[0][:-2]) == []
    assert splitter.rest() == PICTURES[0]
    assert splitter.rest() == b""


def test_a_picture_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpegs, "MAX_JPEG_BYTES", 10_000)
    splitter, endless = JpegSplitter(), PICTURES[0][:-2]
    for _ in range(100):
        assert splitter.feed(endless[:2] + b"\xff\xe0\xff\xff" + bytes(5000)) == []
        assert len(splitter._bytes) <= 70_000
    assert splitter.feed(bytes(70_000) + PICTURES[1]) == [PICTURES[1]]


@given(st.lists(st.binary(max_size=50) | st.sampled_from([b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda\x00\x02"])))
def test_no_bytes_raise_and_what_is_found_begins_as_a_picture(parts: list[bytes]) -> None:
    splitter = JpegSplitter()
    for part in parts:
        assert all(found.startswith(b"\xff\xd8\xff") for found in splitter.feed(part))
    assert not splitter._bytes or np.frombuffer(splitter.rest() or b"\xff", np.uint8)[0] == 0xFF
