"""Best shots: the crop of a track, the order of tracks, and the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge.records import AlignedFace, Frame, Quality, Shot
from edge.vision.shots import BestShots


@dataclass(frozen=True)
class Track:
    id: int
    leaves: float = math.inf

    def leaves_in_s(self, frame: Frame) -> float:  # noqa: ARG002
        return self.leaves


def frame(t_s: float) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), t_s, 0)


def shot(value: int) -> Shot:
    return Shot(AlignedFace(np.full((128, 128), value, np.uint8)), None)


def quality(score: float) -> Quality:
    return Quality(sharpness=1, brightness=100, contrast=50, yaw=0, score=score)


def offer(shots: BestShots, track: int, t_s: float, missing: int = 0, leaves_s: float = math.inf) -> None:
    if shots.wants(track, quality(0.5), t_s):
        shots.offer(Track(track, leaves_s), shot(0), quality(0.5), frame(t_s), missing)


def test_the_best_crop_of_the_window_is_handed_out_once() -> None:
    shots = BestShots(window_s=0.2, min_interval_s=0.2)
    for i, score in enumerate((0.3, 0.9, 0.5)):
        assert shots.wants(7, quality(score), i * 0.1) == (i < 2)
        shots.offer(Track(7), shot(i), quality(score), frame(i * 0.1), 0)
        taken = shots.take(i * 0.1)
    assert taken is not None
    track, best = taken
    assert (track, int(best.crop.pixels[0, 0])) == (7, 1)
    assert shots.take(0.5) is None


def test_shots_are_never_handed_out_faster_than_the_rate() -> None:
    shots = BestShots(window_s=0.0, min_interval_s=0.5)
    times = []
    for i in range(100):
        offer(shots, i % 3, i * 0.1)
        if shots.take(i * 0.1) is not None:
            times.append(i * 0.1)
    assert len(times) >= 19
    assert min(np.diff(times)) >= 0.5 - 1e-6


def test_every_track_gets_its_turn() -> None:
    shots = BestShots(window_s=0.1, min_interval_s=0.2)
    taken = set()
    for i in range(30):
        for track in (1, 2, 3):
            offer(shots, track, i * 0.1)
        if (shot := shots.take(i * 0.1)) is not None:
            taken.add(shot[0])
    assert taken == {1, 2, 3}


def test_a_changed_rate_applies_from_the_next_shot() -> None:
    shots = BestShots(window_s=0.0, min_interval_s=10.0)
    offer(shots, 1, 0.0)
    assert shots.take(0.0) is not None
    offer(shots, 1, 1.0)
    assert shots.take(1.0) is None
    shots.set_rate(embeddings_hz=2.0)
    assert shots.take(1.0) is not None


def order(shots: BestShots, t_s: float) -> list[int]:
    return [shot[0] for i in range(6) if (shot := shots.take(t_s + i)) is not None]


def test_faces_that_need_fewest_embeddings_come_first_and_decided_faces_last() -> None:
    shots = BestShots(window_s=0.0, min_interval_s=0.1)
    for track, missing in enumerate((0, 3, 1, 2)):
        offer(shots, track, 0.0, missing)
    assert order(shots, 0.0) == [2, 3, 1, 0]


def test_a_face_about_to_leave_comes_first_unless_it_is_too_late() -> None:
    shots = BestShots(window_s=0.2, min_interval_s=0.01)
    for track, leaves_s in enumerate((math.inf, 1.2, 0.3)):
        offer(shots, track, 0.0, missing=3, leaves_s=leaves_s)
    assert [shots.take(0.2 + i / 50) is not None for i in range(3)] == [True] * 3
    for track, leaves_s in enumerate((math.inf, 1.2, 0.3)):
        offer(shots, track, 1.0, missing=3, leaves_s=leaves_s)
    assert [(shots.take(1.2 + i / 50) or (-1,))[0] for i in range(3)] == [1, 0, 2]


def spent(faces: int, missing: int, seconds: float) -> int:
    shots = BestShots(window_s=0.1, min_interval_s=0.2, burst=10)
    count = 0
    for i in range(round(seconds * 20)):
        for track in range(faces):
            offer(shots, track, i / 20, missing)
        count += shots.take(i / 20) is not None
    return count


def test_a_group_of_undecided_faces_uses_the_saved_embeddings_and_no_more() -> None:
    assert 38 <= spent(faces=5, missing=3, seconds=6.0) <= 41


def test_one_face_and_decided_faces_never_exceed_the_rate() -> None:
    assert spent(faces=1, missing=3, seconds=6.0) <= 31
    assert spent(faces=5, missing=0, seconds=6.0) <= 31


def test_a_face_that_has_left_loses_its_turn() -> None:
    shots = BestShots(window_s=0.1, min_interval_s=0.2)
    offer(shots, 1, 0.0, missing=3)
    assert shots.take(10.0) is None
