"""Coverage of the intervals: gauges with whole percents, and power with correlated errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bench import battery
from edge.bench.estimates import Estimate, Finding, as_json, lost_an_hour, mean, step_of
from edge.bench.phases import PHASES, Play, Sweep, plan
from edge.power.readings import Measured, Reading

RUNS = 200


def shares(findings: list[Finding], truth: float) -> tuple[float, float]:
    """Return the number of runs with an estimate, and the number whose interval contains the true value."""
    told = [found for found in findings if isinstance(found, Estimate)]
    held = [abs(found.value - truth) <= found.half_width * (1 + 1e-9) for found in told]
    return len(told) / len(findings), float(np.mean(held)) if held else 1.0


def correlated(
    rng: np.random.Generator, count: int, seconds: int, spread: float, memory_s: float
) -> NDArray[np.float64]:
    """Return (count, seconds) of noise with this correlation time, s."""
    keep = np.exp(-1.0 / memory_s)
    noise = rng.normal(0.0, spread, (count, seconds))
    for i in range(1, seconds):
        noise[:, i] = keep * noise[:, i - 1] + np.sqrt(1.0 - keep**2) * noise[:, i]
    return noise


@pytest.mark.parametrize("shows", [np.round, np.floor], ids=["rounded", "cut off"])
@pytest.mark.parametrize(
    ("seconds", "an_hour"), [(300, 60.0), (600, 40.0), (600, 90.0), (1800, 12.0), (3600, 5.0), (3600, 11.0)]
)
def test_the_interval_contains_the_drain_with_a_gauge_of_whole_percents(
    seconds: int, an_hour: float, shows: np.ufunc
) -> None:
    rng = np.random.default_rng(seconds)
    t_s = np.arange(seconds + 1.0)
    starts = rng.uniform(80.0, 90.0, RUNS)
    findings = [lost_an_hour(list(zip(t_s, shows(start - an_hour * t_s / 3600.0), strict=True))) for start in starts]
    told, held = shares(findings, an_hour)
    assert told > 0.5
    assert held >= 0.95
    step_an_hour = 3600.0 / seconds
    halves = [found.half_width for found in findings if isinstance(found, Estimate)]
    assert min(halves) >= 0.999 * step_an_hour  # never finer than the gauge
    assert np.median(halves) <= 2.0 * step_an_hour  # and narrow enough to be useful


@pytest.mark.parametrize(("memory_s", "spread"), [(1.0, 0.1), (20.0, 0.2), (60.0, 0.2), (120.0, 0.3)])
@pytest.mark.parametrize("step", [1.0, 0.05])
def test_the_interval_contains_the_drain_with_gauge_errors_correlated_over_minutes(
    step: float, memory_s: float, spread: float
) -> None:
    rng = np.random.default_rng(7)
    t_s = np.arange(901.0)
    true = rng.uniform(80.0, 90.0, (RUNS, 1)) - 40.0 * t_s / 3600.0
    shown = step * np.round((true + correlated(rng, RUNS, 901, spread, memory_s)) / step)
    told, held = shares([lost_an_hour(list(zip(t_s, row, strict=True))) for row in shown], 40.0)
    assert told > 0.4
    assert held >= 0.9


def test_the_interval_contains_a_drain_that_changes_with_the_phases() -> None:
    rng = np.random.default_rng(3)
    t_s = np.arange(1801.0)
    drained = np.cumsum(np.where(t_s % 360.0 < 180.0, 20.0, 40.0)) / 3600.0
    findings = [
        lost_an_hour(list(zip(t_s, np.floor(start - drained), strict=True))) for start in rng.uniform(80, 90, RUNS)
    ]
    told, held = shares(findings, 30.0)
    assert told > 0.9
    assert held >= 0.95


@pytest.mark.parametrize(
    ("charges", "why"),
    [
        ([57.0] * 60, "never changed, measure longer"),
        ([57.0], "never changed"),
        ([57.0] * 30 + [56.0] * 30, "fell by 1 %, with an uncertainty of 1 %, measure longer"),
        ([57.0, 58.0, 59.0, 61.0], "rose, a charger must be connected"),
    ],
)
def test_a_drain_that_cannot_be_estimated_is_unknown_with_the_reason(charges: list[float], why: str) -> None:
    found = lost_an_hour([(float(i), charge) for i, charge in enumerate(charges)])
    assert isinstance(found, str)
    assert found.startswith("unknown: ")
    assert why in found
    assert as_json(found) == found


def played(watts: NDArray[np.float64], seconds: float, rates_hz: tuple[float, float, float]) -> list[Sweep]:
    """Return sweeps with these power readings, one a second, without the first two of each play."""
    sweeps, play_s = plan(seconds)
    made: list[Sweep] = []
    for i in range(sweeps):
        order = PHASES if i % 2 == 0 else PHASES[::-1]
        made.append({})
        for k, phase in enumerate(order, i * len(PHASES)):
            frames, looks, embeddings = (
                round(rate * play_s) if PHASES.index(phase) > n else 0 for n, rate in enumerate(rates_hz)
            )
            begin, end = round(k * play_s), round((k + 1) * play_s)
            made[-1][phase] = Play(
                phase, begin, play_s, 0, play_s, 0.0, frames, looks, embeddings, watts[begin + 2 : end].tolist()
            )
    return made


def drawn(costs: NDArray[np.float64], seconds: int, rates_hz: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return (seconds,) W: the power of phases with these costs of work."""
    watts = np.zeros(seconds)
    for play in (play for sweep in played(watts, seconds, rates_hz) for play in sweep.values()):
        watts[round(play.start_s) : round(play.start_s + play.played_s)] = costs @ [1.0, *play.rates_hz]
    return watts


