"""The governor's input: readings of the power sensors, and usage by the vision process. Unknown values are None."""

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
    meet: _T  # an undecided face in view
    follow: _T  # only decided faces in view


def each(function: Callable[..., _T], *values: PerDemand[Any]) -> PerDemand[_T]:
    """Apply a function to the values of each demand."""
    return PerDemand(*map(function, *values))


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of one sensor."""

    value: float
    unit: str
    source: str  # the file, register or line it came from
    t_s: float  # monotonic clock

    def age_s(self, now_s: float) -> float:
        """Return how old it is."""
        return now_s - self.t_s


Facts = dict[str, Measured]
"""The values of one source, by the names of `RANGES`."""


@dataclass(frozen=True, slots=True)
class Range:
    """The possible values of a quantity, and its largest change from one reading to the next.

    A change above `jump` plus `drift` for each second between the readings counts once a later reading confirms it.
    The very first reading needs confirmation too: a gauge that has just started may report any value.
    """

    low: float
    high: float
    jump: float = math.inf
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """All values at one moment. A new quantity is a line here, and a source in `sensors.py` that reads it."""

    t_s: float
    supply: Supply = "unknown"
    # charge left, % of a full charge; a battery that suits the device loses less than 3 % in a minute
    percent: Annotated[Measured | None, Range(0.0, 100.0, jump=5.0, drift=0.05)] = None
    # energy of a full charge, as learned by the gauge
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
"""The range of each quantity."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Work of the stages since the last report."""

    seconds: PerDemand[float]  # spent in each demand
    frames: PerDemand[float]
    looks: PerDemand[float]
    embeddings: float

    @property
    def duration_s(self) -> float:
        """Length of the report."""
        return sum(self.seconds)
