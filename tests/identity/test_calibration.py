from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError, ModelError
from edge.identity.calibration import (
    MIN_ERRORS,
    Calibration,
    Cohort,
    Level,
    Row,
    binomial_upper,
    calibrate,
    clustered_upper,
    fmr_for_gallery,
    parse,
    threshold_at,
)

MODEL = "ab" * 32


def level(fmr: float, threshold: float) -> Level:
    return Level(fmr=fmr, threshold=threshold, errors=30, upper=fmr * 2, upper_binomial=fmr * 1.1, tar=0.5)


def row(templates: int, norm: float, *thresholds: float) -> Row:
    levels = tuple(level(10.0 ** -(i + 2), t) for i, t in enumerate(thresholds))
    return Row(templates=templates, norm=norm, people=200, comparisons=10**6, levels=levels)


def table(*rows: Row) -> Calibration:
    return Calibration(model=MODEL, cohort="made up", confidence=0.95, rows=rows)


TABLE = table(row(1, 1.0, 0.2, 0.3, 0.4), row(4, 0.6, 0.15, 0.25, 0.35))


def cohort(rng: np.random.Generator, people: int, per_person: int, hubness: float, kinship: float) -> Cohort:
    """Draw normal impostor scores: `hubness` is a person's share of the variance in each role, `kinship` a pair's."""
    general = rng.normal(0, math.sqrt(hubness), people)  # some faces look like everybody
    pair = rng.normal(0, math.sqrt(kinship), (people, people))
    noise = rng.normal(0, math.sqrt(1 - 2 * hubness - kinship), (people, per_person, people))
    scores = (general[:, None, None] + general[None, None, :] + pair[:, None, :] + noise) / 8  # inside −1..1
    labels = np.arange(people)
    return Cohort(
        scores=scores.reshape(-1, people).astype(np.float32),
        probes=np.repeat(labels, per_person),
        gallery=labels,
        norms=np.ones(people, np.float32),
        held_out=np.ones(people * per_person, bool),
        templates=1,
    )


# ── exact small cases ──


def test_the_threshold_lets_through_at_most_the_stated_share() -> None:
    scores = np.linspace(0, 0.999, 1000, dtype=np.float32)  # 0.000 … 0.999
    assert threshold_at(scores, 0.01) == pytest.approx(0.9891)
    assert (scores >= np.float32(threshold_at(scores, 0.01))).sum() == 10
    assert (scores >= np.float32(threshold_at(scores, 0.0109))).sum() == 10


def test_ties_are_refused_together() -> None:
    scores = np.array([0.1] * 90 + [0.5] * 10, np.float32)
    assert (scores >= np.float32(threshold_at(scores, 0.05))).sum() == 0


@pytest.mark.parametrize(("errors", "trials"), [(0, 100), (1, 10), (10, 100), (60, 70), (88, 882_883)])
def test_the_binomial_bound_is_where_so_few_errors_have_5_percent(errors: int, trials: int) -> None:
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


def test_a_gallery_of_many_asks_for_a_smaller_rate_a_comparison() -> None:
    fmr = fmr_for_gallery(0.01, 50)
    assert 1 - (1 - fmr) ** 50 == pytest.approx(0.01)
    assert fmr_for_gallery(0.01, 1) == pytest.approx(0.01)
    for rate, people in ((0.0, 5), (1.0, 5), (0.01, 0)):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            fmr_for_gallery(rate, people)


def test_thresholds_are_interpolated_on_the_log_of_the_rate() -> None:
    point = TABLE.at(10**-2.5)
    assert point.likely == pytest.approx([0.2, 0.25])  # norms 0.6 and 1.0
    assert point.certain == pytest.approx([0.3, 0.35])  # at 10^−3.5
    assert point.upper_fmr == pytest.approx(2 * 10**-2.5)


def test_templates_that_look_the_same_need_the_threshold_of_fewer() -> None:
    likely, certain = TABLE.at(1e-3).thresholds(np.array([0.3, 0.6, 0.8, 1.0], np.float32))
    assert likely == pytest.approx([0.25, 0.25, 0.275, 0.3])
    assert certain == pytest.approx([0.35, 0.35, 0.375, 0.4])


def test_certain_means_the_smallest_supported_rate_where_a_tenth_is_less() -> None:
    point = TABLE.at(3e-4)
    assert point.certain_fmr == TABLE.smallest_fmr == 1e-4
    assert point.certain == pytest.approx([0.35, 0.4])


@pytest.mark.parametrize("fmr", [9e-5, 0.011, 0.0, -1.0, math.nan])
def test_a_rate_outside_the_table_is_refused_with_the_supported_range(fmr: float) -> None:
    with pytest.raises(ConfigError, match=r"supports 0\.0001 to 0\.01") as refused:
        TABLE.at(fmr)
    assert "fmr = 0.0001 or more" in refused.value.remedy


def test_rates_with_too_few_errors_are_left_out() -> None:
    calibration = calibrate(
        [cohort(np.random.default_rng(1), 40, 5, 0.1, 0.1)], model=MODEL, cohort="made up", rng=np.random.default_rng(2)
    )
    comparisons = calibration.rows[0].comparisons
    assert comparisons == 40 * 39 * 5
    assert [lv.fmr for lv in calibration.rows[0].levels] == [0.01]  # 3e-3 would be 23 errors
    assert calibration.smallest_fmr * comparisons >= MIN_ERRORS


