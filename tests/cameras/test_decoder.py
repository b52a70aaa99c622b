"""Foreign pictures are decoded in a child process without secrets and rights, with limits of memory and time."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.decoder import PictureDecoder
from edge.cameras.picture import decode_image
from edge.errors import SourceError
from tests.footage import Image, still


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    with PictureDecoder() as made:
        yield made


def encoded(suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, cv2.resize(still("astronaut"), (160, 120)), options)[1].tobytes()


def decoded(decoder: PictureDecoder, raw: bytes) -> Image:
    return decoder.decode(np.frombuffer(raw, np.uint8), "photo")


def hidden_head(height: int, width: int) -> bytes:
    """A progressive JPEG whose frame header follows a marker that has no length."""
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    scan = b"\xff\xda" + struct.pack(">HB", 12, 3) + bytes([1, 0, 2, 0, 3, 0, 0, 0, 0])
    return b"\xff\xd8\xff\x01\xff\xc2" + frame + scan + bytes(200)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_supported_formats_are_decoded_as_in_this_process(decoder: PictureDecoder, suffix: str) -> None:
    raw = encoded(suffix)
    image = decoded(decoder, raw)
    np.testing.assert_array_equal(image, decode_image(np.frombuffer(raw, np.uint8), "photo"))
    image[:] = 0  # the caller can overwrite the picture


@pytest.mark.parametrize("suffix", [".jp2", ".pbm", ".pfm", ".sr", ".hdr", ".gif", ".avif"])
def test_no_other_format_is_decoded_though_opencv_could(decoder: PictureDecoder, suffix: str) -> None:
    image = cv2.resize(still("astronaut"), (160, 120))
    wanted = np.float32(image) if suffix in (".hdr", ".pfm") else image[:, :, 0] if suffix == ".pbm" else image
    try:
        raw = cv2.imencode(suffix, np.asarray(wanted))[1].tobytes()
    except cv2.error:
        pytest.skip(f"skipped: this OpenCV writes no {suffix}")
    with pytest.raises(SourceError, match="not a picture") as caught:
        decoded(decoder, raw)
    assert "JPEG, PNG, WebP, BMP or TIFF" in caught.value.remedy


@pytest.mark.parametrize("marker", [b"\x01", b"\x00", b"\xd3"])
def test_a_marker_without_a_length_hides_no_frame_header(decoder: PictureDecoder, marker: bytes) -> None:
    raw = hidden_head(27_000, 27_000).replace(b"\xff\x01", b"\xff" + marker, 1)
    with pytest.raises(SourceError, match=r"too many pixels|not a picture"):
        decoded(decoder, raw)
    with pytest.raises(SourceError):
        decode_image(np.frombuffer(raw, np.uint8), "photo")
    assert decoder._process is not None
    assert _peak_kib(decoder._process.pid) < 200 << 10


def test_mutated_pictures_are_refused_or_decoded_and_this_process_does_not_grow(decoder: PictureDecoder) -> None:
    shown = mutate(decoder, count=300, seed=1)
    assert shown["decoded"] > 0
    assert shown["refused"] > 0
    assert shown["grown_kib"] < 8 << 10


def mutate(decoder: PictureDecoder, count: int, seed: int) -> dict[str, int]:
    """Decode a number of mutated pictures; returns the results, and the growth of this process, KiB."""
    draw, kinds = random.Random(seed), [encoded(suffix) for suffix in (".jpg", ".png", ".webp", ".bmp", ".tif")]
    kinds.append(encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    before_kib, result = 0, {"decoded": 0, "refused": 0, "grown_kib": 0}
    for number in range(count):
        raw = bytearray(draw.choice(kinds))
        for _ in range(draw.randint(1, 8)):
            at = draw.randrange(min(len(raw), draw.choice((40, 700, len(raw)))))
            raw[at] = draw.randrange(256)
        if draw.random() < 0.2:
            del raw[draw.randrange(len(raw)) :]
        try:
            decoded(decoder, bytes(raw) or b"\0")
            result["decoded"] += 1
        except SourceError as e:
            assert e.what  # each refusal has a message
            assert e.remedy
            result["refused"] += 1
        if number == count // 5:
            before_kib = _resident_kib(os.getpid())
    return {**result, "grown_kib": _resident_kib(os.getpid()) - before_kib}


def test_a_picture_that_takes_too_long_is_refused_and_the_next_one_is_decoded() -> None:
    with PictureDecoder() as decoder:
        decoded(decoder, encoded(".jpg"))
        assert decoder._process is not None
        os.kill(decoder._process.pid, signal.SIGSTOP)
        decoder._limit_s = 0.2
        with pytest.raises(SourceError, match="takes longer"):
            decoded(decoder, encoded(".jpg"))
        decoder._limit_s = 60.0
        assert decoded(decoder, encoded(".jpg")).shape == (120, 160, 3)


def test_a_child_that_dies_costs_one_picture() -> None:
    with PictureDecoder() as decoder:
        decoded(decoder, encoded(".jpg"))
        assert decoder._process is not None
        decoder._process.kill()
        with pytest.raises(SourceError, match="failed"):
            decoded(decoder, encoded(".jpg"))
        assert decoded(decoder, encoded(".jpg")).shape == (120, 160, 3)
        pid = decoder._process.pid
    assert not Path(f"/proc/{pid}").exists()


CONFINED = """
import os, socket, subprocess, signal, sys
from edge import confinement
mine = os.open("/etc/hostname", os.O_RDONLY)
if not confinement.confine(threads="threads" in sys.argv):
    os._exit(3)
left = []
for name, act in {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "make": lambda: os.open("/tmp/edge-made", os.O_CREAT | os.O_WRONLY),
    "unlink": lambda: os.unlink("/tmp/edge-made"),
    "socket": lambda: socket.socket(socket.AF_INET),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "duplicate": lambda: os.dup(mine),
}.items():
    try:
        act()
        left.append(name)
    except PermissionError:
        pass
os.write(1, ",".join(left).encode() or b"nothing")
os._exit(0)
"""


@pytest.mark.parametrize("wish", ["", "threads"])
def test_the_child_can_open_connect_start_and_signal_nothing(wish: str) -> None:
    done = subprocess.run([sys.executable, "-c", CONFINED, wish], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nothing"


def test_the_child_is_confined_and_knows_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-vision.service")
    with PictureDecoder() as decoder:
        decoded(decoder, encoded(".jpg"))
        assert decoder._process is not None
        folder = Path(f"/proc/{decoder._process.pid}")
        if os.geteuid() == 0:  # the process refuses inspection by its user
            assert b"CREDENTIALS_DIRECTORY" not in (folder / "environ").read_bytes()
        assert "Seccomp:\t2" in (folder / "status").read_text()
        assert "NoNewPrivs:\t1" in (folder / "status").read_text()


def _peak_kib(pid: int) -> int:
    return _status_kib(pid, "VmHWM:")


def _resident_kib(pid: int) -> int:
    return _status_kib(pid, "VmRSS:")


def _status_kib(pid: int, field: str) -> int:
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index(field) + 1])
