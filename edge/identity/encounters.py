"""Per-track decision: several embeddings become one `match` or `unknown`, and one `end`, for each encounter.

An encounter is one visit of one person, however many frames or tracks it lasted:

    gathering ──evidence──▶ decided (match | unknown | ignored) ──not seen for timeout──▶ over (`end`)

A track belongs to one encounter. Where a later track turns out to be the same person as an encounter that is still
open (the same identity, or a close embedding), it joins that encounter and nothing is reported again. The tracker may
follow from one face to another when two people cross: a decided face is looked at again now and then, and where it has
become another face, its track leaves the encounter and is gathered anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.records import Decision, Embedding, EventType, Match

Verdict = Literal["gathering", "match", "unknown", "ignored"]


@dataclass(slots=True, eq=False)
class _Encounter:
    seen_s: float
    total: NDArray[np.float32]  # (D,) sum of the unit embeddings
    count: int = 0
    embedded_s: float = float("-inf")
    verdict: Verdict = "gathering"
    number: int = 0  # 0 until it is reported
    person: str | None = None
    last_match: Match | None = None
    tracks: set[int] = field(default_factory=set)

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the unit embeddings, not renormalized: its norm tells the matcher how much it knows."""
        return self.total / np.float32(max(self.count, 1))

    @property
    def direction(self) -> NDArray[np.float32]:
        """The same as a unit vector."""
        return self.total / np.float32(max(float(np.linalg.norm(self.total)), 1e-12))


class Encounters:
    """Gather evidence, decide, and report each visit once.

    `min_embeddings`: as soon as so many agree on a person, it is a match; a visit with fewer is never decided.
    `max_embeddings`: after so many without a match, or at the end of the visit, the face is unknown.
    `timeout_s`: an encounter ends when the person has not been seen for so long.
    `same_face_cosine`: mean embeddings of two encounters this close are the same face.
    `recheck_s`: how long a decided face is taken for granted.
    """

    def __init__(
        self,
        *,
        min_embeddings: int,
        max_embeddings: int,
        timeout_s: float,
        same_face_cosine: float,
        recheck_s: float = 3.0,
    ) -> None:
        self._min = min_embeddings
        self._max = max(max_embeddings, min_embeddings)
        self._timeout_s = timeout_s
        self._same_face_cosine = same_face_cosine
        self._recheck_s = recheck_s
        self._open: list[_Encounter] = []
        self._of_track: dict[int, _Encounter] = {}
        self._reported = 0

    def decided(self, track_id: int) -> bool:
        """Whether it is known, for now, who this track is, or that nobody knows."""
        encounter = self._of_track.get(track_id)
        return encounter is not None and encounter.verdict != "gathering"

    def wants(self, track_id: int, t_s: float) -> bool:
        """Whether another embedding of this track is worth its energy: of a decided face only now and then."""
        encounter = self._of_track.get(track_id)
        if encounter is None or encounter.verdict == "gathering":
            return True
        return t_s - encounter.embedded_s >= self._recheck_s

    def mirrors(self, track_id: int) -> bool:
        """Whether the next embedding of this track should be of the mirrored face: every second one.

        A mirrored face is the same person, and says more about who it is than the same picture once more.
        """
        encounter = self._of_track.get(track_id)
        return encounter is not None and encounter.count % 2 == 1

    def seen(self, track_id: int, t_s: float) -> None:
        """Note that the face of a track is in view."""
        encounter = self._of_track.get(track_id)
        if encounter is not None:
            encounter.seen_s = max(encounter.seen_s, t_s)

    def add(self, track_id: int, embedding: Embedding, t_s: float) -> NDArray[np.float32]:
        """Add evidence and return the mean embedding of the encounter so far, (D,) float32, for the matcher."""
        encounter = self._of_track.get(track_id)
        if encounter is not None and encounter.verdict != "gathering" and not self._continues(encounter, embedding):
            encounter.tracks.discard(track_id)
            encounter = None
        if encounter is None:
            encounter = _Encounter(t_s, np.zeros_like(embedding.vector), tracks={track_id})
            self._open.append(encounter)
            self._of_track[track_id] = encounter
        encounter.total = encounter.total + embedding.vector
        encounter.count += 1
        encounter.seen_s = encounter.embedded_s = max(encounter.seen_s, t_s)
        return encounter.mean

    def decide(self, track_id: int, match: Match, t_s: float) -> list[Decision]:
        """Take the matcher's word on the mean embedding; returns the decision that it completes, if any."""
        encounter = self._of_track[track_id]
        encounter.last_match = match
        enough = encounter.count >= (self._min if match.person is not None else self._max)
        if encounter.verdict != "gathering" or not enough:
            return []
        return self._conclude(encounter, match, t_s)

    def tick(self, t_s: float) -> list[Decision]:
        """Close the encounters whose face has gone; returns their late decisions and their ends, oldest first."""
        return self._close([e for e in self._open if t_s - e.seen_s > self._timeout_s])

    def finish(self) -> list[Decision]:
        """Close everything, as when the source has ended."""
        return self._close(list(self._open))

    def _close(self, over: list[_Encounter]) -> list[Decision]:
        decisions: list[Decision] = []
        for encounter in sorted(over, key=lambda e: e.seen_s):
            match = encounter.last_match
            if encounter.verdict == "gathering" and encounter.count >= self._min and match is not None:
                decisions += self._conclude(encounter, match, encounter.seen_s)
            if encounter in self._open:
                self._forget(encounter)
                if encounter.number:
                    decisions.append(Decision("end", encounter.number, encounter.person, None, encounter.seen_s))
        return decisions

    def _conclude(self, encounter: _Encounter, match: Match, t_s: float) -> list[Decision]:
        verdict: Verdict = "ignored" if match.ignored else "unknown" if match.person is None else "match"
        twin = self._twin(encounter, verdict, match.person)
        if twin is not None:
            self._join(encounter, twin)
            return []
        encounter.verdict, encounter.person = verdict, match.person
        if match.ignored:
            return []
        self._reported += 1
        encounter.number = self._reported
        event_type: EventType = "unknown" if match.person is None else "match"
        return [Decision(event_type, encounter.number, match.person, match.band, t_s)]

    def _twin(self, encounter: _Encounter, verdict: Verdict, person: str | None) -> _Encounter | None:
        """Return the open encounter with the same person, if there is one."""
        for other in self._open:
            if other is encounter or other.verdict == "gathering":
                continue
            if person is not None and (other.verdict, other.person) == (verdict, person):
                return other
            if person is None and float(encounter.direction @ other.direction) >= self._same_face_cosine:
                return other
        return None

    def _continues(self, encounter: _Encounter, embedding: Embedding) -> bool:
        return float(encounter.direction @ embedding.vector) >= self._same_face_cosine

    def _join(self, encounter: _Encounter, other: _Encounter) -> None:
        """Let the tracks of one encounter go on as the other."""
        self._open.remove(encounter)
        other.seen_s = max(other.seen_s, encounter.seen_s)
        other.tracks |= encounter.tracks
        for track_id in encounter.tracks:
            self._of_track[track_id] = other

    def _forget(self, encounter: _Encounter) -> None:
        self._open.remove(encounter)
        for track_id in encounter.tracks:
            self._of_track.pop(track_id, None)
