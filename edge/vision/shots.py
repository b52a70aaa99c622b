"""The best shot of each track, and which of them the embedder gets next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.records import Frame, Quality, Shot

_HURRY_S = 1.5  # a face that leaves within this time comes first, if it can still be decided
_STALE_S = 3.0  # the shot of a face that has been out of view for longer is dropped
_CROWD = 2  # from this many waiting undecided faces on the saved rate is spent


class Track(Protocol):
    """The part of a track that this stage uses."""

    @property
    def id(self) -> int: ...  # noqa: D102

    def leaves_in_s(self, frame: Frame) -> float: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class _Held:
    since_s: float
    seen_s: float
    quality: float
    shot: Shot
    missing: int
    leaves_s: float  # when the face will have left the view, on the frames' clock


class BestShots:
    """Keep the best shot of each track within a window, so that the embedder runs on it and not on every frame.

    A window begins with the first fit shot and ends after `window_s`. One shot is handed out at a time, and no two
    within `min_interval_s`, the rate that the power governor sets. Shots that the rate allowed earlier and that were
    not used are saved, up to `burst`. Where several undecided faces wait, saved shots are handed out without an
    interval. Over longer times the rate holds.

    The order decides the most people: first faces that are about to leave and can still be decided, then those that
    need the fewest further embeddings, then those that have waited longest. Faces that need no embedding come last.
    """

    def __init__(self, window_s: float, min_interval_s: float, burst: int = 0) -> None:
        self._window_s = window_s
        self._min_interval_s = min_interval_s
        self._burst = float(burst)
        self._saved = self._burst  # shots that may be handed out beyond the rate
        self._shots: dict[int, _Held] = {}
        self._handed_s = float("-inf")

    def set_rate(self, embeddings_hz: float) -> None:
        """Hand out at most `embeddings_hz` shots a second."""
        self._min_interval_s = 1.0 / embeddings_hz

    def wants(self, track_id: int, quality: Quality, t_s: float) -> bool:
        """Record that a track is in view and fit; return whether its crop of this look is better than the held one."""
        held = self._shots.get(track_id)
        if held is not None:
            held.seen_s = t_s
        return held is None or quality.score > held.quality

    def offer(self, track: Track, shot: Shot, quality: Quality, frame: Frame, missing: int) -> None:
        """Keep one fit shot of a track if it is the best; `missing`: embeddings that the decision still needs."""
        leaves_s = frame.t_s + track.leaves_in_s(frame)
        held = self._shots.get(track.id)
        if held is None:
            self._shots[track.id] = _Held(frame.t_s, frame.t_s, quality.score, shot, missing, leaves_s)
        elif quality.score > held.quality:
            held.quality, held.shot, held.leaves_s = quality.score, shot, leaves_s

    def take(self, t_s: float) -> tuple[int, Shot] | None:
        """Return the first track in the queue whose window is over, with its best shot; None where there is none."""
        self._shots = {i: held for i, held in self._shots.items() if t_s - held.seen_s <= _STALE_S}
        due = {i: held for i, held in self._shots.items() if t_s - held.since_s >= self._window_s - 1e-6}
        if not due or not self._may_hand_out(t_s):
            return None
        track_id = min(due, key=lambda i: self._place(due[i], t_s))
        return track_id, self._shots.pop(track_id).shot

    def _may_hand_out(self, t_s: float) -> bool:
        """Return whether the rate allows a shot now, and record it if so."""
        waited = (t_s - self._handed_s) / self._min_interval_s
        punctual = waited >= 1.0 - 1e-6
        crowd = sum(held.missing > 0 for held in self._shots.values()) >= _CROWD
        saved = min(self._saved + waited, self._burst)
        if not punctual and not (crowd and saved >= 1.0):
            return False
        self._saved = max(saved - 1.0, 0.0)
        self._handed_s = t_s
        return True

    def _place(self, held: _Held, t_s: float) -> tuple[int, float, float]:
        """Return the place in the queue; the smallest comes first."""
        if held.missing <= 0:
            return 3, 0.0, held.since_s
        left_s, needed_s = held.leaves_s - t_s, (held.missing - 1) * self._window_s
        if left_s < needed_s:
            return 2, float(held.missing), held.since_s
        return (0 if left_s < _HURRY_S else 1), float(held.missing), held.since_s
