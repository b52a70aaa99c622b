from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError, ModelError
from edge.identity.calibration import Calibration, Level, Row, parse, rate_for_gallery, shares_of

MODEL, COHORT = "ab" * 32, "cd" * 32


def level(fmr: float, *thresholds: float) -> Level:
    return Level(fmr=fmr, thresholds=thresholds, errors=30, upper=fmr * 2, upper_binomial=fmr * 1.1, tar=0.5)


def row(templates: int, norm: float, *thresholds: tuple[float, float]) -> Row:
    levels = tuple(level(10.0 ** -(i + 2), *t) for i, t in enumerate(thresholds))
    return Row(templates=templates, norm=norm, people=200, comparisons=10**6, levels=levels)


def table(*rows: Row) -> Calibration:
    return Calibration(
        model=MODEL,
        cohort=COHORT,
        faces="made up",
        confidence=0.95,
        decided_from=3,
        decided_to=8,
        shot_norms=(1.0, 0.6),
        rows=rows,
    )


TABLE = table(
    row(1, 1.0, (0.15, 0.25), (0.25, 0.35), (0.35, 0.45)),
    row(4, 0.6, (0.2, 0.3), (0.3, 0.4), (0.4, 0.5)),
)


# ── exact small cases ──


def test_the_false_match_rate_grows_with_the_number_of_people() -> None:
    assert rate_for_gallery(0.001, 50) == pytest.approx(1 - 0.999**50)
    assert rate_for_gallery(0.01, 1) == pytest.approx(0.01)
    assert rate_for_gallery(0.01, 0) == 0


def test_rates_hold_for_decisions_on_the_numbers_of_embeddings_that_were_measured() -> None:
    assert [TABLE.covers(*numbers) for numbers in ((3, 8), (4, 4), (2, 8), (3, 9), (8, 3))] == [True, True] + 3 * [
        False
    ]


def test_thresholds_are_interpolated_on_the_log_of_the_rate() -> None:
    point = TABLE.at(10**-2.5)
    assert point.likely == pytest.approx(np.array([[0.2, 0.3], [0.25, 0.35]]))  # norms 1.0 and 0.6
    assert point.certain == pytest.approx(np.array([[0.3, 0.4], [0.35, 0.45]]))  # at 10^−3.5
    assert point.upper_fmr == pytest.approx(2 * 10**-2.5)


def test_similar_pictures_have_the_threshold_of_fewer_pictures() -> None:
    point = TABLE.at(1e-3)
    likely, certain = point.of_people(np.array([0.3, 0.6, 0.8, 1.0], np.float32))
    one_picture, between, many = (point.shares(np.array([norm], np.float32)) for norm in (1.0, 0.8, 0.4))
    assert one_picture @ likely == pytest.approx(np.array([[0.3, 0.3, 0.275, 0.25]]))
    assert between @ likely == pytest.approx(np.array([[0.35, 0.35, 0.325, 0.3]]))
    assert many @ likely == pytest.approx(np.array([[0.4, 0.4, 0.375, 0.35]]))
    assert many @ certain == pytest.approx(np.array([[0.5, 0.5, 0.475, 0.45]]))


def test_interpolation_needs_no_more_than_one_point() -> None:
    assert shares_of(np.array([0.2, 1.0], np.float32), np.array([0.7], np.float32)).tolist() == [[1.0], [1.0]]


def test_certain_means_the_smallest_supported_rate_where_a_tenth_is_less() -> None:
    point = TABLE.at(3e-4)
    assert point.certain_fmr == TABLE.smallest_fmr == 1e-4
    assert point.certain == pytest.approx(np.array([[0.35, 0.45], [0.4, 0.5]]))


@pytest.mark.parametrize("fmr", [9e-5, 0.011, 0.0, -1.0, math.nan])
def test_a_rate_outside_the_table_is_refused_with_the_supported_range(fmr: float) -> None:
    with pytest.raises(ConfigError, match=r"supports 0\.0001 to 0\.01") as refused:
        TABLE.at(fmr)
    assert "fmr = 0.0001 or more" in refused.value.remedy


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
        (lambda t: t["shot_norms"].reverse(), "norms must fall"),
        (lambda t: t["shot_norms"].pop(), "each level needs 1 thresholds"),
        (lambda t: t["rows"][0]["levels"][2].update(thresholds=[0.2, 0.45]), "a smaller false match rate must not"),
        (lambda t: t["rows"][1]["levels"][2].update(thresholds=[0.3, 0.5]), "more templates must not lower"),
        (lambda t: t["rows"][1]["levels"][2].update(thresholds=[0.6, 0.55]), "more shots must not lower"),
        (lambda t: t["rows"][1]["levels"][0].update(upper=0.0), "out of range"),
        (lambda t: t["rows"][1]["levels"][2].update(thresholds=[0.4, 7]), "out of range"),
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


NORM = st.floats(0.2, 1.0)


@given(st.floats(1e-4, 1e-2), st.floats(1e-4, 1e-2), NORM, NORM, NORM, NORM)
def test_a_smaller_rate_or_more_pictures_never_lower_a_threshold(  # noqa: PLR0917
    a: float, b: float, m: float, n: float, p: float, q: float
) -> None:
    templates, probes = (np.array(sorted(pair), np.float32) for pair in ((m, n), (p, q)))
    found = []
    for fmr in sorted((a, b), reverse=True):
        point = TABLE.at(fmr)
        found.append([point.shares(probes) @ band for band in point.of_people(templates)])
    lax, strict = found
    for band in (0, 1):
        assert (strict[band] >= lax[band] - 1e-6).all()
        for axis in (0, 1):
            assert (np.diff(strict[band], axis=axis) <= 1e-6).all()
    assert (strict[1] >= strict[0] - 1e-6).all()  # certain is at least as strict as likely


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TABLE.model = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(TABLE, faces="x").faces == "x"


# ── the committed files ──

COMMITTED = sorted((Path(__file__).parents[2] / "edge/models").glob("lightcnn*-calibration.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_thresholds_support_the_default_rate(path: Path) -> None:
    calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    point = calibration.at(1e-3)
    assert point.certain_fmr <= 1e-4
    bounds = [level.upper for of in calibration.rows for level in of.levels if level.fmr == 1e-3]
    assert 1e-3 < max(bounds) < 3e-3  # a wider bound would mean too few people
    assert max(bounds) <= point.upper_fmr < 1e-2  # groups of about a hundred people have wider bounds
    for r in calibration.rows:
        for lv in r.levels:
            assert 0 < lv.errors <= lv.fmr * r.comparisons  # raised for the worst group, and by noise: fewer
            assert lv.upper_binomial < lv.upper
