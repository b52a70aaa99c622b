"""What libraries write to stderr by themselves never reaches a person: our own line says what is wrong, once."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import pytest

from tests.conftest import Clips
from tests.footage import still
from tools.rig.brokers import silent_port
from tools.rig.workbench import Bench

FOREIGN = ("[ WARN", "[ERROR:", "[av1", "[mov", "[tcp @", "[rtsp @", "libpng", "Corrupt JPEG", "Traceback", "VIDEOIO")


def plain(code: str, *arguments: str | Path) -> str:
    """What a library writes in a process that does not keep it quiet."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    return done.stdout + done.stderr


def with_a_bad_profile(path: Path) -> Path:
    """A PNG whose colour profile is junk, as some scanners write it."""
    raw = cv2.imencode(".png", cv2.cvtColor(still("astronaut"), cv2.COLOR_BGR2GRAY))[1].tobytes()
    body = b"iCCPscan\0\0" + zlib.compress(b"no profile at all" * 20)
    chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    path.write_bytes(raw[:33] + chunk + raw[33:])  # behind the signature and IHDR
    return path


def test_odd_pictures_and_videos_are_named_in_our_words(bench: Bench, clips: Clips, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    scanned = with_a_bad_profile(folder / "scanned.png")
    photo = cv2.imencode(".jpg", still("astronaut"))[1].tobytes()
    (folder / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    (folder / "phone.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1avif" + bytes(400))
    film = folder / "cut.mp4"
    film.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(4000))
    assert "libpng" in plain("import cv2, sys; cv2.imread(sys.argv[1])", scanned)
    assert "moov" in plain("import cv2, sys; cv2.VideoCapture(sys.argv[1])", film)
    for command in (("try", folder), ("people", "add", "Anna", "--from", folder)):
        answer = bench.call(*command)
        said = answer.output + answer.errors
        assert not [line for line in said.splitlines() if any(word in line for word in FOREIGN)], said
        assert "phone.avif" in said


OPENS = """
import sys
from edge import config
from edge.cameras.camera import open_source
from edge.errors import SourceError

try:
    open_source(config.parse(sys.argv[1], "edge.toml").camera, patience_s=20.0).read()
except SourceError as e:
    print(e)
"""


@pytest.mark.parametrize(
    ("source", "address", "backend"),
    [
        ("v4l2", 'device = "/dev/video-none"', "'/dev/video-none', cv2.CAP_V4L2"),
        ("mjpeg", 'url = "http://127.0.0.1:PORT/a.mjpg"', "'http://127.0.0.1:PORT/a.mjpg'"),
        ("rtsp", 'url = "rtsp://127.0.0.1:PORT/a"', "'rtsp://127.0.0.1:PORT/a'"),
    ],
    ids=["v4l2", "mjpeg", "rtsp"],
)
def test_a_camera_that_is_not_there_is_named_in_our_words(source: str, address: str, backend: str) -> None:
    port = str(silent_port())
    loud = plain("import cv2; cv2.VideoCapture(" + backend.replace("PORT", port) + ")")
    assert any(word in loud for word in FOREIGN)
    said = plain(OPENS, f'[camera]\nsource = "{source}"\n{address.replace("PORT", port)}\n')
    assert said.count("→") == 1
    assert not [line for line in said.splitlines() if any(word in line for word in FOREIGN)], said
