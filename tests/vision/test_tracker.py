"""Tracker and best shots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.records import Face, Frame
from edge.vision.tracker import Tracker


def face(x: float, y: float = 100.0, size: float = 60.0) -> Face:
    landmarks = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return Face(
        np.array([x, y, size, size], np.float32), landmarks * np.float32(size) + np.array([x, y], np.float32), 0.9
    )


def test_a_face_that_moves_slowly_keeps_its_track() -> None:
    tracker = Tracker(max_gap_s=1.0)
    ids = {tracker.update([face(10 + 5 * i)], i / 10)[0].id for i in range(50)}
    assert ids == {1}


def test_a_track_is_confirmed_by_its_second_look() -> None:
    tracker = Tracker(max_gap_s=1.0)
    assert not tracker.update([face(10)], 0.0)[0].confirmed
    assert tracker.update([face(11)], 0.1)[0].confirmed


def test_a_face_hidden_for_longer_than_the_gap_begins_a_new_track() -> None:
    tracker = Tracker(max_gap_s=1.0)
    tracker.update([face(10)], 0.0)
    assert tracker.update([face(10)], 0.9)[0].id == 1
    assert tracker.update([face(10)], 2.0)[0].id == 2


def test_two_faces_side_by_side_keep_their_tracks_whatever_their_order() -> None:
    tracker = Tracker(max_gap_s=1.0)
    first = [t.id for t in tracker.update([face(10), face(200)], 0.0)]
    second = [t.id for t in tracker.update([face(204), face(13)], 0.1)]
    assert second == first[::-1]


def test_crossing_faces_are_distinguished_by_their_velocity() -> None:
    tracker = Tracker(max_gap_s=1.0)
    for i in range(21):
        left, right = face(20.0 * i, 100), face(400.0 - 20.0 * i, 112)
        ids = [t.id for t in tracker.update([left, right], i * 0.1)]
    assert ids == [1, 2]


def test_a_face_elsewhere_or_of_another_size_is_another_track() -> None:
    tracker = Tracker(max_gap_s=1.0)
    tracker.update([face(10)], 0.0)
    assert tracker.update([face(300)], 0.1)[0].id == 2
    assert tracker.update([face(300, size=140)], 0.2)[0].id == 3


def test_an_empty_look_keeps_tracks_until_they_expire() -> None:
    tracker = Tracker(max_gap_s=1.0)
    tracker.update([face(10)], 0.0)
    assert tracker.update([], 0.5) == []
    assert tracker.active
    tracker.expire(1.5)
    assert not tracker.active


@given(
    st.lists(st.lists(st.tuples(st.floats(-50, 700), st.floats(-50, 500), st.floats(1, 300)), max_size=6), max_size=8)
)
def test_every_face_gets_exactly_one_track_and_no_two_share_one(looks: list[list[tuple[float, float, float]]]) -> None:
    tracker = Tracker(max_gap_s=1.0)
    for i, look in enumerate(looks):
        faces = [face(*where) for where in look]
        tracks = tracker.update(faces, i * 0.3)
        assert [t.face for t in tracks] == faces
        assert len({t.id for t in tracks}) == len(faces)


@pytest.mark.parametrize(("step_px", "leaves_s"), [(10, 1.0), (-10, 3.6), (0, math.inf), (0.5, math.inf)])
def test_a_track_predicts_when_its_face_reaches_the_border(step_px: float, leaves_s: float) -> None:
    tracker = Tracker(max_gap_s=1.0)
    for i in range(20):
        (track,) = tracker.update([face(360 + step_px * (i - 19))], i / 10)
    view = Frame(np.zeros((300, 520, 3), np.uint8), 1.9, 19)
    assert track.leaves_in_s(view) == pytest.approx(leaves_s, rel=0.01)
