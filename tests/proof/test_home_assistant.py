"""The proof with a real Home Assistant, where it is installed; and that it can fail."""

from __future__ import annotations

import pytest

from edge.events import discovery
from tools.proof import home_assistant


def test_home_assistant_discovers_follows_and_removes_the_device() -> None:
    figures = home_assistant.prove(short=True, say=print)
    assert len(figures["entities"]) == 12
    assert figures["automations_repeated_by_the_reconnect"] == 0


def test_warnings_of_home_assistant_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ("vision.reason", {"name": "Reason", "entity_category": "diagnostics"})
    monkeypatch.setitem(discovery._SENSORS, "reason", wrong)
    monkeypatch.setattr(home_assistant, "_WAIT_S", 15.0)
    with pytest.raises(AssertionError, match="all entities"):
        home_assistant.prove(short=True, say=print)
