"""The rotation keeps scores, is the same everywhere, and makes stores unlinkable."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.identity.rotation import orthogonal

KEY = bytes(range(32))
GOLDEN_SHA256 = "7328c2097fd7e6d9645bf5d17d8343a362a68380fbb960e93f3fb19f52fb9297"
GOLDEN_ROW = [-0.10180843259872474, -0.07039875445592196, -0.07315730674832933, -0.02344745008508057]


def _unit_rows(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("dimension", [1, 2, 3, 17, 128, 256, 512])
def test_matrix_is_orthogonal(dimension: int) -> None:
    matrix = orthogonal(KEY, dimension)
    assert matrix.shape == (dimension, dimension)
    assert np.abs(matrix @ matrix.T - np.eye(dimension)).max() < 1e-12


@settings(deadline=None, max_examples=30)
@given(key=st.binary(min_size=16, max_size=64), dimension=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_scores_are_kept_under_any_key(key: bytes, dimension: int, seed: int) -> None:
    matrix = orthogonal(key, dimension).astype(np.float32)
    a, b = _unit_rows(5, dimension, seed), _unit_rows(7, dimension, seed + 1)
    assert np.abs((a @ matrix) @ (b @ matrix).T - a @ b.T).max() < 1e-5


def test_matrix_of_a_key_never_changes() -> None:
    # No entry is nearer than 1e-9 to a rounding edge; platforms differ by about 1e-13.
    rounded = np.round(orthogonal(KEY, 32) * 1e4).astype("<i4")
    assert hashlib.sha256(rounded.tobytes()).hexdigest() == GOLDEN_SHA256
    np.testing.assert_allclose(orthogonal(KEY, 256)[0, :4], GOLDEN_ROW, atol=1e-9)


def test_same_face_under_two_keys_looks_like_two_strangers() -> None:
    dimension, pairs = 64, 400
    face = _unit_rows(1, dimension, 0)[0].astype(np.float64)
    images = np.array([face @ orthogonal(KEY + n.to_bytes(4, "big"), dimension) for n in range(2 * pairs)])
    cosines = np.einsum("nd,nd->n", images[:pairs], images[pairs:])
    sigma = dimension**-0.5  # of the cosine of two independent random directions
    assert abs(cosines.mean()) < 4 * sigma / pairs**0.5
    assert cosines.std() == pytest.approx(sigma, rel=4 / (2 * pairs) ** 0.5)
    # Kolmogorov–Smirnov distance to the normal law, at the 0.1 % level
    theory = [0.5 * (1 + math.erf(x / sigma / 2**0.5)) for x in np.sort(cosines)]
    assert np.abs(np.arange(1, pairs + 1) / pairs - theory).max() < 1.95 / pairs**0.5


def test_rotations_have_both_orientations() -> None:
    signs = {round(float(np.linalg.det(orthogonal(KEY + bytes([n]), 8)))) for n in range(20)}
    assert signs == {-1, 1}


@pytest.mark.parametrize(("key", "dimension"), [(b"", 8), (bytes(15), 8), (KEY, 0), (KEY, -1)])
def test_a_short_key_or_dimension_zero_is_refused(key: bytes, dimension: int) -> None:
    with pytest.raises(ValueError, match="are needed"):
        orthogonal(key, dimension)
