"""int8 products are exact on this processor; the option for exact products is set only where needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edge.models import exact


def convolved(option: str | None) -> float:
    """Return the results of the probe's convolution (exact result 1) with and without the option."""
    options = ort.SessionOptions()
    if option is not None:
        options.add_session_config_entry(exact.SHIFT_WEIGHTS[0], option)
    session = ort.InferenceSession(exact.probe(), options, providers=["CPUExecutionProvider"])
    x = np.ones((1, 64, 8, 8), np.float32)
    return float(np.asarray(session.run(None, {"x": x})[0]).ravel()[0])


def test_the_probe_is_exact_with_the_option() -> None:
    assert convolved("1") == pytest.approx(1.0, abs=0.004)


def test_the_option_is_set_exactly_where_products_saturate() -> None:
    saturated = abs(convolved(None) - 1.0) > 0.01
    exact._saturates.cache_clear()
    assert exact._saturates(ort) == saturated


@pytest.mark.parametrize("saturates", [True, False])
def test_the_option_follows_the_probe(saturates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_: list[tuple[str, str]] = []

    class Options:
        def add_session_config_entry(self, key: str, value: str) -> None:
            set_.append((key, value))

    def said(_: Any) -> bool:
        return saturates

    monkeypatch.setattr(exact, "_saturates", said)
    exact.multiply_exactly(ort, Options())
    assert set_ == ([exact.SHIFT_WEIGHTS] if saturates else [])
