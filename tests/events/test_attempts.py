"""Connection attempts: reason codes decide message and delay; a second client with the same id is detected."""

from __future__ import annotations

import pytest

from edge.config import MqttConfig
from edge.events.attempts import Attempts, Retry
from edge.events.flow import Backoff
from edge.events.link import LinkError
from edge.events.refusals import ADVICE, TAKEN_OVER, advice


def attempts() -> Attempts:
    return Attempts(MqttConfig(), "edge-door", Backoff())


def closed() -> LinkError:
    error = LinkError("lost", "broker localhost:1883: connection lost: the broker has closed it")
    error.unexplained = True
    return error


def hung_up(code: int) -> LinkError:
    return LinkError.advised("broker localhost:1883 hangs up", advice(code))


def meet(followed: Attempts, error: LinkError, *, at_s: float, lasted_s: float = 1.0) -> Retry:
    """Simulate a connection that is accepted and ends."""
    followed.welcome(at_s)
    return followed.failed(error, at_s + lasted_s, 0.999)


def test_a_taken_over_session_is_reported_once_at_once_and_retried_with_growing_delays() -> None:
    followed = attempts()
    told = [meet(followed, hung_up(TAKEN_OVER), at_s=400.0 * i) for i in range(8)]
    assert {retry.link for retry in told} == {"id_in_use"}
    assert "another client connects as 'edge-door'" in told[0].problem
    assert [retry.named_before for retry in told] == [False] + 7 * [True]
    delays = [retry.delay_s for retry in told]
    assert delays == sorted(delays)
    assert delays[0] <= 5.0
    assert delays[-1] >= 290.0


def test_connections_closed_repeatedly_without_a_reason_mean_a_second_client() -> None:
    followed = attempts()
    links = [meet(followed, closed(), at_s=10.0 * i).link for i in range(4)]
    assert links == ["lost", "lost", "id_in_use", "id_in_use"]


def test_a_repeatedly_restarted_broker_is_no_second_client() -> None:
    followed = attempts()
    for i in range(10):
        assert meet(followed, closed(), at_s=10.0 * i).link == "lost"
        away = LinkError("unreachable", "broker localhost:1883: cannot be reached: Connection refused")
        assert followed.failed(away, 10.0 * i + 2.0, 0.5).link == "unreachable"


def test_a_reason_of_the_broker_is_no_second_client() -> None:
    followed = attempts()
    assert {meet(followed, hung_up(0x8B), at_s=10.0 * i).link for i in range(6)} == {"lost"}


def test_the_other_client_is_forgotten_once_a_connection_has_lasted() -> None:
    followed = attempts()
    meet(followed, hung_up(TAKEN_OVER), at_s=0.0)
    assert followed.welcome(10.0), "it is still expected"
    assert not followed.calm(600.0)
    assert followed.calm(1000.0)
    assert not followed.calm(1001.0), "reported once"
    assert followed.failed(closed(), 1002.0, 0.5).link == "lost"


@pytest.mark.parametrize("code", sorted(ADVICE))
def test_every_reason_code_has_a_message_and_a_delay(code: int) -> None:
    first = meet(attempts(), hung_up(code), at_s=0.0)
    assert ADVICE[code].what in first.problem or code == TAKEN_OVER
    assert (first.delay_s > 30.0) == (ADVICE[code].slow and code != TAKEN_OVER)


def test_an_unknown_reason_code_is_shown() -> None:
    assert "0xB3" in meet(attempts(), hung_up(0xB3), at_s=0.0).problem
