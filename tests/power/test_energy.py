"""The energy filter: estimates from readings, and their uncertainty."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.power.allocate import Lever, allocate, spent_w
from edge.power.cell import charge_share, energy_share, rest_voltage
from edge.power.costs import PRIORS
from edge.power.energy import EnergyFilter, from_prior

PRIOR = PRIORS["pi-zero-2"]
LEVERS = st.lists(
    st.builds(
        Lever, weight=st.floats(0.01, 10), cost_w=st.floats(0, 0.5), low_hz=st.floats(0.1, 1), high_hz=st.floats(1, 30)
    ),
    min_size=1,
    max_size=6,
)


def test_a_thousand_readings_of_one_gauge_are_hardly_more_certain_than_a_few() -> None:
    few, many = (EnergyFilter(from_prior(PRIOR, 10.0, 0.1)) for _ in range(2))
    for known, count in ((few, 5), (many, 1000)):
        for _ in range(count):
            known.observe_gauge(0.6, 1.0 / 3600.0)
    assert many.usable(0.0)[1] > 0.5 * few.usable(0.0)[1]


def test_a_contradiction_of_gauge_and_energy_count_resets_the_filter() -> None:
    known = EnergyFilter(from_prior(PRIOR, 10.0, 0.1))
    for _ in range(10):
        known.observe_gauge(0.6, 0.01)
    known.observe_gauge(0.1, 0.01)
    assert known.share == pytest.approx(energy_share(0.6), abs=0.03)  # a single one is a glitch
    known.observe_gauge(0.1, 0.01)
    assert known.share == pytest.approx(energy_share(0.1), abs=0.03)


def test_the_knee_of_the_voltage_curve_shows_an_empty_battery() -> None:
    known = EnergyFilter(from_prior(PRIOR, 10.0, 0.1))
    known.observe_gauge(0.08, 0.01)  # five points too many
    for _ in range(60):
        known.observe_volts(rest_voltage(0.03), 0.0, 1.0 / 60.0, 0.5)
    assert known.share == pytest.approx(energy_share(0.03), abs=0.015)


def test_the_curve_of_an_unusual_cell_is_learned_and_used_the_next_day() -> None:
    def volts(charge: float) -> float:
        return rest_voltage(charge) + (0.025 if charge < 0.5 else 0.0)

    learned = from_prior(PRIOR, 10.0, 0.1)
    for _ in range(4):
        today = EnergyFilter(learned)
        for percent in range(100, 4, -1):
            today.pass_time(0.1, (0.0, 0.0, 0.0), 1.0)
            today.observe_gauge(percent / 100.0, 0.1)
            today.observe_volts(volts(percent / 100.0), 0.0, 0.1, 1.0)
        learned = today.learned()
    assert learned.curve_v[1:2] == pytest.approx([0.025], abs=0.008)
    assert learned.curve_v[4:5] == pytest.approx([0.0], abs=0.008)
    for known, close in ((learned, True), (from_prior(PRIOR, 10.0, 0.1), False)):
        by_voltage = EnergyFilter(known)
        by_voltage.observe_gauge(0.33, 0.1)
        for _ in range(60):
            by_voltage.observe_volts(volts(0.3), 0.0, 0.1, 1.0)
        assert (abs(by_voltage.share - energy_share(0.3)) < 0.02) == close


def test_charge_and_energy_are_each_other_s_inverse() -> None:
    for percent in range(101):
        assert charge_share(energy_share(percent / 100)) == pytest.approx(percent / 100, abs=1e-9)


@given(LEVERS, st.floats(0.0, 50.0))
def test_the_whole_power_is_spent_and_no_more(levers: list[Lever], power_w: float) -> None:
    rates = allocate(levers, power_w)
    least, most = (spent_w(levers, [getattr(lever, name) for lever in levers]) for name in ("low_hz", "high_hz"))
    assert spent_w(levers, rates) == pytest.approx(min(max(power_w, least), most), abs=1e-6)
    assert all(lever.low_hz <= rate <= lever.high_hz for lever, rate in zip(levers, rates, strict=True))


def test_no_other_split_of_the_same_power_has_less_delay() -> None:
    levers = [Lever(0.6, 0.04, 0.5, 15.0), Lever(5.0, 0.01, 0.5, 15.0), Lever(3.0, 0.02, 0.5, 5.0)]
    best = allocate(levers, 0.4)

    def delay(rates: list[float]) -> float:
        return sum(lever.weight / rate for lever, rate in zip(levers, rates, strict=True))

    for i, j in itertools.permutations(range(3), 2):
        shifted = list(best)
        shifted[i] += 0.01 / levers[i].cost_w
        shifted[j] -= 0.01 / levers[j].cost_w
        if shifted[i] <= levers[i].high_hz and shifted[j] >= levers[j].low_hz:
            assert delay(shifted) > delay(best)
