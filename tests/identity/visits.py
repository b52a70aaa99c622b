"""Drives `Encounters` with a list of what happens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.identity.encounters import Encounters
from edge.records import Decision, Embedding, FaceView, Match

DIMENSION = 8
ANNA = Match("p-anna", "certain", 0.8, 0.5, 0.4)
NOBODY = Match(None, None, 0.2, 0.5, 0.1)
IGNORED = Match("p-guest", "likely", 0.6, 0.5, 0.3, ignored=True)


def face(axis: int) -> Embedding:
    """Return one of several orthogonal embeddings."""
    return Embedding(np.eye(DIMENSION, dtype=np.float32)[axis], "model")


def same_face(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return float(one @ other) >= 0.5 * float(np.linalg.norm(one) * np.linalg.norm(other))


def view(live: bool | None) -> FaceView:
    """A view with the result that `judge` returns."""
    return FaceView(np.zeros((1, 1, 3), np.uint8), {True: 1.0, False: 0.0, None: 0.5}[live])


def is_live(views: Sequence[FaceView]) -> bool | None:
    return {1.0: True, 0.0: False, 0.5: None}[views[0].kept]


class Visit:
    """Feeds encounters with looks at simulated times, s."""

    def __init__(self, denied: frozenset[bool | None] = frozenset()) -> None:
        self.encounters = Encounters(
            min_embeddings=3,
            max_embeddings=5,
            timeout_s=4.0,
            same_face=same_face,
            is_live=is_live,
            denied=denied,
            recheck_s=3.0,
        )
        self.live: bool | None = True
        self.decisions: list[Decision] = []
        self.t_s = 0.0

    def show(self, track: int, axis: int, match: Match, times: int, step_s: float = 0.2) -> NDArray[np.float32]:
        evidence = np.zeros(DIMENSION, np.float32)
        for _ in range(times):
            self.t_s += step_s
            self.encounters.see([track], self.t_s)
            if self.encounters.wants(track, self.t_s):
                evidence = self.encounters.add(track, face(axis), self.t_s, view(self.live))
                self.decisions += self.encounters.decide(track, match, self.t_s)
            self.decisions += self.encounters.tick(self.t_s)
        return evidence

    def wait(self, seconds: float) -> None:
        self.t_s += seconds
        self.decisions += self.encounters.tick(self.t_s)

    @property
    def told(self) -> list[tuple[str, int, str | None]]:
        return [(d.event_type, d.encounter, d.person) for d in self.decisions]


def together(visit: Visit, shown: list[tuple[int, int, Match]], times: int, step_s: float = 0.2) -> None:
    """Show several (track, axis, match) in the same looks."""
    for _ in range(times):
        visit.t_s += step_s
        visit.encounters.see([track for track, _, _ in shown], visit.t_s)
        for track, axis, match in shown:
            if visit.encounters.wants(track, visit.t_s):
                visit.encounters.add(track, face(axis), visit.t_s)
                visit.decisions += visit.encounters.decide(track, match, visit.t_s)
        visit.decisions += visit.encounters.tick(visit.t_s)


def reasons(visit: Visit) -> list[str]:
    return [silence.reason for silence in visit.encounters.silences()]
