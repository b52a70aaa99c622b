"""The average of two sets of weights: between both, and the same embedding for equal ones at any scale."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ModelError
from tools.lab.average import averaged


def weights(level: float, scale: float = 1.0) -> dict[str, np.ndarray]:
    projection = np.eye(3, dtype=np.float32) * scale
    return {"fc.f.weight": np.full((2, 3), level, np.float32), "proj.weight": projection, "proj.bias": projection[0]}


def test_the_average_lies_between_both() -> None:
    found = averaged(weights(1.0), weights(3.0), 0.25)
    assert found["fc.f.weight"] == pytest.approx(np.full((2, 3), 1.5))


def test_the_scale_of_a_projection_does_not_count() -> None:
    found = averaged(weights(1.0, scale=10.0), weights(1.0, scale=2.0), 0.5)
    assert found["proj.weight"] == pytest.approx(weights(1.0, scale=2.0)["proj.weight"])
    assert found["proj.bias"] == pytest.approx(weights(1.0, scale=2.0)["proj.bias"])


def test_weights_of_another_network_are_refused() -> None:
    other = weights(1.0) | {"fc.f.weight": np.zeros((2, 4), np.float32)}
    with pytest.raises(ModelError, match="different networks"):
        averaged(weights(1.0), other, 0.5)
