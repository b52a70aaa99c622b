"""What power sensors tell, and what the vision process has done: the governor's input. What is not known is None."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from edge.vocabulary import Supply

Demand = Literal["watch", "meet", "follow"]


_T = TypeVar("_T")


class PerDemand(NamedTuple, Generic[_T]):
    """One value for each demand."""

    watch: _T  # no face in view
    meet: _T  # a face nobody has decided on
    follow: _T  # only faces that are decided


def each(function: Callable[..., _T], *values: PerDemand[Any]) -> PerDemand[_T]:
    """Return what a function makes of the values of each demand."""
    return PerDemand(*map(function, *values))


@dataclass(frozen=True, slots=True)
class Measured:
    """One quantity as one sensor gave it."""

    value: float
    unit: str
    source: str  # the file, register or line it came from
    t_s: float  # monotonic clock

    def age_s(self, now_s: float) -> float:
        """Return how old it is."""
        return now_s - self.t_s


Facts = dict[str, Measured]
"""What one source knows, by the names of `QUANTITIES`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is known at one moment."""

    t_s: float
    supply: Supply = "unknown"
    percent: Measured | None = None  # charge left, % of what the battery holds when full
    full_wh: Measured | None = None  # energy of a full charge, as the gauge has learned it
    voltage_v: Measured | None = None
    current_a: Measured | None = None  # magnitude
    power_w: Measured | None = None  # drawn by the device
    temperature_c: Measured | None = None  # the hottest zone
    throttled: Measured | None = None  # 1: the firmware or the frequency governor holds the processor back
    undervoltage: Measured | None = None  # 1: the supply cannot hold its voltage
    cpu_mhz: Measured | None = None


QUANTITIES: tuple[str, ...] = tuple(name for name in Reading.__slots__ if name not in {"t_s", "supply"})


@dataclass(frozen=True, slots=True)
class Usage:
    """What the stages did since the last report."""

    seconds: PerDemand[float]  # spent in each demand
    frames: PerDemand[float]
    looks: PerDemand[float]
    embeddings: float

    @property
    def duration_s(self) -> float:
        """Length of the report."""
        return sum(self.seconds)
