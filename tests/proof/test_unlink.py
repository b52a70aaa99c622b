"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import numpy as np
import pytest

from tools.proof import unlink


def test_templates_on_two_devices_are_not_linked() -> None:
    figures = unlink.prove(short=True, say=print)
    assert figures["d_sys_without_rotation"] > 0.5


def test_linkability_is_low_for_equal_and_high_for_separate_scores() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 200_000))
    assert unlink.linkability(a, b) < 0.01
    assert unlink.linkability(a + 20, b) == pytest.approx(1.0)
    # two triangles on (0, 1), one rising, one falling: ∫ (p − q) p / (p + q) over p > q = ∫ (2x − 1) 2x dx from ½ to 1
    rising, falling = np.sqrt(rng.random(400_000)), 1 - np.sqrt(rng.random(400_000))
    assert unlink.linkability(rising, falling) == pytest.approx(5 / 12, abs=0.01)


def test_stores_with_the_same_rotation_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.identity.image.orthogonal", lambda _key, dimension: np.eye(dimension))
    with pytest.raises(AssertionError, match="D_sys is 0"):
        unlink.prove(short=True, say=print)
