"""What power sensors tell, and what the vision process has done: the governor's input. What is not known is None."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_type_hints

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
"""What one source knows, by the names of `RANGES`."""


@dataclass(frozen=True, slots=True)
class Range:
    """Between what a quantity can be, and by how much it may change from one reading to the next.

    A change of more than `jump`, and `drift` for each second between the two, is believed once a later reading agrees.
    So is the very first reading: a gauge that wakes up may say anything.
    """

    low: float
    high: float
    jump: float = math.inf
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is known at one moment. A new quantity is a line here, and a source in `sensors.py` that reads it."""

    t_s: float
    supply: Supply = "unknown"
    # charge left, % of what the battery holds when full; no battery that serves a device loses 3 % in a minute
    percent: Annotated[Measured | None, Range(0.0, 100.0, jump=5.0, drift=0.05)] = None
    # energy of a full charge, as the gauge has learned it
    full_wh: Annotated[Measured | None, Range(0.1, 10_000.0)] = None
    voltage_v: Annotated[Measured | None, Range(2.0, 60.0, jump=0.5, drift=0.005)] = None
    current_a: Annotated[Measured | None, Range(0.0, 50.0)] = None  # magnitude; load may jump
    power_w: Annotated[Measured | None, Range(0.0, 500.0)] = None  # drawn by the device
    # the hottest zone; a chip needs seconds for 15 °C
    temperature_c: Annotated[Measured | None, Range(-40.0, 150.0, jump=15.0, drift=1.0)] = None
    # 1: the firmware or the frequency governor holds the processor back
    throttled: Annotated[Measured | None, Range(0.0, 1.0)] = None
    undervoltage: Annotated[Measured | None, Range(0.0, 1.0)] = None  # 1: the supply cannot hold its voltage
    cpu_mhz: Annotated[Measured | None, Range(1.0, 10_000.0)] = None


RANGES: Mapping[str, Range] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Reading, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
"""Of each quantity."""


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
