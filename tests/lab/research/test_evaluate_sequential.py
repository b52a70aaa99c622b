"""Decisions on running means, for strangers with known scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.identity.calibration import OperatingPoint
from tests.lab.faces import make_data
from tools.lab import data
from tools.lab.figures import unit
from tools.lab.research import sequential
from tools.lab.visits import Faces, running


def point(threshold: float) -> OperatingPoint:
    one, table = np.ones(1, np.float32), np.array([[threshold]], np.float32)
    return OperatingPoint("m", 1e-3, 1e-4, 1e-3, one, one, table, table, one, (1,))


def encounter(*cosines: float) -> sequential.Encounters:
    """Return an encounter of a stranger (person 9) with these cosines to the enrolled person (first axis)."""
    vectors = np.array([[c, (1 - c * c) ** 0.5] for c in cosines], np.float32)
    return sequential.Encounters(vectors[None], np.array([9]))


GALLERY, MEANS = np.array([1]), np.array([[1.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("cosines", "first", "any_mean"),
    [
        ([0.9] + [0.0] * 7, 1, 0),  # one similar picture alone decides nothing
        ([0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9], 0, 1),  # late, but within eight
        ([0.6, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1, 0),  # the mean of two would match, but does not decide
        ([0.6] * 3 + [0.0] * 5, 1, 1),  # at the third, though not at the last
    ],
)
def test_any_mean_from_the_third_to_the_eighth_counts(cosines: list[float], first: int, any_mean: int) -> None:
    found = sequential.rates(encounter(*cosines), GALLERY, MEANS, point(0.5), None)
    assert (found["first_picture"], found["any_mean"], found["comparisons"]) == (first, any_mean, 1)


def test_the_person_enrolled_is_no_stranger() -> None:
    both = sequential.Encounters(np.repeat(encounter(*[0.9] * 8).vectors, 2, axis=0), np.array([1, 9]))
    found = sequential.rates(both, GALLERY, MEANS, point(0.5), None)
    assert found["comparisons"] == 1
    assert found["any_mean"] == 1


def test_strangers_with_many_pictures_are_compared_with_every_enrolled_stranger() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(5), 17)
    vectors = unit(rng.normal(0, 1, (85, 8)).astype(np.float32))
    met = sequential.unlike(Faces(vectors, vectors, person), rng)
    assert np.bincount(met.person).tolist() == [2] * 5
    gallery, means = sequential.enrol(vectors, person, 4, rng)
    assert sequential.rates(met, gallery, means, point(2.0), None)["comparisons"] == 10 * 4
    assert sequential.rates(met, gallery, means, point(-2.0), None)["any_mean"] == 1
    scores, norms = running(met.vectors, unit(means))
    last = met.vectors.mean(axis=1)
    np.testing.assert_allclose(norms[-1], np.linalg.norm(last, axis=1), atol=1e-6)
    np.testing.assert_allclose(scores[-1], unit(last) @ unit(means).T, atol=1e-6)


def test_a_glimpse_is_the_same_face_but_never_the_same_picture(tmp_path: Path) -> None:
    stored = dict(data.stored(make_data(tmp_path), "val"))["000024"]
    rng = np.random.default_rng(0)
    one, two = (sequential.glimpse(stored, rng) for _ in range(2))
    assert one.shape == (128, 128)
    assert one.dtype == np.uint8
    assert not np.array_equal(one, two)
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.8
