"""Counts of detected mixtures of people: all for different people, none for similar people."""

from __future__ import annotations

import numpy as np
import pytest

from tools.lab.research import disagreement
from tools.lab.visits import Faces


@pytest.mark.parametrize("pictures", [2, 4])
def test_two_different_people_are_detected_and_one_person_is_not(pictures: int) -> None:
    rng = np.random.default_rng(1)
    centres = np.repeat(np.eye(4, 64), 6, axis=0)
    noisy = centres + 0.05 * rng.normal(size=centres.shape)
    vectors = np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)
    faces = Faces(vectors, vectors, np.repeat(np.arange(4), 6))
    row = disagreement.counted(faces, pictures, 20, rng)
    assert (row["halves_of_one"], row["halves_of_two"]) == (0.0, 1.0)
    assert str(pictures) in disagreement.table({"rows": [row]})
