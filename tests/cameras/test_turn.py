"""Turned cameras: the camera turns the picture where it can, otherwise the software does."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.cameras import turn
from edge.cameras.camera import open_source
from edge.cameras.turn import UPRIGHT, DriverFlips, Turn
from edge.config import CameraConfig

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
TURNS = [Turn(rotation, mirror) for rotation, mirror in product((0, 90, 180, 270), (False, True))]


def flipped(image: np.ndarray, horizontal: bool, vertical: bool) -> np.ndarray:
    image = image[:, ::-1] if horizontal else image
    return np.ascontiguousarray(image[::-1] if vertical else image)


@pytest.mark.parametrize("wanted", TURNS)
def test_a_flip_that_the_camera_does_is_not_repeated(wanted: Turn) -> None:
    for horizontal, vertical in product((False, True), repeat=2):
        left = wanted.after((horizontal, vertical))
        np.testing.assert_array_equal(left.apply(flipped(IMAGE, horizontal, vertical)), wanted.apply(IMAGE))


@pytest.mark.parametrize("wanted", TURNS)
def test_camera_flips_replace_a_half_turn_but_not_a_quarter_turn(wanted: Turn) -> None:
    if wanted.rotation_deg in {90, 270}:
        assert wanted.flips is None
    else:
        assert wanted.flips is not None
        np.testing.assert_array_equal(flipped(IMAGE, *wanted.flips), wanted.apply(IMAGE))
        assert wanted.after(wanted.flips) == UPRIGHT


@pytest.mark.parametrize(("rotation", "mirror"), [(0, False), (90, False), (180, True), (270, True)])
def test_a_turned_source_delivers_upright_frames(tmp_path: Path, rotation: int, mirror: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "lying.png"), picture)
    config = CameraConfig(source="images", paths=[str(tmp_path)], rotation=rotation, mirror=mirror)  # type: ignore[arg-type]
    frame = open_source(config).read()
    assert frame is not None
    np.testing.assert_array_equal(frame.image, Turn(rotation, mirror).apply(picture))
    assert frame.image.shape[:2] == ((60, 40) if rotation in {90, 270} else (40, 60))


class Driver:
    """The controls of a V4L2 device, behind the kernel's interface."""

    def __init__(self, controls: dict[int, int], *, stubborn: bool = False) -> None:
        self.controls, self._stubborn = controls, stubborn

    def ioctl(self, _fd: int, request: int, payload: bytes) -> bytes:
        control, value = struct.unpack("Ii", payload)
        if control not in self.controls:
            raise OSError(22, "no such control")
        if request == 0xC008561C and not self._stubborn:  # VIDIOC_S_CTRL
            self.controls[control] = value
        return struct.pack("Ii", control, self.controls[control])


HFLIP, VFLIP = 0x00980914, 0x00980915


def driven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: Driver, wanted: Turn) -> DriverFlips:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(turn, "fcntl", SimpleNamespace(ioctl=driver.ioctl))
    return DriverFlips(str(device), wanted)


def test_a_driver_that_can_flip_is_used_and_its_setting_is_restored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = Driver({HFLIP: 0, VFLIP: 1})
    flips = driven(monkeypatch, tmp_path, driver, Turn(0, True))
    assert flips.left == UPRIGHT
    assert driver.controls == {HFLIP: 1, VFLIP: 0}
    flips.restore()
    assert driver.controls == {HFLIP: 0, VFLIP: 1}


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        (Driver({}), Turn(180)),
        (Driver({HFLIP: 0}), Turn(180)),
        (Driver({HFLIP: 0, VFLIP: 0}, stubborn=True), Turn(180)),
        (Driver({HFLIP: 0, VFLIP: 0}), Turn(90)),
    ],
)
def test_a_turn_that_the_driver_cannot_do_is_done_in_software(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: Driver, wanted: Turn
) -> None:
    before = dict(driver.controls)
    assert driven(monkeypatch, tmp_path, driver, wanted).left == wanted
    assert driver.controls == before
