"""Thresholds from impostor scores, and the coverage of the stated bound."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import ModelError
from tools.lab.thresholds import (
    MIN_ERRORS,
    SHOT_COUNTS,
    Trials,
    binomial_upper,
    calibrate,
    clustered_upper,
    threshold_at,
)

MODEL = "ab" * 32


def threshold_of(scores: NDArray[np.float32], fmr: float) -> float:
    """Return the threshold that at most this share of the scores reaches."""
    return threshold_at(np.sort(scores)[::-1], int(fmr * len(scores)))


def cohort(rng: np.random.Generator, people: int, per_person: int, hubness: float, kinship: float) -> Trials:
    """Draw normal impostor scores: `hubness` is a person's share of the variance in each role, `kinship` a pair's.

    All means of an encounter have equal scores, as if a camera saw the same picture repeatedly.
    """
    general = rng.normal(0, math.sqrt(hubness), people)  # some faces resemble everybody
    pair = rng.normal(0, math.sqrt(kinship), (people, people))
    noise = rng.normal(0, math.sqrt(1 - 2 * hubness - kinship), (people, per_person, people))
    scores = (general[:, None, None] + general[None, None, :] + pair[:, None, :] + noise) / 8  # inside −1..1
    labels = np.arange(people)
    single = scores.reshape(-1, people).astype(np.float32)
    return Trials(
        scores=np.broadcast_to(single, (8, *single.shape)),
        shot_norms=np.repeat(np.linspace(1, 0.65, 8, dtype=np.float32)[:, None], len(single), axis=1),
        probes=np.repeat(labels, per_person),
        gallery=labels,
        norms=np.ones(people, np.float32),
        held_out=np.ones(people * per_person, bool),
        templates=1,
    )


def test_the_threshold_lets_through_at_most_the_stated_share() -> None:
    scores = np.linspace(0, 0.999, 1000, dtype=np.float32)  # 0.000 … 0.999
    assert threshold_of(scores, 0.01) == pytest.approx(0.9891)
    assert (scores >= np.float32(threshold_of(scores, 0.01))).sum() == 10
    assert (scores >= np.float32(threshold_of(scores, 0.0109))).sum() == 10


def test_ties_are_refused_together() -> None:
    scores = np.array([0.1] * 90 + [0.5] * 10, np.float32)
    assert (scores >= np.float32(threshold_of(scores, 0.05))).sum() == 0


@pytest.mark.parametrize(("errors", "trials"), [(0, 100), (1, 10), (10, 100), (60, 70), (88, 882_883)])
def test_at_the_binomial_bound_the_errors_have_probability_5_percent(errors: int, trials: int) -> None:
    p = binomial_upper(errors, trials)
    log_terms = (
        math.lgamma(trials + 1)
        - math.lgamma(i + 1)
        - math.lgamma(trials - i + 1)
        + i * math.log(p)
        + (trials - i) * math.log1p(-p)
        for i in range(errors + 1)
    )
    so_few = sum(math.exp(term) for term in log_terms)
    assert so_few == pytest.approx(0.05, rel=1e-3)


def test_the_binomial_bound_of_no_error_is_the_rule_of_three() -> None:
    assert binomial_upper(0, 10_000) == pytest.approx(3 / 10_000, rel=0.01)
    assert binomial_upper(5, 5) == 1.0


def test_rates_with_too_few_errors_are_left_out() -> None:
    calibration = calibrate(
        [cohort(np.random.default_rng(1), 40, 5, 0.1, 0.1)],
        model=MODEL,
        cohort="",
        faces="",
        rng=np.random.default_rng(2),
    )
    comparisons = calibration.rows[0].comparisons
    assert comparisons == 40 * 39 * 5
    assert [lv.fmr for lv in calibration.rows[0].levels] == [0.01]  # 3e-3 would be 23 errors
    assert calibration.smallest_fmr * comparisons >= MIN_ERRORS


def test_a_cohort_of_few_people_is_refused() -> None:
    with pytest.raises(ModelError, match="10 people"):
        calibrate(
            [cohort(np.random.default_rng(1), 10, 500, 0, 0)],
            model=MODEL,
            cohort="",
            faces="",
            rng=np.random.default_rng(2),
        )


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_the_computed_threshold_falls_with_the_rate(seed: int, a: float, b: float) -> None:
    scores = np.random.default_rng(seed).normal(0, 0.2, 2000).astype(np.float32)
    strict, lax = sorted((a, b))
    assert threshold_of(scores, strict) >= threshold_of(scores, lax)
    assert (scores >= np.float32(threshold_of(scores, strict))).mean() <= strict


def covered(hubness: float, kinship: float, trials: int = 120) -> tuple[float, float]:
    """The shares of cohorts whose (clustered, binomial) bound lies above the true FMR of their threshold."""
    rng = np.random.default_rng(7)
    held = np.zeros(2)
    for _ in range(trials):
        drawn = cohort(rng, 100, 5, hubness, kinship)
        lv = calibrate([drawn], model=MODEL, cohort="", faces="", rng=rng, rates=[1e-3]).rows[0].levels[0]
        truth = 1 - NormalDist().cdf(lv.thresholds[-1] * 8)
        held += [truth <= lv.upper, truth <= lv.upper_binomial]
    clustered, binomial = held / trials
    return float(clustered), float(binomial)


def test_the_bound_holds_in_about_95_of_100_cohorts_where_comparisons_share_people() -> None:
    clustered, binomial = covered(hubness=0.08, kinship=0.09)
    assert clustered >= 0.90
    assert binomial < 0.85  # the bound for independent comparisons is too low


def test_the_bound_stays_useful_where_comparisons_are_independent() -> None:
    clustered, binomial = covered(hubness=0.0, kinship=0.0)
    assert clustered >= 0.90
    assert binomial >= 0.90


def test_the_clustered_bound_depends_on_the_people_behind_the_errors() -> None:
    comparisons = np.ones((50, 50)) - np.eye(50)
    scattered, one_person = np.zeros((50, 50)), np.zeros((50, 50))
    scattered[np.arange(30), np.arange(30) + 1] = 1
    one_person[7, 10:40] = 1
    weights = np.random.default_rng(3).multinomial(50, np.full(50, 0.02), 1000).astype(np.float64)
    assert clustered_upper(one_person, comparisons, weights) > 2 * clustered_upper(scattered, comparisons, weights)


def test_the_rate_includes_all_deciding_means() -> None:
    # Six independent means decide, so each may have a sixth of the rate.
    rng = np.random.default_rng(3)
    drawn = cohort(rng, 60, 20, 0, 0)
    independent = rng.normal(0, 1 / 8, drawn.scores.shape).astype(np.float32)
    row = calibrate(
        [dataclasses.replace(drawn, scores=independent)], model=MODEL, cohort="", faces="", rng=rng, rates=[1e-2]
    ).rows[0]
    (found,) = row.levels
    impostor = independent[:, drawn.impostor]
    means = np.array([found.thresholds[SHOT_COUNTS.index(min(s for s in SHOT_COUNTS if s >= j))] for j in range(3, 9)])
    any_mean = (impostor[2:] >= means[:, None].astype(np.float32)).any(axis=0).mean()
    assert found.errors / row.comparisons == pytest.approx(0.01, rel=0.03)
    assert any_mean == pytest.approx(0.01, rel=0.1)
    assert (impostor[7] >= np.float32(found.thresholds[-1])).mean() == pytest.approx(0.01 / 6, rel=0.15)


def test_means_before_the_third_do_not_decide() -> None:
    rng = np.random.default_rng(1)
    drawn = cohort(rng, 60, 20, 0, 0)
    scores = np.array(drawn.scores)
    scores[:2] = rng.normal(0, 1 / 8, scores[:2].shape)  # two more chances, if they decided
    once, again = (
        calibrate([one], model=MODEL, cohort="", faces="", rng=np.random.default_rng(2), rates=[1e-2]).rows[0].levels[0]
        for one in (drawn, dataclasses.replace(drawn, scores=scores))
    )
    assert again.thresholds[-1] == pytest.approx(once.thresholds[-1], abs=0.01)  # a third of the rate: 0.05 higher


def test_norms_fall_with_the_number_of_templates_whatever_people_are_drawn() -> None:
    drawn = cohort(np.random.default_rng(1), 60, 20, 0, 0)
    both = [dataclasses.replace(drawn, templates=k, norms=drawn.norms * np.float32(n)) for k, n in ((1, 0.7), (2, 0.7))]
    calibration = calibrate(both, model=MODEL, cohort="", faces="", rng=np.random.default_rng(2), rates=[1e-2])
    assert [row.norm for row in calibration.rows] == pytest.approx([0.7, 0.699])