def test_a_cohort_of_few_people_is_refused() -> None:
    with pytest.raises(ModelError, match="10 people"):
        calibrate(
            [cohort(np.random.default_rng(1), 10, 500, 0, 0)], model=MODEL, cohort="", rng=np.random.default_rng(2)
        )


# ── the file ──


def test_a_calibration_survives_the_file() -> None:
    assert parse(TABLE.encode(), MODEL) == TABLE


def test_a_calibration_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="for model abababababab…, in use is cdcdcdcdcdcd…"):
        parse(TABLE.encode(), "cd" * 32)


@pytest.mark.parametrize(
    ("edit", "wrong"),
    [
        (lambda t: t["rows"].clear(), "empty"),
        (lambda t: t["rows"].reverse(), "norms must fall"),
        (lambda t: t["rows"][0]["levels"].reverse(), "rates must fall"),
        (lambda t: t["rows"][1]["levels"].pop(), "the same in each row"),
        (lambda t: t["rows"][1]["levels"][2].update(threshold=0.2), "must not lower the threshold"),
        (lambda t: t["rows"][1]["levels"][0].update(upper=0.0), "out of range"),
        (lambda t: t["rows"][1]["levels"][2].update(threshold=7), "out of range"),
        (lambda t: t.update(threshold=0.5), "unknown field"),
        (lambda t: t.update(rows="none"), "Expected `array`"),
    ],
)
def test_a_damaged_file_is_refused(edit: object, wrong: str) -> None:
    fields = json.loads(TABLE.encode())
    edit(fields)  # type: ignore[operator]
    with pytest.raises(ModelError, match=wrong):
        parse(json.dumps(fields).encode(), MODEL)


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(ModelError, match="not a calibration file"):
        parse(TABLE.encode()[:-20], MODEL)


# ── properties ──


@given(st.floats(1e-4, 1e-2), st.floats(1e-4, 1e-2), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_a_smaller_rate_or_a_longer_mean_never_lowers_a_threshold(a: float, b: float, m: float, n: float) -> None:
    norms = np.array(sorted((m, n)), np.float32)
    lax, strict = (TABLE.at(fmr).thresholds(norms) for fmr in sorted((a, b), reverse=True))
    for band in (0, 1):
        assert (strict[band] >= lax[band]).all()
        assert strict[band][1] >= strict[band][0]
    assert (strict[1] >= strict[0]).all()  # certain is at least as strict as likely


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_the_computed_threshold_falls_with_the_rate(seed: int, a: float, b: float) -> None:
    scores = np.random.default_rng(seed).normal(0, 0.2, 2000).astype(np.float32)
    strict, lax = sorted((a, b))
    assert threshold_at(scores, strict) >= threshold_at(scores, lax)
    assert (scores >= np.float32(threshold_at(scores, strict))).mean() <= strict


# ── the bound holds as often as it says ──


def covered(hubness: float, kinship: float, trials: int = 120) -> tuple[float, float]:
    """The shares of cohorts whose (clustered, binomial) bound lies above the true FMR of their threshold."""
    rng = np.random.default_rng(7)
    held = np.zeros(2)
    for _ in range(trials):
        drawn = cohort(rng, 100, 5, hubness, kinship)
        lv = calibrate([drawn], model=MODEL, cohort="", rng=rng, rates=[1e-3]).rows[0].levels[0]
        truth = 1 - NormalDist().cdf(lv.threshold * 8)
        held += [truth <= lv.upper, truth <= lv.upper_binomial]
    clustered, binomial = held / trials
    return float(clustered), float(binomial)


def test_the_bound_holds_in_about_95_of_100_cohorts_where_comparisons_share_people() -> None:
    clustered, binomial = covered(hubness=0.08, kinship=0.09)
    assert clustered >= 0.90
    assert binomial < 0.85  # what counting comparisons as independent would have promised


def test_the_bound_stays_useful_where_comparisons_are_independent() -> None:
    clustered, binomial = covered(hubness=0.0, kinship=0.0)
    assert clustered >= 0.90
    assert binomial >= 0.90


def test_the_clustered_bound_sees_who_shares_an_error() -> None:
    comparisons = np.ones((50, 50)) - np.eye(50)
    scattered, one_person = np.zeros((50, 50)), np.zeros((50, 50))
    scattered[np.arange(30), np.arange(30) + 1] = 1
    one_person[7, 10:40] = 1
    weights = np.random.default_rng(3).multinomial(50, np.full(50, 0.02), 1000).astype(np.float64)
    assert clustered_upper(one_person, comparisons, weights) > 2 * clustered_upper(scattered, comparisons, weights)


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TABLE.model = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(TABLE, cohort="x").cohort == "x"


# ── the committed files ──

COMMITTED = sorted((Path(__file__).parents[2] / "edge/models").glob("*-calibration.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_thresholds_support_the_default_rate(path: Path) -> None:
    calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    point = calibration.at(1e-3)
    assert point.certain_fmr <= 1e-4
    assert 1e-3 < point.upper_fmr < 3e-3  # a bound so far off would say that the cohort is too small
    for r in calibration.rows:
        for lv in r.levels:
            assert MIN_ERRORS <= lv.errors <= lv.fmr * r.comparisons
            assert lv.upper_binomial < lv.upper
