"""The short form of the proof, and that it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.identity import sealed
from tools.proof import tamper


def test_a_store_that_was_altered_is_refused() -> None:
    figures = tamper.prove(short=True, say=print)
    assert figures["taken"] == 0
    assert figures["flipped_bits"] == figures["truncations"] == 2000
    assert figures["forgeries_with_the_key"] > 15


def test_a_store_without_authentication_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tamper.small_store(tmp_path / "templates.edge").read_bytes()
    header, image = sealed.unseal(raw, tamper.KEY)
    monkeypatch.setattr(sealed, "unseal", lambda *_: (header, image))
    assert tamper.flipped(raw, [3, 4000]) == ["bit 3", "bit 4000"]
    assert tamper.cut(raw, [0]) == ["length 0"]
