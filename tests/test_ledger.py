"""The reference consumer: duplicates are detected, and acks end before a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.events.messages import Ack
from tests.events.samples import BOOT, match
from tools.ledger import Ledger


@given(st.lists(st.integers(1, 30), max_size=100))
def test_each_event_is_new_once_and_the_ack_has_no_gap(arrivals: list[int]) -> None:
    ledger, seen = Ledger(), set[int]()
    for seq in arrivals:
        assert ledger.receive(match(seq)) is (seq not in seen)
        seen.add(seq)
        acked = ledger.ack(BOOT).seq
        assert set(range(1, acked + 1)) <= seen
        assert acked + 1 not in seen


def test_an_ack_waits_at_a_gap_until_the_device_reports_the_events_as_dropped() -> None:
    ledger = Ledger()
    for seq in (1, 2, 5, 6):
        ledger.receive(match(seq))
    assert ledger.ack(BOOT).seq == 2
    ledger.will_not_come(Ack(boot=BOOT, seq=4))
    assert ledger.ack(BOOT).seq == 3
    ledger.will_not_come(Ack(boot=BOOT, seq=5))
    assert ledger.ack(BOOT).seq == 6
    assert not ledger.receive(match(4))


def test_boots_are_counted_separately() -> None:
    ledger = Ledger()
    assert ledger.receive(match(1))
    assert ledger.receive(match(1, boot="f" * 16))
    assert ledger.ack("e" * 16).seq == 0
