"""Results of simulated days, and the figures of many days. `simulator.py` defines a met day."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from tools.days.world import SENSORS, STEP_S

TOLERANCE = 0.02  # of the wanted run time, on both sides
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class DayResult:
    """Results of one day, and of other policies on the same day."""

    wearer: int
    day: int
    board: str
    sensor: str
    kind: str
    asked_h: float
    run_h: float
    met: bool
    said_impossible: bool
    shortage: float  # share of the wanted time that floor rates miss; negative: possible
    recognised: int
    encounters: int
    hindsight: float  # recognised by the best constant rate with the same life
    threshold: float  # recognised by percent thresholds that are tuned to the same life
    most: float  # recognised by full rates with unlimited energy: the upper bound
    plain_threshold_life: float  # share of the wanted time that thresholds of 50 % and 20 % last
    full_rate_life: float
    mode_changes: int
    governor_s: float

    @property
    def tightness(self) -> float:
        """Position of the wanted time between the life of full rates (0) and of floor rates (1)."""
        return (1.0 - self.full_rate_life) / max(1.0 - self.shortage - self.full_rate_life, 1e-9)


def summary(results: list[DayResult], seconds: float, seed: int) -> dict[str, object]:
    """Return the figures of many days as one JSON-ready object."""
    possible = [r for r in results if r.kind == "possible"]
    impossible = [r for r in results if r.kind == "impossible"]
    clear = [r for r in impossible if r.shortage > 0.05]
    ample = [r for r in results if r.kind == "ample"]
    updates = sum(r.asked_h for r in results) * _HOUR_S / STEP_S
    return {
        "days": len(results),
        "seed": seed,
        "step_s": STEP_S,
        "possible_days": len(possible),
        "impossible_days": len(impossible),
        "ample_days": len(ample),
        "met_within_2pct": _share(r.met for r in possible),
        "met_first_days": _share(r.met for r in possible if r.day == 0),
        "met_later_days": _share(r.met for r in possible if r.day > 0),
        "days_per_wearer": max(r.day for r in results) + 1,
        "ended_early": _share(r.run_h < (1 - TOLERANCE) * r.asked_h for r in possible),
        "left_unused": _share(r.run_h > (1 + TOLERANCE) * r.asked_h for r in possible),
        "met_by_sensor": {s: _share(r.met for r in possible if r.sensor == s) for s in SENSORS},
        "encounters_vs_hindsight": _ratio(possible, "hindsight"),
        "encounters_vs_threshold_baseline": _ratio(possible, "threshold"),
        "encounters_vs_threshold_tight_days": _ratio([r for r in possible if r.tightness > 0.5], "threshold"),
        "most_vs_threshold_baseline": _round(_total(possible, "most"), _total(possible, "threshold")),
        "encounters_recognised": _total(possible, "recognised") / max(1.0, _total(possible, "encounters")),
        "impossible_said_first_hour": _share(r.said_impossible for r in impossible),
        "impossible_by_5pct_said_first_hour": _share(r.said_impossible for r in clear),
        "false_alarms_first_hour": _share(r.said_impossible for r in possible),
        "ample_lasted": _share(r.run_h >= r.asked_h for r in ample),
        "plain_threshold_life": float(np.mean([r.plain_threshold_life for r in possible])) if possible else None,
        "full_rate_life": float(np.mean([r.full_rate_life for r in possible])) if possible else None,
        "mode_changes_a_day": float(np.mean([r.mode_changes for r in results])),
        "governor_us_per_update": 1e6 * sum(r.governor_s for r in results) / max(updates, 1.0),
        "seconds": round(seconds, 1),
    }


def as_rows(results: list[DayResult]) -> list[dict[str, object]]:
    """Return each day as a JSON-ready object."""
    return [asdict(result) for result in results]


def _share(values: object) -> float | None:
    known = list(values)  # type: ignore[call-overload]
    return round(sum(known) / len(known), 4) if known else None


def _total(results: list[DayResult], name: str) -> float:
    return float(sum(getattr(r, name) for r in results))


def _ratio(results: list[DayResult], baseline: str) -> float | None:
    return _round(_total(results, "recognised"), _total(results, baseline))


def _round(value: float, other: float) -> float | None:
    return round(value / other, 4) if other else None
