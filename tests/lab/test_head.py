"""The last layer in closed form: it recovers a known linear map, and removes the mean."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ModelError
from tools.lab.head import solve

RNG = np.random.default_rng(2)


def test_a_linear_teacher_is_recovered() -> None:
    outputs = RNG.normal(3.0, 2.0, (400, 6)).astype(np.float32)
    matrix = RNG.normal(size=(4, 6))
    teacher = (outputs @ matrix.T + 5.0).astype(np.float32)
    weight, bias = solve(outputs, teacher)
    np.testing.assert_allclose(weight, matrix, atol=0.01)
    np.testing.assert_allclose(outputs @ weight.T + bias, teacher - teacher.mean(axis=0), atol=0.05)


def test_the_teachers_mean_is_removed() -> None:
    outputs = RNG.normal(size=(500, 8)).astype(np.float32)
    teacher = (0.1 * RNG.normal(size=(500, 5)) + 1.0).astype(np.float32)
    weight, bias = solve(outputs, teacher)
    np.testing.assert_allclose((outputs @ weight.T + bias).mean(axis=0), 0, atol=1e-4)


def test_no_other_projection_has_a_smaller_error() -> None:
    outputs = RNG.normal(size=(600, 8)).astype(np.float32)
    noisy = outputs @ RNG.normal(size=(3, 8)).T + RNG.normal(size=(600, 3))
    weight, bias = solve(outputs, noisy.astype(np.float32))
    wanted = noisy - noisy.mean(axis=0)
    best = float(((outputs @ weight.T + bias - wanted) ** 2).sum())
    for _ in range(20):
        other = weight + 0.02 * RNG.normal(size=weight.shape)
        assert float(((outputs @ other.T + bias - wanted) ** 2).sum()) > best


def test_an_output_that_is_always_zero_gets_weight_zero() -> None:
    outputs = RNG.normal(size=(300, 5)).astype(np.float32)
    outputs[:, 2] = 1.5
    weight, _ = solve(outputs, RNG.normal(size=(300, 4)).astype(np.float32))
    np.testing.assert_allclose(weight[:, 2], 0, atol=1e-6)


def test_too_few_crops_are_refused() -> None:
    with pytest.raises(ModelError, match="5 crops"):
        solve(np.ones((5, 8), np.float32), np.ones((5, 4), np.float32))
