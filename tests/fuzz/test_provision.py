"""Fuzzing in the default run: 200,000 inputs over all targets. The long run: `python -m tests.fuzz --help`."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import inputs
from tests.fuzz.targets import TARGETS

RUNS = {"framing": 20_000, "session": 40_000, "requests": 50_000, "replies": 50_000, "control": 40_000}


def test_the_default_run_is_200_000_inputs() -> None:
    assert RUNS.keys() == TARGETS.keys()
    assert sum(RUNS.values()) == 200_000


@pytest.mark.parametrize("target", TARGETS)
def test_changed_messages_end_only_in_the_declared_error(target: str) -> None:
    for data in inputs(RUNS[target], seed=1):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_any_bytes_end_only_in_the_declared_error(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_the_memory_of_many_inputs_is_that_of_few(target: str) -> None:
    def feed(seed: int) -> None:
        for data in inputs(300, seed):
            TARGETS[target](data)

    feed(1)
    tracemalloc.start()
    try:
        feed(2)
        before, _ = tracemalloc.get_traced_memory()
        feed(3)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    assert peak < 4_000_000
