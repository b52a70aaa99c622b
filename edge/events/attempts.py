"""Schedules connection attempts and describes failures; recognises another client with our id. Sans-IO.

The clock is an argument.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.config import MqttConfig
from edge.errors import PublisherError
from edge.events.flow import Backoff
from edge.events.link import LinkError
from edge.events.messages import Link

_RIVAL_BASE_S, _RIVAL_CAP_S = 5.0, 300.0  # delays between attempts while the client id is in use
_QUICK_S = 30.0  # a shorter connection that ends without a reason may have been taken over by another client
_LOSSES = 3  # such connections in a row, with a reachable broker: another client has our id
_CALM_S = 900.0  # after a connection of this length the other client counts as gone


class Rivals:
    """Recognises that another client uses our id: with each connection, the broker closes the other client's one.

    MQTT 5 has a reason code for this, which not every broker sends. Without it, the conclusion is drawn from repeated
    connections that end soon after the broker accepted them, while the broker is always reachable.
    """

    def __init__(self) -> None:
        self.known = False
        self._losses = 0

    def lost(self, lasted_s: float | None, error: PublisherError) -> bool:
        """Record a lost or failed connection; return whether another client with our id is the reason.

        `lasted_s`: duration of the connection; None if the broker had not accepted it.
        """
        if lasted_s is None:
            self._losses = 0  # the broker was unreachable or refused
            return False
        self.calm(lasted_s)
        if not isinstance(error, LinkError):
            return False
        if error.link == "id_in_use":
            self.known = True
        elif error.unexplained:
            self._losses = self._losses + 1 if lasted_s < _QUICK_S else 0
            self.known = self.known or self._losses >= _LOSSES
        else:
            return False
        return self.known

    def calm(self, lasted_s: float) -> bool:
        """Forget the other client once a connection has lasted; return whether the conflict has ended."""
        if not self.known or lasted_s < _CALM_S:
            return False
        self.known, self._losses = False, 0
        return True


class Retry(NamedTuple):
    """The description of a failure, and the delay to the next attempt."""

    link: Link
    problem: str
    delay_s: float
    named_before: bool = False  # the log already has this problem


class Attempts:
    """Tracks the sequence of connections and failures."""

    def __init__(self, mqtt: MqttConfig, client_id: str, backoff: Backoff) -> None:
        self._where = f"broker {mqtt.host}:{mqtt.port}"
        self._client_id = client_id
        self._backoff = backoff
        self._rivals, self._rival_backoff = Rivals(), Backoff(_RIVAL_BASE_S, _RIVAL_CAP_S, _RIVAL_BASE_S)
        self._since_s: float | None = None  # when the broker accepted the present connection

    def welcome(self, t_s: float) -> bool:
        """Record an accepted connection; return whether another client is expected to take it over."""
        self._since_s = t_s
        return self._rivals.known

    def answered(self) -> None:
        """Record an answer of the broker: the delay after the next failure starts again at its first value."""
        self._backoff.reset()

    def calm(self, t_s: float) -> bool:
        """Forget the other client once a connection has lasted; return whether the conflict has ended."""
        ended = self._since_s is not None and self._rivals.calm(t_s - self._since_s)
        if ended:
            self._rival_backoff.reset()
        return ended

    def failed(self, error: PublisherError, t_s: float, uniform: float) -> Retry:
        """Return the description and the delay; `uniform` is a random number in [0, 1)."""
        link: Link = error.link if isinstance(error, LinkError) else "settings"
        named_before = self._rivals.known
        lasted_s = None if self._since_s is None else t_s - self._since_s
        self._since_s = None
        if self._rivals.lost(lasted_s, error):
            problem = (
                f"{self._where}: another client connects as '{self._client_id}', and the broker keeps one of the two\n"
                "  → give each device its own [device] id, and look for a second edge-daemon; "
                f"it is tried again, at distances of up to {_RIVAL_CAP_S / 60:.0f} min"
            )
            delay_s = self._rival_backoff.next_s(0.5 + uniform / 2)
            return Retry("id_in_use", problem, delay_s, named_before)
        if link == "settings" or (isinstance(error, LinkError) and error.slow):
            self._backoff.slow_down()
        return Retry(link, str(error), self._backoff.next_s(uniform))
