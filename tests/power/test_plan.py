"""The plan for a power: size of the detector's view, and rates with this power."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.power.costs import PRIORS
from edge.power.demand import Day
from edge.power.plan import Plan, Planner
from edge.records import Rates

FULL = Rates(15.0, 15.0, 5.0)
COSTS = PRIORS["pi-zero-2"].costs


def planner(detector_px: int = 640, full: Rates = FULL) -> Planner:
    return Planner(full, 0.5, detector_px, COSTS, Day())


LEAST_W, MOST_W = planner().plan("saver", 0.0).power_w, planner().plan("active", math.inf).power_w


def at(share: float, held_px: int = 0) -> Plan:
    """Return the plan for a power between the floor's (0) and that of full rates (1)."""
    return planner().plan("active", LEAST_W + share * (MOST_W - LEAST_W), held_px)


def test_with_enough_power_the_whole_view_has_full_rates() -> None:
    plan = planner().plan("active", math.inf)
    assert (plan.detector_px, set(plan.rates)) == (640, {FULL})


def test_the_view_shrinks_before_looks_become_few() -> None:
    sizes = [at(share / 100).detector_px for share in range(100, -1, -1)]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {640, 480, 320}
    little = at(0.5)
    assert little.detector_px < 640
    assert little.rates.watch.detector_hz > 0.5 * FULL.detector_hz


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_a_plan_draws_the_given_power(share: float) -> None:
    wanted_w = LEAST_W + share * (MOST_W - LEAST_W)
    assert at(share).power_w == pytest.approx(wanted_w, rel=1e-6)


def test_below_the_floors_power_the_plan_is_the_floor() -> None:
    plan = planner().plan("active", 0.5 * LEAST_W, 640)
    assert plan.power_w == pytest.approx(LEAST_W)
    assert {rates.detector_hz for rates in plan.rates} == {0.5}


def test_more_power_than_a_smaller_view_can_use_is_spent_early() -> None:
    plan = at(0.9)
    assert (plan.detector_px, plan.rates.watch) == (640, FULL)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([320, 480, 640]))
def test_more_power_is_never_more_delay_and_a_size_is_held_unless_another_is_better(
    a: float, b: float, px: int
) -> None:
    low, high = sorted((a, b))
    assert at(high).delay <= at(low).delay * (1 + 1e-9)
    held, best = at(low, px), at(low)
    assert held.detector_px in {px, best.detector_px}
    assert held.delay <= best.delay / 0.95


def test_the_saver_sees_half_the_view_and_a_small_view_is_not_shrunk() -> None:
    assert planner().plan("saver", math.inf).detector_px == 320
    assert planner(320).plan("saver", math.inf).detector_px == 320
    assert planner(1280).plan("saver", math.inf).detector_px == 640
    assert planner(480).plan("saver", 0.0).detector_px == 320
