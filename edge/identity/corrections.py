"""Corrections by the owner: keeps the latest visits and wrong matches, in memory only, for `keep_s` seconds.

A visit is kept as the mean embedding of its decision. A correction uses it once and deletes it. Visits without a
correction are deleted after `keep_s`. A wrong match applies for the same time: after "that was not Anna", a face that
is more similar to that visit than to Anna is not reported as Anna. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.errors import EnrolmentError
from edge.identity.memory import private_copy
from edge.records import Decision, Match
from edge.stages import Matcher

_MOST = 64  # largest number of visits, and of wrong matches; the oldest are deleted first

Likeness = Callable[[NDArray[np.float32], NDArray[np.float32]], float]
"""Normalised score of two mean embeddings, (D,) each, on the scale of `Match.score`."""


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One visit that was reported."""

    person: str | None  # opaque id; None: reported as unknown
    t_s: float  # when it was decided
    live: bool | None
    evidence: NDArray[np.float32] = field(repr=False)  # (D,) mean of unit embeddings, in memory of its own

    @property
    def direction(self) -> NDArray[np.float32]:
        """(1, D) float32, a unit row: the visit as a template."""
        return np.asarray(self.evidence[None] / np.linalg.norm(self.evidence), np.float32)


class Visits:
    """The visits and the wrong matches of the last `keep_s` seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._visits: deque[Visit] = deque(maxlen=_MOST)
        self._wrong: deque[Visit] = deque(maxlen=_MOST)  # visits that were not of their `person`

    def note(self, decision: Decision) -> None:
        """Keep the visit of a `match` or an `unknown`, if `keep_s` is above 0."""
        if self._keep_s > 0 and decision.evidence is not None:
            evidence = private_copy(decision.evidence, np.float32)
            self._visits.append(Visit(decision.person, decision.t_s, decision.live, evidence))

    def expire(self, now_s: float) -> None:
        """Delete visits older than `keep_s`."""
        for kept in (self._visits, self._wrong):
            while kept and now_s - kept[0].t_s > self._keep_s:
                kept.popleft()

    def last(self, person: str | None) -> Visit:
        """Return the last visit that was reported as this person, None: as unknown; raises EnrolmentError."""
        if self._keep_s <= 0:
            remedy = "set [people] correct_min to the minutes for which visits are to be kept in memory"
            raise EnrolmentError("visits are not kept for corrections", remedy)
        found = next((visit for visit in reversed(self._visits) if visit.person == person), None)
        if found is None:
            what = "unknown" if person is None else f"match of {person}"
            remedy = f"a visit can be corrected for {self._keep_s / 60:g} minutes, once ([people] correct_min)"
            raise EnrolmentError(f"no {what} is remembered", remedy)
        return found

    def forget(self, visit: Visit) -> None:
        """Delete a corrected visit."""
        self._visits = deque((kept for kept in self._visits if kept is not visit), _MOST)

    def deny(self, visit: Visit) -> None:
        """Keep a visit that was reported as the wrong person."""
        self._wrong.append(visit)

    def forget_all(self) -> None:
        """Delete all visits."""
        self._visits.clear()
        self._wrong.clear()

    def denies(self, probe: NDArray[np.float32], match: Match, likeness: Likeness) -> bool:
        """Whether a face is more similar to a wrong match of this person than to the person."""
        denied = (visit for visit in self._wrong if visit.person == match.person)
        return match.person is not None and any(likeness(probe, v.evidence) > match.score for v in denied)


@dataclass(frozen=True, slots=True)
class CorrectedMatcher:
    """A matcher that applies the wrong matches in memory."""

    matcher: Matcher
    visits: Visits
    likeness: Likeness

    def match(self, probe: NDArray[np.float32]) -> Match:
        """Return the matcher's result, without a person if a correction denies it."""
        found = self.matcher.match(probe)
        if self.visits.denies(probe, found, self.likeness):
            return replace(found, person=None, band=None, ignored=False, rivals=())
        return found
