from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.identity import cohort
from edge.identity.cohort import Cohort
from edge.identity.rotation import orthogonal

MODEL, D, C = "ab" * 32, 16, 60
Vectors = NDArray[np.float32]


def units(seed: int, count: int) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def made(nearest: int = 10) -> Cohort:
    return cohort.made(MODEL, units(1, C), nearest)


def edited(**fields: object) -> bytes:
    """A cohort file with some of its arrays replaced; None leaves one out."""
    with np.load(io.BytesIO(cohort.encode(made()))) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files} | fields
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **{name: np.asarray(a) for name, a in arrays.items() if a is not None})
    return file.getvalue()


def test_statistics_are_of_the_highest_cosines() -> None:
    rows = np.array([[0.1, 0.9, 0.3, 0.5], [0.0, -1.0, 0.2, 0.4]], np.float32)
    assert cohort.highest(rows, 2) == pytest.approx(np.array([[0.7, 0.2], [0.3, 0.1]]))


def test_the_score_is_the_mean_of_both_normalised_cosines() -> None:
    c = Cohort(MODEL, units(1, 5), 2, usual=(0.2, 0.1))
    score = c.normalised(
        np.array([0.6], np.float32), np.array([0.3, 0.1], np.float32), np.array([[0.4, 0.05]], np.float32)
    )
    assert score == pytest.approx([0.2 + 0.1 * (3 + 4) / 2])  # 3 and 4 deviations above the mean


def test_a_face_similar_to_many_needs_a_higher_cosine() -> None:
    c = Cohort(MODEL, units(1, 5), 2, usual=(0.3, 0.1))
    common, rare = np.array([[0.5, 0.1], [0.2, 0.1]], np.float32)
    scores = c.normalised(np.full(2, 0.6, np.float32), np.array([0.3, 0.1], np.float32), np.stack([common, rare]))
    assert scores[0] < scores[1]


@given(st.integers(0, 1000), st.floats(-1, 1), st.floats(0.001, 0.5))
def test_a_higher_cosine_is_a_higher_score(seed: int, cosine: float, more: float) -> None:
    c = made()
    probe, person = c.statistics(units(seed, 2))
    low, high = c.normalised(np.array([cosine, cosine + more], np.float32), probe, np.stack([person, person]))
    assert high > low


def test_probe_and_template_may_change_places() -> None:
    c = made()
    one, other = c.statistics(units(3, 2))
    cosine = np.array([0.4], np.float32)
    assert c.normalised(cosine, one, other[None]) == pytest.approx(c.normalised(cosine, other, one[None]))


def test_statistics_of_many_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    c, rows = made(), units(5, 40)
    whole = c.statistics(rows)
    monkeypatch.setattr(cohort, "_BLOCK_FLOATS", 7 * C)
    assert c.statistics(rows) == pytest.approx(whole)
    assert c.statistics(rows[:1])[0] == pytest.approx(whole[0], abs=1e-6)
    assert c.statistics(rows[:0]).shape == (0, 2)


def test_the_score_does_not_change_with_the_rotation() -> None:
    rotation = orthogonal(bytes(16), D).astype(np.float32)
    rows = units(1, C)
    turned = cohort.made(MODEL, rows @ rotation, 10)
    probe = units(9, 3)
    assert turned.statistics(probe @ rotation) == pytest.approx(made().statistics(probe), abs=0.02)  # int8 rounding


def test_a_cohort_survives_the_file() -> None:
    content = cohort.encode(made())
    again = cohort.parse(content, MODEL, D)
    assert cohort.encode(again) == content
    assert again.nearest == 10
    assert np.einsum("nd,nd->n", again.vectors, units(1, C)) == pytest.approx(np.ones(C), abs=1e-3)
    assert np.linalg.norm(again.vectors, axis=1) == pytest.approx(np.ones(C))


def test_a_cohort_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="for model abababababab…, in use is cdcdcdcdcdcd…") as refused:
        cohort.parse(cohort.encode(made()), "cd" * 32, D)
    assert "python -m tools.lab cohort" in refused.value.remedy


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "not a cohort file"),
        (cohort.encode(made())[:-100], "not a cohort file"),
        (cohort.encode(made())[:300], "not a cohort file"),
        (b"{}", "not a cohort file"),
        (edited(usual=None), "not a cohort file"),
        (edited(extra=1), "not a cohort file"),
        (edited(model=np.array({}, object)), "not a cohort file"),
        (edited(vectors=np.full((C, D), np.nan, np.float32)), "type float32"),
        (edited(vectors=np.ones((C, D + 1), np.int8)), r"instead of \(C, 16\)"),
        (edited(vectors=np.zeros((C, D), np.int8)), "no direction"),
        (edited(nearest=C), "nearest of 60"),
        (edited(nearest=1), "nearest of 60"),
        (edited(nearest=2.5), "nearest of 60"),
        (edited(usual=np.array([np.nan, 0.1], np.float32)), "scale"),
        (edited(usual=np.array([0.1, 0.0], np.float32)), "scale"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, wrong: str) -> None:
    with pytest.raises(ModelError, match=wrong) as refused:
        cohort.parse(content, MODEL, D)
    assert "python -m tools.lab cohort" in refused.value.remedy
