"""Pictures are decoded upright within the memory limit of vision's unit, or refused with a reason."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import MAX_IMAGE_PIXELS
from edge.cameras.picture import decode_image, read_image
from edge.errors import SourceError
from tests.footage import Image, still

PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
UNIT = Path(__file__).parents[2] / "systemd" / "edge-vision.service"
SIDE_PX = 7_000  # 49 megapixels


def jpeg(image: Image, *options: int, orientation: int = 1) -> bytes:
    """A JPEG as a phone makes it, with EXIF's orientation."""
    raw = cv2.imencode(".jpg", image, options)[1].tobytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    return raw[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + raw[2:]


def decoded(raw: bytes) -> Image:
    return decode_image(np.frombuffer(raw, np.uint8), "photo")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A photo of 49 megapixels of the woman, taken with the phone on its side."""
    side = cv2.rotate(cv2.resize(still("astronaut"), (SIDE_PX, SIDE_PX)), cv2.ROTATE_90_COUNTERCLOCKWISE)
    return jpeg(np.asarray(side, np.uint8), orientation=6)


def test_gray_and_rgba_pictures_become_bgr(tmp_path: Path) -> None:
    colour = still("astronaut")
    gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "rgba.png"), cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA))
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), colour)


def test_a_picture_that_would_fill_the_memory_is_refused() -> None:
    header = cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1]
    header[18:26] = np.frombuffer(np.array([30_000, 30_000], "<i4").tobytes(), np.uint8)  # width, height
    with pytest.raises(SourceError, match="bomb"):
        decode_image(header, "bomb.bmp")


def test_a_large_photo_comes_upright_and_smaller(photo: bytes) -> None:
    image = decoded(photo)
    assert image.shape == (SIDE_PX // 2, SIDE_PX // 2, 3)
    seen, wanted = cv2.resize(image, (64, 64)).astype(int), cv2.resize(still("astronaut"), (64, 64)).astype(int)
    assert np.abs(seen - wanted).mean() < 10


@pytest.mark.parametrize(("side_px", "divisor"), [(3_500, 1), (7_100, 4), (14_200, 8)])
def test_a_jpeg_comes_as_large_as_fits(side_px: int, divisor: int) -> None:
    image = decoded(jpeg(np.zeros((side_px, side_px, 3), np.uint8)))
    assert image.shape[0] == -(-side_px // divisor)
    assert image.shape[0] ** 2 <= MAX_IMAGE_PIXELS


@pytest.mark.parametrize("progressive", [(), PROGRESSIVE])
def test_a_photo_within_the_limit_comes_whole(progressive: tuple[int, ...]) -> None:
    raw = jpeg(cv2.resize(still("astronaut"), (4032, 3024)).astype(np.uint8), *progressive, orientation=3)
    assert decoded(raw).shape == (3024, 4032, 3)


def test_a_picture_that_cannot_be_decoded_smaller_is_refused_with_a_remedy() -> None:
    image = np.zeros((3_600, 3_600, 3), np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    for raw in (png, jpeg(image, *PROGRESSIVE), separate_scans(jpeg(image))):
        with pytest.raises(SourceError, match="photo: has too many pixels") as caught:
            decoded(raw)
        assert "at most 12 megapixels" in caught.value.remedy


def separate_scans(raw: bytes) -> bytes:
    """The head of a JPEG whose first scan holds one of its three colours."""
    at = raw.index(b"\xff\xda")
    return raw[:at] + b"\xff\xff\xda\0\x08\1\1\0\0\x3f\0" + raw[at + 14 :]


@pytest.mark.parametrize("cut", [2, 3, 20, 100, 600])
def test_a_photo_that_ends_too_early_is_an_error_or_a_part(photo: bytes, cut: int) -> None:
    with pytest.raises(SourceError, match="not a picture"):
        decoded(photo[:cut])


# VmHWM instead of ru_maxrss: ru_maxrss includes the size before exec, which is that of this process.
PEAK_KIB = "(w := open('/proc/self/status').read().split())[w.index('VmHWM:') + 1]"
VISION = f"""
import sys
from edge import config
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.processes.owner.owner_requests import OwnerRequests
from edge.provision.protocol import messages
from edge.provision.device.control_socket import WholePhoto
from edge.records import Frame
import numpy as np

settings = config.parse('[device]\\ndata_dir = "' + sys.argv[1] + '"', "")
gallery = LiveGallery(settings)
pipeline = build_pipeline(settings, gallery)
for i in range(5):
    pipeline.process(Frame(np.random.randint(0, 255, (480, 640, 3), np.uint8), 1 + 0.3 * i, i))
owner = OwnerRequests(settings, gallery)
owner.handle(messages.EnrolBegin(name="Eileen", source="photos"))
progress, _ = owner.handle(WholePhoto(name="photo.jpg", data=memoryview(bytearray(sys.stdin.buffer.read()))))
decoder = open(f"/proc/{{owner.enrolment._decoder._process.pid}}/status").read().split()
peak, code = (int(decoder[decoder.index(name) + 1]) for name in ("VmHWM:", "RssFile:"))
print(progress.accepted, {PEAK_KIB}, peak - code)  # vision has the same code loaded: it is in memory once
"""
SHARED_KIB = "w[w.index('RssFile:') + 1]"  # shared code, which is in memory once: vision has loaded it too
CAMERA = f"import edge.cameras.capture; print(int({PEAK_KIB}) - int({SHARED_KIB}))"
FRAMES_KIB = 16 << 10  # of the camera's process: its frame and its driver's buffers


def run(code: str, photo: bytes, *arguments: str) -> list[int]:
    command = [sys.executable, "-c", code, *arguments]
    return [int(word) for word in subprocess.run(command, input=photo, capture_output=True, check=True).stdout.split()]


def test_an_ordinary_photo_of_a_phone_enrols_within_the_memory_of_the_unit(photo: bytes, tmp_path: Path) -> None:
    (megabytes,) = re.findall(r"^MemoryMax=(\d+)M$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    accepted, vision_kib, decoder_kib = run(VISION, photo, str(tmp_path))
    (camera_kib,) = run(CAMERA, b"")
    assert accepted == 1
    assert vision_kib + decoder_kib + camera_kib + FRAMES_KIB < int(megabytes) << 10
