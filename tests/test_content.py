"""Types of files by their content."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.picture import read_image
from edge.cameras.player import FileSource, expand
from edge.content import kind_of, kind_of_bytes, played_in
from edge.errors import SourceError
from tests.footage import path_of, still

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def encoded(suffix: str, parameters: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, still("astronaut")[:96, :64], parameters)[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_pictures_without_a_suffix_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(suffix))
    assert kind_of(path) == "picture"
    assert read_image(path).shape == (96, 64, 3)


@pytest.mark.parametrize("suffix", [".gif", ".avif"])
def test_pictures_of_other_formats_are_named_with_the_formats_that_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(suffix))
    assert kind_of(path) == "picture"
    with pytest.raises(SourceError, match="give JPEG, PNG, WebP, BMP or TIFF"):
        read_image(path)


@pytest.mark.parametrize("name", ["carphone", "bikes"])
def test_videos_without_a_suffix_are_played(tmp_path: Path, name: str) -> None:
    path = tmp_path / "video"
    path.write_bytes(path_of(name).read_bytes())
    assert kind_of(path) == "video"
    assert expand([tmp_path]) == [path]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x1aE\xdf\xa3" + bytes(40), "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"G" + bytes(187) + b"G" + bytes(187), "video"),
        (b"\0\0\0\x20ftypqt  \0\0\0\0qt  ", "video"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "picture"),
        (HEIC, "heic"),
        (b"RIFF\0\0\0\0WAVEfmt ", "other"),
        (b"%PDF-1.7", "other"),
        (b"", "other"),
    ],
)
def test_kinds_by_first_bytes(head: bytes, kind: str) -> None:
    assert kind_of_bytes(head) == kind


def test_a_stream_of_jpegs_is_a_video_and_a_photo_with_a_companion_is_not(tmp_path: Path) -> None:
    jpeg, path = encoded(".jpg"), tmp_path / "file"
    path.write_bytes(jpeg * 3)
    assert kind_of(path) == "video"
    path.write_bytes(jpeg[:2] + b"\xff\xe2\0\x06MPF\0" + jpeg[2:] + jpeg)
    assert kind_of(path) == "picture"


def test_a_photo_without_suffix_is_turned_upright_by_its_exif(tmp_path: Path) -> None:
    jpeg = encoded(".jpg")
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # the camera was turned to the right
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + orientation + bytes(4)
    exif = b"Exif\0\0" + tiff
    path = tmp_path / "IMG_0001"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    frame = FileSource([path], fps=1.0).read()
    assert frame is not None
    assert frame.image.shape == (64, 96, 3)


def test_heic_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0002.jpg"
    path.write_bytes(HEIC)
    with pytest.raises(SourceError, match=r"IMG_0002\.jpg: not a HEIC picture that can be decoded[\s\S]*JPEG"):
        FileSource([tmp_path], fps=1.0).read()


def test_ignored_files_of_a_folder_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "notes.txt").write_text("who is who")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "b.heic").write_bytes(HEIC)
    (tmp_path / "a.png").touch()
    assert [path.name for path in played_in(tmp_path)] == ["a.png", "b.heic"]
    assert "neither pictures nor videos: notes.txt" in caplog.text
    assert ".hidden" not in caplog.text


def test_noise_has_no_type(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(np.random.default_rng(3).bytes(1000))
    assert kind_of(path) == "other"
    assert kind_of(tmp_path / "missing") == "other"
