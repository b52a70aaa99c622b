"""The motion gate on real footage: panned, frozen, noisy, lit up, cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.records import Frame, Motion, MotionKind
from edge.vision.motion import MotionGate
from tests.footage import Image, still, video

MIN_CHANGED_SHARE = 0.003
SPEEDS_PX = (0.25, 0.5, 1.0, 2.5, 6.0, 16.0, 40.0)


def judge(images: Iterable[Image]) -> list[Motion]:
    gate = MotionGate(MIN_CHANGED_SHARE)
    return [gate.observe(Frame(image, index / 15, index)) for index, image in enumerate(images)]


def kinds(images: Iterable[Image]) -> list[MotionKind]:
    return [motion.kind for motion in judge(images)][1:]


def pan(picture: Image, speed_px: float, size: tuple[int, int] = (320, 240), frames: int = 40) -> Iterator[Image]:
    """Yield frames of a camera that pans over a picture in sub-pixel steps, half as fast vertically as horizontally."""
    room = [picture.shape[1] - size[0] - 4, picture.shape[0] - size[1] - 4]
    for k in range(frames):
        way = (speed_px * k, speed_px * k / 2)
        x, y = (abs((d + r) % (2 * r) - r) + 2 for d, r in zip(way, room, strict=True))
        yield np.asarray(cv2.getRectSubPix(picture, size, (x + size[0] / 2, y + size[1] / 2)), np.uint8)


def turning(picture: Image, roll_degrees: float, zoom: float, frames: int = 30) -> Iterator[Image]:
    """Yield frames of a camera that rolls and moves towards the centre of a picture, by these steps per frame."""
    size, middle = (320, 240), (picture.shape[1] / 2, picture.shape[0] / 2)
    for k in range(frames):
        matrix = cv2.getRotationMatrix2D(middle, roll_degrees * k, zoom**k)
        matrix[:, 2] += np.array(size) / 2 - np.array(middle)
        yield np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


def noisy(images: Iterable[Image], sigma: float, seed: int = 1) -> Iterator[Image]:
    rng = np.random.default_rng(seed)
    for image in images:
        noise = rng.normal(0, sigma, (*image.shape[:2], 1))
        yield np.clip(image + noise, 0, 255).astype(np.uint8)


def lit(images: Iterable[Image], gain: float) -> Iterator[Image]:
    for k, image in enumerate(images):
        yield np.clip(image * gain**k, 0, 255).astype(np.uint8)


def with_patch(images: Iterable[Image], patch: Image, speed_px: int, top_px: int = 60) -> Iterator[Image]:
    side = patch.shape[0]
    for k, image in enumerate(images):
        left = (20 + speed_px * k) % (image.shape[1] - side)
        shown = image.copy()
        shown[top_px : top_px + side, left : left + side] = patch
        yield shown


def face_patch(side_px: int) -> Image:
    return np.asarray(cv2.resize(still("astronaut")[50:160, 170:270], (side_px, side_px)), np.uint8)


def blank(level: int, size: tuple[int, int] = (480, 640)) -> Image:
    return np.full((*size, 3), level, np.uint8)


@pytest.mark.parametrize("speed_px", SPEEDS_PX)
def test_a_pan_over_a_picture_is_the_camera_and_never_the_scene(speed_px: float) -> None:
    found = kinds(pan(still("astronaut"), speed_px))
    assert "scene" not in found
    assert found.count("ego") >= 0.95 * len(found)  # a pan of a quarter pixel may take two frames to show


@pytest.mark.parametrize("speed_px", [0.5, 4.0, 16.0])
@pytest.mark.parametrize("name", ["bikes", "bigbuckbunny"])
def test_a_pan_over_a_frozen_frame_is_the_camera(name: str, speed_px: float) -> None:
    frozen = video(name, 20)[10]
    found = kinds(pan(frozen, speed_px, (frozen.shape[1] // 2, frozen.shape[0] * 2 // 3)))
    assert "scene" not in found
    assert found.count("ego") >= 0.8 * len(found)


@pytest.mark.parametrize("speed_px", [1.0, 6.0, 16.0])
def test_noise_on_a_pan_is_not_the_scene(speed_px: float) -> None:
    found = kinds(noisy(pan(still("astronaut"), speed_px), 8))
    assert set(found) == {"ego"}


@pytest.mark.parametrize(("roll_degrees", "zoom"), [(1.0, 1.0), (2.0, 1.0), (-1.5, 1.01), (0.0, 1.015)])
@pytest.mark.parametrize("name", ["astronaut", "bikes"])
def test_a_rolling_or_walking_camera_is_not_the_scene(name: str, roll_degrees: float, zoom: float) -> None:
    picture = (
        still(name) if name == "astronaut" else np.asarray(cv2.resize(video(name, 20)[10], None, fx=2, fy=2), np.uint8)
    )
    found = kinds(noisy(turning(picture, roll_degrees, zoom), 2))
    assert "scene" not in found
    assert found.count("ego") >= 0.8 * len(found)


@pytest.mark.parametrize("gain", [0.98, 1.01])
def test_auto_exposure_on_a_pan_is_not_the_scene(gain: float) -> None:
    found = kinds(noisy(lit(pan(still("astronaut"), 4.0, frames=30), gain), 3))
    assert set(found) == {"ego"}


@pytest.mark.parametrize("speed_px", [1.0, 6.0, 16.0])
def test_the_shift_is_measured_in_pixels_of_the_frame(speed_px: float) -> None:
    picture = np.asarray(cv2.resize(still("astronaut"), None, fx=2, fy=2), np.uint8)
    steps = judge(pan(picture, speed_px, (640, 480), frames=18))[1:]
    measured = np.median([motion.shift_px for motion in steps], axis=0)
    np.testing.assert_allclose(measured, (-speed_px, -speed_px / 2), atol=0.5)


@pytest.mark.parametrize("size", [(176, 144), (175, 131), (333, 247)])
def test_an_odd_frame_size_makes_no_phantom_shift(size: tuple[int, int]) -> None:
    frozen = np.asarray(cv2.resize(video("carphone", 40)[20], size), np.uint8)
    assert {motion.shift_px for motion in judge([frozen] * 12)} == {(0.0, 0.0)}


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0, 8.0])
def test_a_frozen_view_with_sensor_noise_stays_still(sigma: float) -> None:
    for view in (video("carphone", 40)[20], video("bikes", 40)[20], still("astronaut")):
        assert set(kinds(noisy([view] * 40, sigma))) == {"still"}


def test_flickering_light_on_a_still_view_stays_still() -> None:
    view = video("carphone", 40)[20]
    flicker = (np.clip(view * (0.8 + 0.2 * np.sin(k)), 0, 255).astype(np.uint8) for k in range(60))
    assert set(kinds(noisy(flicker, 3))) == {"still"}


def test_slowly_fading_light_stays_still() -> None:
    assert set(kinds(noisy(lit([video("carphone", 40)[20]] * 80, 0.99), 3))) == {"still"}


def test_a_talking_man_before_a_still_camera_is_the_scene() -> None:
    found = kinds(video("carphone"))
    assert found.count("scene") >= 0.55 * len(
        found
    )  # he fills the view, so some of his small movements look like camera motion


def test_riders_filmed_from_a_moving_camera_are_motion_most_of_the_time() -> None:
    found = kinds(video("bikes"))
    assert found.count("scene") >= 0.7 * len(found)
    assert found.count("still") <= 0.05 * len(found)


@pytest.mark.parametrize(("name", "size"), [("bikes", (320, 200)), ("bigbuckbunny", (640, 480))])
def test_a_face_that_moves_through_a_panned_view_is_the_scene(name: str, size: tuple[int, int]) -> None:
    panned = pan(video(name, 20)[10], 3.0, size)
    found = kinds(with_patch(panned, face_patch(size[0] // 8), 4))
    assert found.count("scene") >= 0.8 * len(found)


@pytest.mark.parametrize("side_px", [80, 240])
def test_a_face_that_moves_past_a_white_wall_is_the_scene_not_the_camera(side_px: int) -> None:
    assert set(kinds(with_patch([blank(200)] * 40, face_patch(side_px), 5))) == {"scene"}


def test_a_face_that_moves_before_a_still_room_never_moves_the_camera() -> None:
    found = judge(with_patch([video("bikes", 20)[10]] * 40, face_patch(80), 5))
    assert "ego" not in {motion.kind for motion in found}
    assert {motion.shift_px for motion in found} == {(0.0, 0.0)}


def test_a_cut_is_scene_motion_and_the_new_view_is_learned_at_once() -> None:
    first, second = video("carphone", 5)[3], np.asarray(cv2.resize(video("bikes", 6)[5], (176, 144)), np.uint8)
    found = [motion.kind for motion in judge([first] * 5 + [second] * 5)]
    assert found == ["scene", *["still"] * 4, "scene", *["still"] * 4]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_view_without_texture_shows_no_shift(level: int) -> None:
    found = judge(noisy([blank(level)] * 20, 8))
    assert {motion.kind for motion in found[1:]} == {"still"}
    assert {motion.shift_px for motion in found} == {(0.0, 0.0)}


def test_the_first_frame_and_a_new_frame_size_get_a_look() -> None:
    found = judge([blank(90), blank(90), blank(90, (240, 320)), blank(90, (240, 320)), blank(90)])
    assert [motion.kind for motion in found] == ["scene", "still", "still", "still", "still"]
    portrait = judge([blank(90), blank(90, (640, 480)), blank(90, (640, 480))])
    assert [motion.kind for motion in portrait] == ["scene", "scene", "still"]


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (480, 1), (2, 3), (15, 200), (17, 17)])
def test_a_tiny_or_thin_frame_is_judged_without_a_crash(size: tuple[int, int]) -> None:
    assert [motion.kind for motion in judge([blank(9, size), blank(9, size)])] == ["scene", "still"]
    assert judge([blank(9, size), blank(250, size)])[1].shift_px == (0.0, 0.0)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), height=st.integers(1, 50), width=st.integers(1, 50), contrast=st.integers(1, 255)
)
def test_any_pixels_are_handled(seed: int, height: int, width: int, contrast: int) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, contrast, (5, height, width, 3), np.uint8, endpoint=True)
    for motion in judge([*frames, *frames[:, ::-1]]):
        assert 0 <= motion.changed_share <= 1
        assert np.isfinite(motion.shift_px).all()


def test_a_parked_object_becomes_background() -> None:
    empty = video("bikes", 20)[10]
    parked = empty.copy()
    parked[60:140, 200:280] = face_patch(80)
    found = kinds([empty] * 10 + [parked] * 120)
    assert found[9] == "scene"
    assert set(found[-20:]) == {"still"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_caller_sets_the_share_that_counts_as_motion(share: float) -> None:
    gate = MotionGate(share)
    frames = video("carphone", 30)
    found = [gate.observe(Frame(image, 0.0, index)).kind for index, image in enumerate(frames)][1:]
    assert ("scene" in found) == (share == 0.0)
