"""The governor keeps limits, budget and hysteresis, also with invalid readings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.power.costs import PRIORS
from edge.power.energy import from_prior
from edge.power.governor import Governor, Limits, Orders
from edge.power.modes import CAUSES, STRICTNESS, Modes
from edge.power.plausible import Plausibility
from edge.power.readings import Measured, PerDemand, Reading, Usage
from edge.records import Rates
from edge.vocabulary import Supply

FULL = Rates(15.0, 15.0, 5.0)
LIMITS = Limits(full=FULL)
PRIOR = PRIORS["pi-zero-2"]
HOUR_S = 3600.0


def governor(full_wh: float = 10.0, limits: Limits = LIMITS) -> Governor:
    return Governor(limits, from_prior(PRIOR, full_wh, 0.1))


def measured(value: float | None, t_s: float) -> Measured | None:
    return None if value is None else Measured(value, "", "test", t_s)


def reading(
    t_s: float,
    percent: float | None = None,
    *,
    supply: Supply = "battery",
    power_w: float | None = None,
    heat_c: float | None = None,
    throttled: float | None = None,
) -> Reading:
    return Reading(
        t_s,
        supply,
        percent=measured(percent, t_s),
        power_w=measured(power_w, t_s),
        temperature_c=measured(heat_c, t_s),
        throttled=measured(throttled, t_s),
    )


def watching(seconds: float, rates: Rates = FULL) -> Usage:
    return Usage(
        PerDemand(seconds, 0.0, 0.0),
        PerDemand(seconds * rates.capture_fps, 0.0, 0.0),
        PerDemand(0.5 * seconds * rates.detector_hz, 0.0, 0.0),
        0.0,
    )


def play(hold: Governor, readings: Sequence[Reading], end_s: float | None = 12 * HOUR_S) -> list[Orders]:
    orders: list[Orders] = []
    for i, each in enumerate(readings):
        step_s = each.t_s - readings[i - 1].t_s if i else 1.0
        orders.append(hold.update(each, watching(step_s, orders[-1].rates.watch if orders else FULL), each.t_s, end_s))
    return orders


def minutes(percents: Sequence[float]) -> list[Reading]:
    return [reading(60.0 * i, percent) for i, percent in enumerate(percents)]


# ---- behaviour


def test_on_mains_everything_runs_at_full_rates() -> None:
    (orders,) = play(governor(), [reading(0.0, 50.0, supply="mains")])
    assert (orders.mode, orders.reason) == ("active", "mains")
    assert set(orders.rates) == {FULL}
    assert orders.budget_w is orders.forecast_end_s is None


def test_without_any_sensor_everything_runs_and_no_forecast_is_made() -> None:
    (orders,) = play(governor(), [Reading(0.0)])
    assert (orders.mode, orders.reason, orders.supply) == ("active", "normal", "unknown")
    assert set(orders.rates) == {FULL}
    assert orders.percent is orders.budget_w is orders.forecast_end_s is None


def test_without_a_wish_the_rates_are_full_until_the_reserve() -> None:
    told = play(governor(), minutes([50.0, 50.0, 4.0, 4.0, 4.0]), end_s=None)
    assert told[1].rates.watch == FULL
    assert (told[-1].mode, told[-1].reason) == ("critical", "battery_low")


def test_a_plentiful_battery_is_spent_and_a_scarce_one_is_saved() -> None:
    rich, poor = play(governor(40.0), minutes([100.0] * 3)), play(governor(8.0), minutes([100.0] * 3))
    assert rich[-1].rates.watch == FULL
    assert LIMITS.floor_hz <= poor[-1].rates.watch.detector_hz < 0.5 * FULL.detector_hz
    assert poor[-1].feasible


def test_a_new_face_gets_higher_rates_than_a_known_one_and_an_empty_street() -> None:
    orders = play(governor(8.0), minutes([100.0] * 3))[-1]
    watch, meet, follow = orders.rates
    assert meet.detector_hz > 2.0 * watch.detector_hz
    assert meet.detector_hz > 2.0 * follow.detector_hz


def test_an_unreachable_run_time_is_reported_with_the_forecast_of_floor_rates() -> None:
    orders = play(governor(4.0), minutes([100.0] * 3))[-1]
    assert (orders.mode, orders.reason, orders.feasible) == ("saver", "infeasible", False)
    assert orders.forecast_end_s is not None
    assert orders.forecast_end_s < 0.95 * 12 * HOUR_S
    assert orders.rates.watch.detector_hz == LIMITS.floor_hz


def test_the_floor_is_kept_until_the_battery_is_critical() -> None:
    told = play(governor(4.0), minutes([100.0 - 0.5 * i for i in range(199)]))
    for orders in told:
        if orders.mode in {"active", "saver"}:
            assert min(rates.detector_hz for rates in orders.rates) >= LIMITS.floor_hz - 1e-9
    assert {orders.mode for orders in told} == {"saver", "critical", "suspended"}


def test_costs_are_learned_from_the_power_that_is_measured() -> None:
    hold = governor()
    rates = [Rates(15.0, 15.0, 5.0), Rates(15.0, 1.0, 5.0), Rates(1.0, 1.0, 1.0)]
    for i in range(600):
        chosen = rates[i % 3]
        usage = watching(60.0, chosen)
        power_w = 0.9 + 0.03 * chosen.capture_fps + 0.05 * usage.looks.watch / 60.0
        hold.update(reading(60.0 * i, 90.0, supply="mains", power_w=power_w), usage, 60.0 * i, None)
    costs = hold.learned().costs
    assert costs.base_w == pytest.approx(0.9, rel=0.05)
    assert costs.capture_j == pytest.approx(0.03, rel=0.1)
    assert costs.look_j == pytest.approx(0.05, rel=0.1)


def test_an_aged_battery_is_detected_and_remembered() -> None:
    hold, true_wh, left_wh = governor(10.0), 7.0, 7.0
    for i in range(500):
        left_wh -= 0.75 / 60.0
        hold.update(reading(60.0 * i, 100.0 * left_wh / true_wh, power_w=0.75), watching(60.0), 60.0 * i, None)
    assert hold.learned().full_wh == pytest.approx(true_wh, rel=0.05)
    assert hold.learned().full_spread < 0.05


@pytest.mark.parametrize(
    ("heat_c", "mode"), [(60.0, "active"), (76.0, "saver"), (83.0, "critical"), (96.0, "suspended")]
)
def test_heat_limits_the_rates_even_on_mains(heat_c: float, mode: str) -> None:
    (orders,) = play(governor(), [reading(0.0, 90.0, supply="mains", heat_c=heat_c)])
    assert orders.mode == mode
    assert orders.reason == ("mains" if mode == "active" else "hot")


def test_a_throttled_processor_is_given_less_to_do() -> None:
    (orders,) = play(governor(), [reading(0.0, 90.0, supply="mains", throttled=1.0)])
    assert (orders.mode, orders.reason) == ("saver", "throttled")
    assert orders.rates.watch.detector_hz <= 0.25 * FULL.detector_hz
    assert orders.detector_px == 320


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_heat_limits_until_a_reading_shows_that_it_is_over(unknown: float | None) -> None:
    modes = Modes(60.0)
    assert modes.update({"above_overheated": 8.0, "above_hot": 15.0}, 0.0) == ("critical", "hot")
    for now_s in (10.0, 100.0, 10_000.0):
        assert modes.update({"above_overheated": unknown, "above_hot": unknown}, now_s) == ("critical", "hot")
    assert modes.update({"above_overheated": -6.0, "above_hot": -6.0}, 10_059.0) == ("critical", "hot")
    assert modes.update({"above_overheated": -6.0, "above_hot": -6.0}, 10_060.0) == ("active", "normal")


def test_a_lost_gauge_does_not_throttle_for_ever() -> None:
    modes = Modes(60.0)
    assert modes.update({"throttled": 1.0}, 0.0) == ("saver", "throttled")
    assert modes.update({"throttled": None}, 60.0) == ("active", "normal")


def test_a_voltage_of_other_cells_than_said_is_not_used_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    hold = governor(full_wh=50.0)  # cells = 1, but the battery has two
    for i in range(600):
        each = replace(reading(float(i), 80.0 - 0.001 * i), voltage_v=measured(7.6, float(i)))
        hold.update(each, watching(1.0), float(i), None)
    assert hold.energy.restarts == 0
    assert hold.learned().full_wh == pytest.approx(50.0, rel=0.2)
    assert caplog.text.count("battery_cells = 1") == 1


def test_a_battery_that_is_lost_on_the_charger_is_missed_once_the_charger_is_pulled() -> None:
    charging = [reading(float(i), 90.0 if i < 5 else None, supply="mains") for i in range(60)]
    pulled = [Reading(60.0 + i) for i in range(3)]
    told = play(governor(), charging + pulled)
    assert {(orders.mode, orders.reason) for orders in told[:60]} == {("active", "mains")}
    assert (told[-1].mode, told[-1].reason) == ("saver", "sensor_lost")


# ---- invariants

NONSENSE = st.one_of(st.none(), st.floats(), st.sampled_from([-1.0, 0.0, 3.0, 50.0, 100.0, 255.0, 1e9]))
STEPS = st.tuples(
    st.sampled_from([-10.0, 0.0, 0.3, 1.0, 5.0, 60.0, 3600.0]),
    st.sampled_from(["battery", "mains", "unknown"]),
    *([NONSENSE] * 7),
)


def absurd(steps: list[tuple[float | str | None, ...]]) -> list[Reading]:
    t_s, readings = 0.0, []
    names = ("percent", "voltage_v", "current_a", "power_w", "temperature_c", "throttled", "undervoltage")
    for step_s, supply, *values in steps:
        t_s += step_s if isinstance(step_s, float) else 0.0
        found = {
            name: measured(value, t_s)
            for name, value in zip(names, values, strict=True)
            if isinstance(value, float | None)
        }
        readings.append(replace(Reading(t_s, supply), **found))  # type: ignore[arg-type]
    return readings


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=25), st.one_of(st.none(), st.floats(-1e6, 1e6)))
def test_any_sequence_of_readings_leaves_rates_within_limits_and_no_negative_budget(
    steps: list[tuple[float | str | None, ...]], end_s: float | None
) -> None:
    believe, hold = Plausibility(), governor()
    for each in absurd(steps):
        orders = hold.update(believe.check(each), watching(1.0), each.t_s, end_s)
        for rates in orders.rates:
            least = 0.0 if orders.mode == "suspended" else LIMITS.critical_hz
            assert least <= rates.detector_hz <= FULL.detector_hz
            assert least <= rates.capture_fps <= FULL.capture_fps
            assert least <= rates.embeddings_hz <= FULL.embeddings_hz
        for number in (orders.budget_w, orders.forecast_end_s, orders.power_w, orders.percent):
            assert number is None or math.isfinite(number)
        assert orders.budget_w is None or orders.budget_w >= 0.0
        assert 0.0 <= hold.energy.left_wh <= hold.energy.full_wh
        assert min(hold.learned().costs.values) >= 0.0


SIGNALS = sorted({cause.signal for cause in CAUSES})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 90.0),
            st.dictionaries(st.sampled_from(SIGNALS), st.one_of(st.none(), st.floats(-100, 100), st.just(math.nan))),
        ),
        max_size=60,
    )
)
def test_no_mode_becomes_milder_before_the_hysteresis_is_over(
    steps: list[tuple[float, dict[str, float | None]]],
) -> None:
    hysteresis_s = 60.0
    modes, now_s, strict, stricter_s = Modes(hysteresis_s), 0.0, 0, -math.inf
    for step_s, signals in steps:
        now_s += step_s
        level = STRICTNESS.index(modes.update(signals, now_s)[0])
        if level < strict:
            assert now_s - stricter_s >= hysteresis_s
        if level > strict:
            stricter_s = now_s
        strict = level


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=120), st.floats(1.0, 60.0))
@example([0.0, 6.0, 6.0, 0.0, 14.0, 0.0, 8.0, 0.0, 3.0, 0.0, 3.0, 0.0], 8.0)  # two causes end one after the other
def test_a_wild_gauge_makes_no_mode_milder_within_a_hysteresis_of_a_stricter_one(
    percents: list[float], step_s: float
) -> None:
    told = play(governor(), [reading(step_s * i, percent) for i, percent in enumerate(percents)])
    stricter_s = 0.0
    for i, (before, after) in enumerate(itertools.pairwise(told)):
        change = STRICTNESS.index(after.mode) - STRICTNESS.index(before.mode)
        if change > 0:
            stricter_s = step_s * (i + 1)
        assert change >= 0 or step_s * (i + 1) - stricter_s >= LIMITS.hysteresis_s - 1e-6


def test_a_rate_is_not_changed_more_often_than_a_camera_can_follow() -> None:
    told = play(governor(8.0), [reading(float(i), 100.0 - 0.01 * i) for i in range(120)])
    changes = [
        i for i in range(1, len(told)) if told[i].rates != told[i - 1].rates and told[i].mode == told[i - 1].mode
    ]
    assert all(b - a >= 10 for a, b in itertools.pairwise(changes))
