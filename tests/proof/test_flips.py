"""The short form of the proof, and that it can fail: a damaged log that nobody notices is found."""

from __future__ import annotations

import pytest

from edge.events import wal
from tools.proof import flips


def test_a_flipped_bit_in_the_log_loses_only_what_follows_and_is_counted() -> None:
    figures = flips.prove(short=True, say=print)
    assert figures["losses_not_counted"] == figures["lost_before_the_flip"] == 0
    assert sum(figures["flips_by_events_lost"].values()) == figures["flips"] >= 100


def test_a_loss_that_is_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "is_damaged", lambda path: False)  # noqa: ARG005
    with pytest.raises(AssertionError, match="not counted"):
        flips.prove(short=True, say=print)
