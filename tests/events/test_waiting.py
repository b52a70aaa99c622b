"""Ages on a device whose wall clock may be wrong: exact within one start of the kernel, guarded across starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events.clock import moment as moment_now
from edge.events.waiting import DOUBT_S, expired, is_late
from tests.events.samples import NOON_MS, moment

WEEK_S = 7 * 86_400.0


@given(st.integers(-(2**50), 2**50))
def test_a_clock_step_within_one_start_changes_no_age(step_ms: int) -> None:
    born = moment(NOON_MS, uptime_s=100)
    assert not expired(born, moment(NOON_MS + step_ms, uptime_s=160), WEEK_S)
    assert not is_late(born, moment(NOON_MS + step_ms, uptime_s=160), 60.0)
    assert expired(born, moment(NOON_MS + step_ms, uptime_s=101 + WEEK_S), WEEK_S)
    assert is_late(born, moment(NOON_MS + step_ms, uptime_s=161), 60.0)


@pytest.mark.parametrize(
    ("wall_age_s", "gone"),
    [
        (-1, False),  # the clock was set back
        (60, False),
        (WEEK_S - 1, False),
        (WEEK_S + 1, True),
        (WEEK_S + DOUBT_S - 1, True),
        (WEEK_S + DOUBT_S + 1, False),  # no age: the event was born before the clock was set
        (30 * 365 * 86_400, False),
    ],
)
@pytest.mark.parametrize("kernel_boot", ["kernel-2", ""])
def test_across_starts_only_a_plausible_age_expires(wall_age_s: float, gone: bool, kernel_boot: str) -> None:
    born = moment(NOON_MS, uptime_s=5000, kernel_boot="kernel-1" if kernel_boot else "")
    now = moment(NOON_MS + int(wall_age_s * 1000), uptime_s=20, kernel_boot=kernel_boot)
    assert expired(born, now, WEEK_S) is gone


@pytest.mark.parametrize(("wall_age_s", "late"), [(-5, True), (0, False), (59, False), (61, True), (10**9, True)])
def test_across_starts_an_unknown_age_counts_as_late(wall_age_s: int, late: bool) -> None:
    assert is_late(moment(), moment(NOON_MS + wall_age_s * 1000, uptime_s=20, kernel_boot="kernel-2"), 60.0) is late


def test_the_clock_knows_the_kernels_start_and_never_goes_back() -> None:
    first, second = moment_now(), moment_now()
    assert first.kernel_boot == second.kernel_boot != ""
    assert first.uptime_ms <= second.uptime_ms
