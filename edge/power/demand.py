"""How the day goes: which share of it faces are in view, and how much of its rate each stage really uses. Sans-IO.

Both are means that forget over some hours and start from a guess worth half an hour: a quiet morning makes the rest of
the day look quiet, but not for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge.power.readings import Usage
from edge.records import Rates

MEET_S = 8.0  # a face that is not decided by then is looked at as a decided one is: it is turned away or too dark
_MEMORY_S = 2.0 * 3600.0
_GUESS_S = 1800.0  # how much the guess weighs
_SHARES = (0.88, 0.02, 0.10)  # no face, an undecided one, decided ones: an ordinary office day
_USE = (0.5, 1.0, 1.0)  # looks per look allowed: where nothing moves, the schedule looks seldom
_EMBED_USE = 0.2  # embeddings per embedding allowed while faces are in view
_LEAST_SHARE, _LEAST_USE = 0.002, 0.02


@dataclass(slots=True)
class Day:
    """The means. Lists are in the order of DEMANDS."""

    _seconds: list[float] = field(default_factory=lambda: [_GUESS_S * share for share in _SHARES])
    _looks: list[float] = field(default_factory=lambda: [_GUESS_S * s * u for s, u in zip(_SHARES, _USE, strict=True)])
    _allowed: list[float] = field(default_factory=lambda: [_GUESS_S * share for share in _SHARES])
    _embeddings: float = _GUESS_S * (_SHARES[1] + _SHARES[2]) * _EMBED_USE
    _embeddings_allowed: float = _GUESS_S * (_SHARES[1] + _SHARES[2])

    def add(self, usage: Usage, rates: tuple[Rates, Rates, Rates]) -> None:
        """Take what was done under these rates."""
        keep = math.exp(-max(usage.duration_s, 0.0) / _MEMORY_S)
        for i in range(3):
            self._seconds[i] = keep * self._seconds[i] + usage.seconds[i]
            self._looks[i] = keep * self._looks[i] + usage.looks[i]
            self._allowed[i] = keep * self._allowed[i] + usage.seconds[i] * rates[i].detector_hz
        faces_s = usage.seconds[1] + usage.seconds[2]
        self._embeddings = keep * self._embeddings + usage.embeddings
        self._embeddings_allowed = keep * self._embeddings_allowed + faces_s * rates[1].embeddings_hz

    @property
    def shares(self) -> tuple[float, float, float]:
        """Share of the time that each demand takes; together 1 or a little more."""
        total = max(sum(self._seconds), 1e-9)
        a, b, c = (max(seconds / total, _LEAST_SHARE) for seconds in self._seconds)
        return a, b, c

    @property
    def use(self) -> tuple[float, float, float]:
        """Looks per look allowed."""
        a, b, c = (
            min(max(looks / max(allowed, 1e-9), _LEAST_USE), 1.2)
            for looks, allowed in zip(self._looks, self._allowed, strict=True)
        )
        return a, b, c

    @property
    def embed_use(self) -> float:
        """Embeddings per embedding allowed while faces are in view."""
        return min(max(self._embeddings / max(self._embeddings_allowed, 1e-9), _LEAST_USE), 1.2)