def test_joules_of_a_coarse_sensor_without_noise_have_an_interval_of_at_least_its_steps() -> None:
    rng, rates_hz = np.random.default_rng(5), (15.0, 6.0, 3.0)
    for truth in rng.uniform([1.0, 0.01, 0.03, 0.04], [3.0, 0.03, 0.09, 0.1], (RUNS // 4, 4)):
        watts = 0.1 * np.round(drawn(truth, 100, rates_hz) / 0.1)
        readings = [Reading(float(t), power_w=Measured(w, "W", "ina", t)) for t, w in enumerate(watts.tolist())]
        costs = battery.Power(played(watts, 100, rates_hz), readings).costs()
        for told, true in zip(costs.values(), truth, strict=True):
            assert isinstance(told, Estimate)
            assert abs(told.value - true) <= told.half_width


@pytest.mark.parametrize("heat_w", [0.0, 0.4], ids=["steady", "warming up"])
@pytest.mark.parametrize(("seconds", "memory_s"), [(60, 3.0), (300, 1.0), (300, 10.0), (600, 20.0)])
def test_the_interval_contains_the_joules_under_correlated_noise_and_thermal_drift(
    seconds: int, memory_s: float, heat_w: float
) -> None:
    rng = np.random.default_rng(seconds)
    truth, rates_hz = np.array([2.0, 0.02, 0.06, 0.07]), (15.0, 6.0, 3.0)
    drift = heat_w * (1.0 - np.exp(-2.0 * np.arange(seconds) / seconds))
    noise = correlated(rng, RUNS, seconds, 0.1, memory_s)
    steady = drawn(truth, seconds, rates_hz)
    true = dict(zip(("base", "frame", "look", "embedding"), truth + np.array([drift.mean(), 0, 0, 0]), strict=True))
    held = dict.fromkeys(true, 0)
    for run in range(RUNS):
        watts = steady + drift + noise[run]
        readings = [Reading(t, power_w=Measured(watts[t], "W", "ina", t)) for t in range(10)]
        for unit, told in battery.Power(played(watts, seconds, rates_hz), readings).costs().items():
            assert isinstance(told, Estimate)
            held[unit] += abs(told.value - true[unit]) <= told.half_width
    assert all(count >= 0.9 * RUNS for count in held.values()), held


def test_fewer_than_two_values_have_no_interval() -> None:
    assert mean([1.0]) is None
    found = mean([1.0, 3.0])
    assert found is not None
    assert found.value == 2.0
    assert found.half_width == pytest.approx(12.71)


def test_a_step_is_the_smallest_change_beyond_rounding() -> None:
    assert step_of([57.0, 56.0, 54.0, 54.0 + 1e-12]) == pytest.approx(1.0)
    assert step_of([57.0, 57.0]) is None
    assert step_of([]) is None


def test_estimates_are_shown_with_four_digits_and_never_as_minus_zero() -> None:
    assert str(Estimate(-0.0, 0.123456).as_dict()) == "{'value': 0.0, 'ci95': 0.1235}"


@pytest.mark.parametrize("seconds", [60.0, 99.0, 300.0, 301.0, 600.0, 7200.0])
def test_sweeps_go_there_and_back_and_fill_the_time(seconds: float) -> None:
    sweeps, play_s = plan(seconds)
    assert sweeps % 2 == 0
    assert 2 <= sweeps <= 10
    assert sweeps * len(PHASES) * play_s == pytest.approx(seconds)
    assert play_s >= min(10.0, seconds / 10.0)
    assert all(plan(a)[0] <= plan(b)[0] for a, b in pairwise((60.0, 300.0, 7200.0)))
