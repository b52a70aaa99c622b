"""HEIC pictures: decoded as others are, in the same confined child, and refused in words where they cannot be."""

from __future__ import annotations

import io
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras import heic
from edge.cameras.decoder import PictureDecoder
from edge.cameras.picture import decode_image
from edge.cameras.player import FileSource
from edge.errors import SourceError
from tests.footage import Image, still

pytest.importorskip("pi_heif", reason="skipped: the extra heic is not installed")
writer = pytest.importorskip("pillow_heif", reason="skipped: pillow-heif is not installed")


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    with PictureDecoder(60.0) as made:
        yield made


@pytest.fixture(scope="module")
def astronaut() -> Image:
    return np.asarray(cv2.resize(still("astronaut"), (160, 120)), np.uint8)


def written(pixels: Any, mode: str = "BGR", orientation: int = 1, **options: Any) -> bytes:
    """A HEIC file of these pixels: HEVC in the boxes that a phone writes."""
    file = writer.from_bytes(mode=mode, size=(pixels.shape[1], pixels.shape[0]), data=pixels.tobytes())
    if orientation != 1:  # the writer makes the file's own turn of it
        file.info["exif"] = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    buffer = io.BytesIO()
    file.save(buffer, quality=90, **options)
    return buffer.getvalue()


def decoded(decoder: PictureDecoder, raw: bytes) -> Image:
    return decoder.decode(np.frombuffer(raw, np.uint8), "photo")


def test_a_phones_picture_shows_what_it_showed(decoder: PictureDecoder, astronaut: Image) -> None:
    image = decoded(decoder, written(astronaut))
    assert image.shape == astronaut.shape
    assert cv2.PSNR(image, astronaut) > 30
    image[:] = 0  # the caller can overwrite what it has used


def test_a_picture_that_the_file_turns_comes_upright(decoder: PictureDecoder, astronaut: Image) -> None:
    turned = np.ascontiguousarray(np.rot90(astronaut, 1))
    image = decoded(decoder, written(turned, orientation=6))
    assert image.shape == astronaut.shape
    assert cv2.PSNR(image, astronaut) > 30


def test_a_picture_in_tiles_comes_whole(decoder: PictureDecoder, astronaut: Image) -> None:
    raw = written(astronaut, tile_size=64)  # as phones write theirs
    assert b"grid" in raw
    image = decoded(decoder, raw)
    assert image.shape == astronaut.shape
    assert cv2.PSNR(image, astronaut) > 30


def test_gray_alpha_and_more_than_eight_bits_become_colour_of_eight_bits(
    decoder: PictureDecoder, astronaut: Image
) -> None:
    gray = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)
    assert cv2.PSNR(decoded(decoder, written(gray, "L")), cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)) > 30
    assert cv2.PSNR(decoded(decoder, written(cv2.cvtColor(astronaut, cv2.COLOR_BGR2BGRA), "BGRA")), astronaut) > 30
    deep = astronaut.astype(np.uint16) << 8
    assert cv2.PSNR(decoded(decoder, written(deep, "BGR;16")), astronaut) > 30


def test_a_file_that_claims_too_many_pixels_is_refused_before_it_is_decoded(
    decoder: PictureDecoder, astronaut: Image
) -> None:
    claims = re.sub(
        rb"(?<=ispe\0\0\0\0)........", struct.pack(">II", 5_000, 5_000), written(astronaut), flags=re.DOTALL
    )
    with pytest.raises(SourceError, match="too many pixels"):
        decoded(decoder, claims)


def test_mutated_files_are_refused_or_decoded_and_the_next_one_comes(decoder: PictureDecoder, astronaut: Image) -> None:
    draw, whole = random.Random(5), written(cv2.resize(astronaut, (64, 48)))
    shown = {"decoded": 0, "refused": 0}
    for _ in range(120):
        raw = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            raw[draw.randrange(12, min(len(raw), draw.choice((500, len(raw)))))] = draw.randrange(256)
        if draw.random() < 0.2:
            del raw[draw.randrange(16, len(raw)) :]
        try:
            decoded(decoder, bytes(raw))
            shown["decoded"] += 1
        except SourceError as e:
            assert e.remedy
            shown["refused"] += 1
    assert min(shown.values()) > 0
    assert decoded(decoder, whole).shape == (48, 64, 3)


def test_a_folder_of_a_phone_is_played(tmp_path: Path, astronaut: Image) -> None:
    (tmp_path / "IMG_0001.HEIC").write_bytes(written(astronaut))
    (tmp_path / "named_wrongly.jpg").write_bytes(written(astronaut))
    source = FileSource([tmp_path], fps=30.0)
    frames = [source.read(), source.read()]
    source.close()
    assert [frame is not None and frame.image.shape for frame in frames] == [astronaut.shape] * 2


def test_without_the_extra_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "_library", lambda: None)
    assert not heic.available()
    with pytest.raises(SourceError, match="need the extra 'heic'") as caught:
        decode_image(np.frombuffer(heic.SAMPLE, np.uint8), "photo")
    assert "pip install '.[heic]'" in caught.value.remedy
    assert "heif-convert" in caught.value.remedy
