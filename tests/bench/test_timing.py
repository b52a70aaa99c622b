"""Timing with a simulated clock: order, spread, ratios. No test here measures a real duration."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from edge.bench.timing import interleaved, memory_mb, ratio, spread, time_one


class Clock:
    """A clock that advances when work is done."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now_s += seconds

        return run


def test_a_spread_tells_mean_and_percentiles_in_milliseconds() -> None:
    found = spread([i / 1000 for i in range(1, 102)])  # 1 … 101 ms
    assert found.runs == 101
    np.testing.assert_allclose([found.mean_ms, found.p50_ms, found.p90_ms, found.p99_ms], [51, 51, 91, 100])
    assert found.as_dict()["p50_ms"] == 51.0


def test_no_times_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no time was taken"):
        spread([])


def test_subjects_take_turns_and_every_other_round_is_reversed() -> None:
    order: list[str] = []
    subjects = {name: lambda name=name: order.append(name) for name in "abc"}
    rounds: list[int] = []
    interleaved(subjects, 3, warm_up=0, after_round=lambda: rounds.append(len(order)))
    assert "".join(order) == "abccbaabc"
    assert rounds == [3, 6, 9]


def test_each_subject_gets_its_own_times_and_warm_up_is_not_among_them() -> None:
    clock, calls = Clock(), [0]

    def counted() -> None:
        calls[0] += 1
        clock.now_s += 2.0

    times = interleaved({"one": clock.work(1.0), "two": counted}, 4, warm_up=2, clock=clock)
    assert times == {"one": [1.0] * 4, "two": [2.0] * 4}
    assert calls == [6]
    assert time_one(clock.work(0.25), clock) == 0.25


def test_a_ratio_withstands_a_machine_that_slows_down_in_the_middle() -> None:
    slowing = np.array([1.0, 1.0, 5.0, 5.0, 9.0])
    assert ratio(list(3.0 * slowing), list(slowing)) == pytest.approx(3.0)
    assert ratio([3.0, 3.0, 300.0], [1.0, 1.0, 1.0]) == 3.0  # one disturbed run


def test_memory_is_read_from_the_kernel() -> None:
    resident, peak = memory_mb(os.getpid())
    assert 0 < resident <= peak
    with pytest.raises(OSError, match="No such file"):
        memory_mb(2**22 + 1)
