"""The publisher's rules: events in flight, trimming by acks, delays of retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events.flow import Backoff, DeliveryWindow, Topics
from edge.events.messages import Ack
from edge.events.waiting import Row
from tests.events.samples import BOOT, match, moment

TOPICS = Topics("home/edge", "glasses")


def row(number: int) -> Row:
    return Row(number, match(number), moment())


def test_only_set_topics_of_this_device_have_a_key() -> None:
    assert TOPICS.set_key("home/edge/glasses/recognition/set") == "recognition"
    for other in ("home/edge/glasses/set", "home/edge/glasses//set", "home/edge/other/recognition/set", TOPICS.ack):
        assert TOPICS.set_key(other) is None


def test_no_more_than_the_window_is_in_flight() -> None:
    flow = DeliveryWindow(acks=False, window=3)
    for number in range(1, 4):
        flow.sent(number, row(number))
    assert (flow.room, flow.in_flight) == (0, 3)
    answered = flow.answered(2)
    assert answered is not None
    assert answered.event.seq == 2
    assert flow.room == 1


def test_an_answer_to_another_message_is_no_event() -> None:
    assert DeliveryWindow(acks=False).answered(99) is None


def test_an_absent_consumer_bounds_what_is_sent() -> None:
    flow = DeliveryWindow(acks=True, window=20, unacked_max=5)
    for number in range(1, 6):
        flow.sent(number, row(number))
        flow.answered(number)
    assert flow.room == 0
    assert flow.acked(Ack(boot=BOOT, seq=2)) == 2
    assert flow.room == 2


@pytest.mark.parametrize(("acked", "trimmed"), [(0, 0), (2, 2), (3, 3), (4, 3), (2**53 - 1, 3)])
def test_an_ack_never_trims_what_was_not_sent(acked: int, trimmed: int) -> None:
    flow = DeliveryWindow(acks=True)
    for number in range(1, 4):
        flow.sent(number, row(number))
    assert flow.acked(Ack(boot=BOOT, seq=acked)) == trimmed


def test_an_ack_of_an_unknown_boot_trims_nothing() -> None:
    flow = DeliveryWindow(acks=True)
    flow.sent(1, row(1))
    assert flow.acked(Ack(boot="f" * 16, seq=9)) == 0
    assert flow.unacked == 1


def test_after_a_rewind_the_oldest_comes_first_and_counts_as_sent_again() -> None:
    flow = DeliveryWindow(acks=True)
    assert not flow.sent(1, row(1))
    flow.rewind()
    assert (flow.cursor, flow.in_flight, flow.unacked) == (0, 0, 0)
    assert flow.sent(2, row(1))
    assert flow.acked(Ack(boot=BOOT, seq=1)) == 1


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=80))
def test_delays_grow_to_the_cap_and_never_leave_it(uniform: list[float]) -> None:
    backoff = Backoff(base_s=1.0, cap_s=60.0, floor_s=0.1)
    for tries, number in enumerate(uniform):
        assert 0.1 <= backoff.next_s(number) <= min(60.0, 2.0**tries)


def test_a_success_and_a_refusal_move_the_delays() -> None:
    backoff = Backoff()
    assert [backoff.next_s(0.5) for _ in range(3)] == [0.5, 1.0, 2.0]
    backoff.reset()
    assert backoff.next_s(0.5) == 0.5
    backoff.slow_down()
    assert backoff.next_s(0.5) == 30.0
