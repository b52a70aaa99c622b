"""A simulated device for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provision.harness import OnTable


@pytest.fixture
def table(tmp_path: Path) -> OnTable:
    """A device in factory state, armed."""
    made = OnTable(tmp_path)
    made.arming.arm(60)
    return made
