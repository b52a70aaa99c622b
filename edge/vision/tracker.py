"""Tracker: associates faces from look to look."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame

_MIN_IOU = 0.15  # least overlap of the expected and the found box of one track,
_MAX_CENTRE_SHIFT = 0.6  # or largest distance of their centres, in face widths: small fast faces do not overlap
_MAX_SIZE_RATIO = 1.8  # a face does not double its size between two looks
_LOOKS_IN_A_GAP = 3.0  # looks that a track survives without its face
_LEAST_SPEED = 0.3  # face widths a second; slower motion is the trembling of a box
_CONFIRM_LOOKS = 2  # looks with the face before a track counts: detector flicker lasts one


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One face followed through the frames."""

    id: int
    face: Face  # of the last look
    looks: int  # number of looks with the face
    velocity_px_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # (2,) of the box centre

    @property
    def confirmed(self) -> bool:
        """Whether it has been seen often enough to be a face."""
        return self.looks >= _CONFIRM_LOOKS

    def leaves_in_s(self, frame: Frame) -> float:
        """Return the time until the frame's border cuts the face at its present velocity; inf where it stands."""
        (x, y, width, height), (right, down) = self.face.box_px, self.velocity_px_s
        least_px_s = _LEAST_SPEED * max(float(width), 1e-6)
        ways_px = ((x, -right), (frame.width_px - x - width, right), (y, -down), (frame.height_px - y - height, down))
        times_s = [max(float(way), 0.0) / speed for way, speed in ways_px if speed > least_px_s]
        return min(times_s, default=math.inf)


@dataclass(slots=True, eq=False)
class _State:
    id: int
    face: Face
    seen_s: float
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # (2,) px/s, of the box centre
    looks: int = 1


class Tracker:
    """Greedy association by overlap with the expected box. A track ends after `max_gap_s` without its face.

    `set_rate` lengthens the gap where looks are seldom, so a track always survives a few looks without its face.

    The expected box is the last one, moved by its velocity. Faces are few, so the best pair is taken first and no
    assignment problem is solved. Encounters, which know embeddings, keep identity across longer gaps.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._least_gap_s = self._max_gap_s = max_gap_s
        self._states: list[_State] = []
        self._next_id = 1

    def set_rate(self, looks_hz: float) -> None:
        """Follow the rate of looks."""
        self._max_gap_s = max(self._least_gap_s, _LOOKS_IN_A_GAP / looks_hz)

    @property
    def active(self) -> bool:
        """Whether any track is being followed."""
        return bool(self._states)

    def update(self, faces: list[Face], t_s: float) -> list[Track]:
        """Associate the faces of one look and return the track of each face, in the order of the faces."""
        self.expire(t_s)
        found: list[_State | None] = [None] * len(faces)
        for i, j in self._pairs(faces, t_s):
            found[j] = self._move(self._states[i], faces[j], t_s)
        tracks = []
        for face, known in zip(faces, found, strict=True):
            state = known or self._begin(face, t_s)
            tracks.append(Track(state.id, face, state.looks, state.velocity))
        return tracks

    def expire(self, t_s: float) -> None:
        """Forget the tracks that have not been seen for too long."""
        self._states = [s for s in self._states if t_s - s.seen_s <= self._max_gap_s]

    def _begin(self, face: Face, t_s: float) -> _State:
        state = _State(self._next_id, face, t_s)
        self._next_id += 1
        self._states.append(state)
        return state

    def _move(self, state: _State, face: Face, t_s: float) -> _State:
        gap_s = max(t_s - state.seen_s, 1e-3)
        velocity = (_centre(face.box_px) - _centre(state.face.box_px)) / gap_s
        state.velocity = 0.5 * state.velocity + 0.5 * velocity
        state.face, state.seen_s, state.looks = face, t_s, state.looks + 1
        return state

    def _pairs(self, faces: list[Face], t_s: float) -> list[tuple[int, int]]:
        """Return (state, face) index pairs, best first, each index at most once."""
        if not faces or not self._states:
            return []
        score = np.array([[self._affinity(s, f, t_s) for f in faces] for s in self._states])  # (S, F), −1: impossible
        pairs = []
        while (best := np.unravel_index(np.argmax(score), score.shape)) and score[best] >= 0:
            pairs.append((int(best[0]), int(best[1])))
            score[best[0], :] = -1
            score[:, best[1]] = -1
        return pairs

    @staticmethod
    def _affinity(state: _State, face: Face, t_s: float) -> float:
        """Return 0..2 where the face may continue the track, else −1; larger is likelier."""
        ratio = float(face.box_px[3] / max(state.face.box_px[3], 1e-6))
        if not 1 / _MAX_SIZE_RATIO <= ratio <= _MAX_SIZE_RATIO:
            return -1.0
        expected = state.face.box_px.astype(np.float64)
        expected[:2] += state.velocity * min(t_s - state.seen_s, 0.5)  # a velocity is not valid over longer gaps
        overlap = _iou(expected, face.box_px)
        shift = float(np.hypot(*(_centre(face.box_px) - _centre(expected)))) / max(float(expected[2]), 1e-6)
        if overlap < _MIN_IOU and shift > _MAX_CENTRE_SHIFT:
            return -1.0
        return overlap + max(0.0, 1.0 - shift)


def _centre(box_px: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(box_px[:2] + box_px[2:] / 2, np.float64)


def _iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the intersection over union of two (x, y, width, height) boxes, 0..1."""
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.clip(sides, 0, None)))
    union = float(a[2] * a[3] + b[2] * b[3]) - shared
    return shared / union if union > 0 else 0.0
