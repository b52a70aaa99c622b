"""The schedule of looks: at most the rates, at once on motion, rarely in a still scene."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from edge.records import Motion, MotionKind, Rates
from edge.schedule import LookSchedule

FPS = 15.0


def motion(kind: MotionKind) -> Motion:
    return Motion(kind, (0.0, 0.0), 0.0)


def looks(kind: MotionKind, *, following: bool, seconds: float, detector_hz: float = FPS) -> int:
    schedule = LookSchedule(Rates(FPS, detector_hz, 5.0), still_look_s=2.0)
    return sum(schedule.due(motion(kind), following, i / FPS) for i in range(round(seconds * FPS)))


def test_a_moving_scene_and_a_followed_face_get_the_full_rate() -> None:
    assert looks("scene", following=False, seconds=10) == 150
    assert looks("still", following=True, seconds=10) == 150


def test_a_moving_camera_gets_two_looks_a_second_and_a_still_scene_one_in_two_seconds() -> None:
    assert 18 <= looks("ego", following=False, seconds=10) <= 20
    assert 5 <= looks("still", following=False, seconds=10) <= 5


def test_motion_after_stillness_gets_a_look_at_once() -> None:
    schedule = LookSchedule(Rates(FPS, FPS, 5.0), still_look_s=2.0)
    assert schedule.due(motion("still"), False, 0.0)
    assert not schedule.due(motion("still"), False, 0.1)
    assert schedule.due(motion("scene"), False, 0.2)


def test_new_rates_apply_at_once() -> None:
    schedule = LookSchedule(Rates(FPS, FPS, 5.0), still_look_s=2.0)
    assert schedule.due(motion("scene"), True, 0.0)
    schedule.set_rates(Rates(FPS, 1.0, 1.0))
    assert not schedule.due(motion("scene"), True, 0.5)


def test_a_still_scene_at_the_floor_gets_a_look_in_every_frame_even_if_some_are_early() -> None:
    schedule = LookSchedule(Rates(0.5, 0.5, 0.5), still_look_s=2.0)
    early_s = [0.0, 0.001, -0.001, 0.0, 0.3, 0.3, -0.001, 0.001]
    assert all(schedule.due(motion("still"), False, 2.0 * i - early_s[i % 8]) for i in range(1000))


@given(
    st.lists(st.tuples(st.sampled_from(get_args(MotionKind)), st.booleans()), min_size=200, max_size=200),
    st.floats(0.2, 60.0),
)
def test_whatever_happens_the_rate_is_kept(frames: list[tuple[MotionKind, bool]], detector_hz: float) -> None:
    schedule = LookSchedule(Rates(FPS, detector_hz, 5.0), still_look_s=2.0)
    count = sum(schedule.due(motion(kind), following, i / FPS) for i, (kind, following) in enumerate(frames))
    assert count <= 2 + len(frames) / FPS * detector_hz
