"""Counters of a pipeline: its work, and the reasons why looks and encounters give no event, with their last times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Count:
    """Count of a reason, and its last time."""

    count: int = 0
    last_s: float = float("-inf")  # on the clock of the frames


@dataclass(slots=True)
class Reasons:
    """The counts since the start. No clock, no I/O: times are the frames'."""

    counts: dict[str, Count] = field(default_factory=dict)

    def note(self, reasons: Iterable[str], t_s: float) -> None:
        """Count each of these reasons once."""
        for reason in reasons:
            count = self.counts.setdefault(reason, Count())
            count.count += 1
            count.last_s = t_s


@dataclass(slots=True)
class Counters:
    """The work of the pipeline so far."""

    frames: int = 0
    looks: int = 0  # runs of the detector
    faces: int = 0  # faces that passed the confidence and size gate
    embeddings: int = 0
    live_checks: int = 0  # runs of the liveness model: one a decision
    pictures: int = 0  # encounters whose face was not live
