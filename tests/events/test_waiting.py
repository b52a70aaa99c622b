"""Ages of events on a device whose wall clock may be wrong: exact within one boot, uncertain across boots."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.events.moments import moment as moment_now
from edge.events.waiting import expired, is_late
from tests.events.samples import NOON_MS, moment

WEEK_S = 7 * 86_400.0


@given(st.integers(-(2**50), 2**50))
def test_a_clock_step_within_one_start_changes_no_age(step_ms: int) -> None:
    born = moment(NOON_MS, uptime_s=100)
    assert not expired(born, moment(NOON_MS + step_ms, uptime_s=160), WEEK_S)
    assert not is_late(born, moment(NOON_MS + step_ms, uptime_s=160), 60.0)
    assert expired(born, moment(NOON_MS + step_ms, uptime_s=101 + WEEK_S), WEEK_S)
    assert is_late(born, moment(NOON_MS + step_ms, uptime_s=161), 60.0)


@example(10 * 86_400_000)
@given(st.integers(-(2**50), 2**50))
def test_across_starts_the_wall_clock_expires_nothing(step_ms: int) -> None:
    """Without a real-time clock a device starts with the time of its last shutdown; the network corrects it later."""
    born = moment(NOON_MS, uptime_s=60, kernel_boot="kernel-1")
    assert not expired(born, moment(NOON_MS + step_ms, uptime_s=30, kernel_boot="kernel-2"), WEEK_S)


@pytest.mark.parametrize(("uptime_s", "gone"), [(30, False), (WEEK_S, False), (WEEK_S + 1, True)])
def test_an_event_of_an_earlier_start_is_at_least_as_old_as_the_present_one(uptime_s: float, gone: bool) -> None:
    born = moment(uptime_s=5 * WEEK_S, kernel_boot="kernel-1")
    assert expired(born, moment(uptime_s=uptime_s, kernel_boot="kernel-2"), WEEK_S) is gone


@pytest.mark.parametrize(("then", "now"), [("", "kernel-2"), ("kernel-1", ""), ("", "")])
def test_where_the_start_is_not_known_nothing_expires(then: str, now: str) -> None:
    born = moment(uptime_s=0, kernel_boot=then)
    assert not expired(born, moment(NOON_MS * 2, uptime_s=2 * WEEK_S, kernel_boot=now), WEEK_S)


@pytest.mark.parametrize(("wall_age_s", "late"), [(-5, True), (0, False), (59, False), (61, True), (10**9, True)])
def test_across_starts_an_unknown_age_counts_as_late(wall_age_s: int, late: bool) -> None:
    assert is_late(moment(), moment(NOON_MS + wall_age_s * 1000, uptime_s=20, kernel_boot="kernel-2"), 60.0) is late


def test_the_clock_knows_the_kernels_start_and_never_goes_back() -> None:
    first, second = moment_now(), moment_now()
    assert first.kernel_boot == second.kernel_boot != ""
    assert first.uptime_ms <= second.uptime_ms
