"""Per-track decision: several embeddings become one `match` or `unknown`, and one `end`, for each encounter.

An encounter is one visit of one person, with any number of frames and tracks:

    gathering ──evidence──▶ decided (match | unknown | silent) ──not seen for timeout──▶ over (`end`)

A track belongs to one encounter. A later track of the same person (the same identity, or a close embedding) joins an
encounter that is still open, and nothing is reported again. Two tracks that were seen in one look are two people and
never join. The tracker may pass from one face to another when two people cross. A decided face is therefore embedded
again from time to time. If it has become another face, its track leaves the encounter and begins a new one.

Liveness is checked before an encounter is reported. The encounters of a person and of a picture of that person never
join. Where the owner denies pictures, the encounter of a picture gives no event, however long the picture is in view.

Every encounter that ends without an event leaves a `Silence` with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.records import Band, Decision, Embedding, FaceView, Match, Silence, Standing

_PATIENCE_S = 2.0  # how long an encounter waits for a new embedding of another one

Verdict = Literal["gathering", "match", "unknown", "silent"]
IsLive = Callable[[Sequence[FaceView]], bool | None]  # Liveness.judge
SameFace = Callable[[NDArray[np.float32], NDArray[np.float32]], bool]  # of two means of unit embeddings, (D,) each


@dataclass(slots=True, eq=False)
class _Encounter:
    began_s: float
    seen_s: float
    tracks: set[int]
    total: NDArray[np.float32] | None = None  # (D,) sum of the unit embeddings; None before the first
    count: int = 0
    looks: int = 0
    embedded_s: float = float("-inf")
    verdict: Verdict = "gathering"
    number: int = 0  # 0 until it is reported
    person: str | None = None
    last_match: Match | None = None
    recheck: bool = False  # whether another encounter waits for the next embedding of this one
    waits_since_s: float | None = None  # start of its own wait for such an embedding
    views: list[FaceView] = field(default_factory=list)  # of the embedded shots, until the verdict
    live: bool | None = None
    refused: Counter[str] = field(default_factory=Counter)  # number of unfit looks for each reason

    @property
    def mean(self) -> NDArray[np.float32] | None:
        """Mean of the unit embeddings, not normalised: its norm shows how much independent evidence it holds."""
        return None if self.total is None else self.total / np.float32(self.count)

    @property
    def decided(self) -> bool:
        """Whether it has a verdict."""
        return self.verdict != "gathering"


class Encounters:
    """Gathers evidence, decides, and reports each visit once.

    `min_embeddings`: least number of embeddings of a match; a visit with fewer is never decided.
    `max_embeddings`: after this number without a match, or at the end of the visit, the face is unknown.
    `timeout_s`: an encounter ends after this time without the person in view.
    `same_face`: whether two mean embeddings are of the same face.
    `is_live`: whether the face of some views is live; None: unknown.
    `denied`: the answers of `is_live` with which an encounter gives no event.
    `recheck_s`: time after which a decided face is embedded again.
    """

    def __init__(
        self,
        *,
        min_embeddings: int,
        max_embeddings: int,
        timeout_s: float,
        same_face: SameFace,
        is_live: IsLive,
        denied: Collection[bool | None] = (),
        recheck_s: float = 3.0,
    ) -> None:
        self._min = min_embeddings
        self._max = max(max_embeddings, min_embeddings)
        self._timeout_s = timeout_s
        self._same_face = same_face
        self._is_live, self._denied = is_live, denied
        self._recheck_s = recheck_s
        self._open: list[_Encounter] = []
        self._of_track: dict[int, _Encounter] = {}
        self._beside: dict[int, set[int]] = {}  # track → tracks that were seen in one look with it
        self._reported = 0
        self.live_checks = 0  # runs of the liveness model
        self.pictures = 0  # encounters whose face was not live
        self._silences: list[Silence] = []

    def decided(self, track_id: int) -> bool:
        """Whether this track's encounter has a verdict."""
        encounter = self._of_track.get(track_id)
        return encounter is not None and encounter.decided

    def standing(self, track_id: int) -> Standing | None:
        """Return the state of a track's encounter; None: the track has not been seen often enough to count."""
        encounter = self._of_track.get(track_id)
        if encounter is None:
            return None
        return Standing(encounter.verdict, encounter.count, encounter.last_match, encounter.live)

    def wants(self, track_id: int, t_s: float) -> bool:
        """Whether another embedding of this track is worth its energy; for a decided face only every `recheck_s`."""
        encounter = self._of_track.get(track_id)
        if encounter is None or not encounter.decided or encounter.recheck:
            return True
        return t_s - encounter.embedded_s >= self._recheck_s

    def missing(self, track_id: int) -> int:
        """Return how many embeddings of this track a decision still needs at least; 0: no decision needs one."""
        encounter = self._of_track.get(track_id)
        if encounter is None:
            return self._min
        if encounter.decided:
            return 1 if encounter.recheck else 0
        return max(0, self._min - encounter.count)

    def mirrors(self, track_id: int) -> bool:
        """Whether the next embedding of this track should be of the mirrored face: every second one.

        A mirrored face shows the same person, and adds more evidence than a second embedding of a similar picture.
        """
        encounter = self._of_track.get(track_id)
        return encounter is not None and encounter.count % 2 == 1

    def see(self, track_ids: Collection[int], t_s: float) -> None:
        """Record the tracks of one look: each is another person."""
        together = set(track_ids)
        for track_id in track_ids:
            self._beside.setdefault(track_id, set()).update(together - {track_id})
            encounter = self._of_track.get(track_id) or self._begin(track_id, t_s)
            encounter.seen_s = max(encounter.seen_s, t_s)
            encounter.looks += 1

    def refuse(self, track_id: int, reasons: Collection[str]) -> None:
        """Record why the face of a track in view cannot be embedded now."""
        if (encounter := self._of_track.get(track_id)) is not None:
            encounter.refused.update(reasons)

    def add(self, track_id: int, embedding: Embedding, t_s: float, view: FaceView | None = None) -> NDArray[np.float32]:
        """Add evidence and return the mean embedding of the encounter so far, (D,) float32, for the matcher.

        `view` shows whether the face is live.
        """
        encounter = self._of_track.get(track_id) or self._begin(track_id, t_s)
        if encounter.decided and not self._is_of(encounter, embedding.vector):
            encounter.recheck = False
            self._leave(track_id, encounter)
            encounter = self._begin(track_id, t_s)
        elif encounter.count == 0:
            encounter = self._resumed(encounter, embedding.vector)
        encounter.total = embedding.vector if encounter.total is None else encounter.total + embedding.vector
        encounter.count += 1
        if view is not None and not encounter.decided:
            encounter.views.append(view)
        encounter.recheck = False
        encounter.seen_s = encounter.embedded_s = max(encounter.seen_s, t_s)
        return encounter.total / np.float32(encounter.count)

    def decide(self, track_id: int, match: Match, t_s: float) -> list[Decision]:
        """Take the matcher's result for the mean embedding; return the decision that it completes, if any."""
        encounter = self._of_track[track_id]
        encounter.last_match = match
        enough = encounter.count >= (self._min if match.person is not None else self._max)
        if encounter.decided or not enough or self._must_wait(encounter, match, t_s):
            return []
        return self._conclude(encounter, match, t_s)

    def judge(self, faces: Sequence[tuple[NDArray[np.float32], Match, FaceView | None]], t_s: float) -> list[Decision]:
        """Decide the faces of one picture, each an encounter that ends with it. All open encounters end before.

        `faces` are the mean embeddings, (D,) float32 each, with the matcher's result and a view for liveness. Faces
        with the highest lead over their threshold are decided first.
        """
        decisions = self.finish()
        ranked = sorted(faces, key=lambda face: face[1].threshold - face[1].score)
        here = [
            _Encounter(t_s, t_s, {-i}, mean, 1, 1, last_match=match, views=[] if view is None else [view])
            for i, (mean, match, view) in enumerate(ranked, 1)
        ]
        self._beside = {-i: {-j for j in range(1, len(here) + 1)} - {-i} for i in range(1, len(here) + 1)}
        for encounter, (_, match, _view) in zip(here, ranked, strict=True):
            self._open.append(encounter)
            decisions += self._conclude(encounter, match, t_s)
        return decisions + self.finish()

    def tick(self, t_s: float) -> list[Decision]:
        """Close the encounters whose face has left; return their late decisions and their ends, oldest first."""
        return self._close([e for e in self._open if t_s - e.seen_s > self._timeout_s])

    def finish(self) -> list[Decision]:
        """Close everything, as when the source has ended."""
        return self._close(list(self._open))

    def silences(self) -> list[Silence]:
        """Return, once, why encounters that ended since the last call gave no event."""
        silences, self._silences = self._silences, []
        return silences

    def _begin(self, track_id: int, t_s: float) -> _Encounter:
        encounter = _Encounter(t_s, t_s, {track_id})
        self._open.append(encounter)
        self._of_track[track_id] = encounter
        return encounter

    def _leave(self, track_id: int, encounter: _Encounter) -> None:
        """Remove a track from its encounter: it shows another face now, so its looks with other tracks do not count."""
        encounter.tracks.discard(track_id)
        for other in self._beside.pop(track_id, ()):
            self._beside.get(other, set()).discard(track_id)

    def _close(self, over: list[_Encounter]) -> list[Decision]:
        decisions: list[Decision] = []
        for encounter in sorted(over, key=lambda e: e.seen_s):
            match = encounter.last_match
            if not encounter.decided:
                if encounter.count >= self._min and match is not None:
                    decisions += self._conclude(encounter, match, encounter.seen_s)
                elif encounter.tracks:
                    self._keep_silent(encounter, "undecided")
            if encounter in self._open:
                self._forget(encounter)
                if encounter.number:
                    decisions.append(Decision("end", encounter.number, encounter.person, None, encounter.seen_s))
        return decisions

    def _conclude(self, encounter: _Encounter, match: Match, t_s: float) -> list[Decision]:
        encounter.live = self._liveness(encounter, match)
        others = list(self._same(encounter, match))
        for other in others:
            if not self._are_two_people(encounter, other) and self._are_same_kind(encounter, other):
                self._join(encounter, other)
                return []
        if match.ignored:
            return self._keep_silent(encounter, "ignored")
        self.pictures += encounter.live is False
        if encounter.live in self._denied:
            return self._keep_silent(encounter, "picture" if encounter.live is False else "not surely live")
        person = match.person
        if person is None and match.rivals:
            return self._keep_silent(encounter, "margin")
        # people in view together with this face, without pictures of them
        others = [other for other in others if self._are_two_people(encounter, other) and other.live is not False]
        here = {other.person for other in others}
        if person is not None and person in here:
            if any(other.person == person and self._are_same(encounter, other) for other in others):
                return self._keep_silent(encounter, "twice in view")  # a mirror or a photo of a person in view
            person = next((rival for rival in match.rivals if rival not in here), None)
        band = match.band if person == match.person else "likely"
        return self._report(encounter, person, None if person is None else band, t_s)

    def _report(self, encounter: _Encounter, person: str | None, band: Band | None, t_s: float) -> list[Decision]:
        verdict: Literal["match", "unknown"] = "unknown" if person is None else "match"
        self._reported += 1
        encounter.verdict, encounter.person, encounter.number = verdict, person, self._reported
        return [Decision(verdict, encounter.number, person, band, t_s, encounter.live, encounter.mean)]

    def _liveness(self, encounter: _Encounter, match: Match) -> bool | None:
        """Return whether the face is live. An ignored person is not checked."""
        views, encounter.views = encounter.views, []
        if match.ignored or not views:
            return None
        self.live_checks += 1
        return self._is_live(views)

    def _keep_silent(self, encounter: _Encounter, reason: str) -> list[Decision]:
        match = encounter.last_match
        encounter.verdict, encounter.person = "silent", None if match is None else match.person
        if reason != "ignored":  # an ignored person leaves no record
            seen_s, refused = encounter.seen_s, tuple(encounter.refused.most_common())
            self._silences.append(Silence(reason, seen_s, encounter.looks, encounter.count, refused))
        return []

    def _same(self, encounter: _Encounter, match: Match) -> Iterator[_Encounter]:
        """Yield the decided encounters that may be of the same person."""
        people = {match.person, *match.rivals} - {None}
        for other in self._open:
            if other is encounter or not other.decided:
                continue
            if other.person in people or (match.person is None and self._are_same(encounter, other)):
                yield other

    def _must_wait(self, encounter: _Encounter, match: Match, t_s: float) -> bool:
        """Whether another encounter in view needs a new embedding before this one is decided.

        Two faces in view that match one person may be two tracks that have swapped their people.
        """
        stale = [
            other
            for other in self._same(encounter, match)
            if other.embedded_s < encounter.began_s and self._are_two_people(encounter, other)
        ]
        if not stale:
            return False
        if encounter.waits_since_s is None:
            encounter.waits_since_s = t_s
        waits = t_s - encounter.waits_since_s < _PATIENCE_S
        for other in stale:
            other.recheck = waits
        return waits

    def _resumed(self, encounter: _Encounter, vector: NDArray[np.float32]) -> _Encounter:
        """Return the encounter of a track's first embedding: an interrupted one of this face, or the track's own."""
        for other in self._open:
            if other is encounter or other.decided or self._are_two_people(encounter, other):
                continue
            if self._is_of(other, vector):
                self._join(encounter, other)
                return other
        return encounter

    def _is_of(self, encounter: _Encounter, vector: NDArray[np.float32]) -> bool:
        return encounter.mean is not None and self._same_face(vector, encounter.mean)

    def _are_same(self, one: _Encounter, other: _Encounter) -> bool:
        return one.mean is not None and other.mean is not None and self._same_face(one.mean, other.mean)

    def _are_two_people(self, one: _Encounter, other: _Encounter) -> bool:
        """Whether both were in view in one look."""
        return any(not self._beside.get(track_id, set()).isdisjoint(other.tracks) for track_id in one.tracks)

    def _are_same_kind(self, one: _Encounter, other: _Encounter) -> bool:
        """Whether both are pictures or neither is, and both are denied or neither is."""
        pictures = (one.live is False) == (other.live is False)
        return pictures and (one.live in self._denied) == (other.live in self._denied)

    def _join(self, encounter: _Encounter, other: _Encounter) -> None:
        """Move the tracks of one encounter to the other."""
        self._open.remove(encounter)
        other.seen_s = max(other.seen_s, encounter.seen_s)
        other.looks += encounter.looks
        other.refused += encounter.refused
        other.tracks |= encounter.tracks
        for track_id in encounter.tracks:
            self._of_track[track_id] = other

    def _forget(self, encounter: _Encounter) -> None:
        self._open.remove(encounter)
        for track_id in encounter.tracks:
            self._of_track.pop(track_id, None)
            for other in self._beside.pop(track_id, ()):
                self._beside.get(other, set()).discard(track_id)
