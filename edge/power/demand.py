"""How the day goes: the share of time with faces in view, and the share of its rate that each stage uses. Sans-IO.

Both are means with exponential forgetting over some hours. They start from a guess that weighs as much as half an hour
of observation. A quiet morning lowers the expectation for the rest of the day, but not for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.power.readings import PerDemand, Usage, each
from edge.records import Rates

MEET_S = 8.0  # after this time an undecided face gets the rates of a decided face: it is turned away or too dark
_MEMORY_S = 2.0 * 3600.0
_GUESS_S = 1800.0  # weight of the guess
_SHARES = PerDemand(0.88, 0.02, 0.10)  # an ordinary office day
_USE = PerDemand(0.5, 1.0, 1.0)  # looks per look allowed: where nothing moves, the schedule looks seldom
_SECONDS = each(lambda share: _GUESS_S * share, _SHARES)
_LOOKS = each(lambda seconds, use: seconds * use, _SECONDS, _USE)
_EMBED_USE = 0.2  # embeddings per embedding allowed while faces are in view
_LEAST_SHARE, _LEAST_USE = 0.002, 0.02


@dataclass(slots=True)
class Day:
    """The means."""

    _seconds: PerDemand[float] = _SECONDS
    _looks: PerDemand[float] = _LOOKS
    _allowed: PerDemand[float] = _SECONDS
    _embeddings: float = _GUESS_S * (_SHARES.meet + _SHARES.follow) * _EMBED_USE
    _embeddings_allowed: float = _GUESS_S * (_SHARES.meet + _SHARES.follow)

    def add(self, usage: Usage, rates: PerDemand[Rates]) -> None:
        """Take the usage under these rates."""
        keep = math.exp(-max(usage.duration_s, 0.0) / _MEMORY_S)

        def mean(old: float, new: float) -> float:
            return keep * old + new

        self._seconds = each(mean, self._seconds, usage.seconds)
        self._looks = each(mean, self._looks, usage.looks)
        allowed = each(lambda seconds, rate: seconds * rate.detector_hz, usage.seconds, rates)
        self._allowed = each(mean, self._allowed, allowed)
        self._embeddings = mean(self._embeddings, usage.embeddings)
        faces_s = usage.seconds.meet + usage.seconds.follow
        self._embeddings_allowed = mean(self._embeddings_allowed, faces_s * rates.meet.embeddings_hz)

    @property
    def shares(self) -> PerDemand[float]:
        """Share of the time that each demand takes; together 1 or a little more."""
        total = max(sum(self._seconds), 1e-9)
        return each(lambda seconds: max(seconds / total, _LEAST_SHARE), self._seconds)

    @property
    def use(self) -> PerDemand[float]:
        """Looks per look allowed."""

        def used(looks: float, allowed: float) -> float:
            return min(max(looks / max(allowed, 1e-9), _LEAST_USE), 1.2)

        return each(used, self._looks, self._allowed)

    @property
    def embed_use(self) -> float:
        """Embeddings per embedding allowed while faces are in view."""
        return min(max(self._embeddings / max(self._embeddings_allowed, 1e-9), _LEAST_USE), 1.2)
