"""Tracker and best shots."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.records import AlignedFace, Face, Quality
from edge.vision.tracker import BestShots, Tracker


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


def test_crossing_faces_are_told_apart_by_their_velocity() -> None:
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


def crop(value: int) -> AlignedFace:
    return AlignedFace(np.full((128, 128), value, np.uint8))


def quality(score: float) -> Quality:
    return Quality(sharpness=1, brightness=100, contrast=50, yaw=0, score=score)


def test_the_best_crop_of_the_window_is_handed_out_once() -> None:
    shots = BestShots(window_s=0.2, min_interval_s=0.2)
    for i, score in enumerate((0.3, 0.9, 0.5)):
        shots.offer(7, crop(i), quality(score), i * 0.1)
        taken = shots.take(i * 0.1)
    assert taken is not None
    track, best = taken
    assert (track, int(best.pixels[0, 0])) == (7, 1)
    assert shots.take(0.5) is None


def test_shots_are_never_handed_out_faster_than_the_rate() -> None:
    shots = BestShots(window_s=0.0, min_interval_s=0.5)
    times = []
    for i in range(100):
        shots.offer(i % 3, crop(0), quality(0.5), i * 0.1)
        if shots.take(i * 0.1) is not None:
            times.append(i * 0.1)
    assert len(times) >= 19
    assert min(np.diff(times)) >= 0.5 - 1e-6


def test_no_track_waits_for_ever() -> None:
    shots = BestShots(window_s=0.1, min_interval_s=0.2)
    taken = set()
    for i in range(30):
        for track in (1, 2, 3):
            shots.offer(track, crop(0), quality(0.5), i * 0.1)
        if (shot := shots.take(i * 0.1)) is not None:
            taken.add(shot[0])
    assert taken == {1, 2, 3}


def test_a_changed_rate_holds_from_the_next_shot() -> None:
    shots = BestShots(window_s=0.0, min_interval_s=10.0)
    shots.offer(1, crop(0), quality(0.5), 0.0)
    assert shots.take(0.0) is not None
    shots.offer(1, crop(0), quality(0.5), 1.0)
    assert shots.take(1.0) is None
    shots.set_rate(embeddings_hz=2.0)
    assert shots.take(1.0) is not None
