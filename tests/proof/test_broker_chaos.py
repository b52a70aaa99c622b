"""The short form of the proof, and that it can fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge.events.outbox import Outbox
from tools.proof import broker_chaos


def test_no_event_is_lost_on_the_way() -> None:
    figures = broker_chaos.prove(short=True, say=print)
    assert figures["lost"] == 0
    assert figures["kills"]["events"] == 150
    assert figures["full_outbox"] == {"events": 150, "dropped": 50, "counted": 50}
    assert figures["full_disk"]["held_in_memory"] >= 300


def test_a_drop_that_is_not_counted_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Outbox.counts
    monkeypatch.setattr(Outbox, "counts", lambda self: dataclasses.replace(counts(self), dropped_full=0))
    with pytest.raises(AssertionError, match="50 were dropped, 0 counted"):
        broker_chaos._overflow(tmp_path)
