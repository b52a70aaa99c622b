"""When the broker is tried again, and what is said meanwhile; recognises another client with our id. Sans-IO.

The clock is an argument.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.config import MqttConfig
from edge.errors import PublisherError
from edge.events.flow import Backoff
from edge.events.link import LinkError
from edge.events.messages import Link

_RIVAL_BASE_S, _RIVAL_CAP_S = 5.0, 300.0  # distances at which a client id that is in use is tried again
_QUICK_S = 30.0  # a connection that ends so soon, without a reason, may have been taken over
_LOSSES = 3  # of them in a row, the broker being there all the time
_CALM_S = 900.0  # so long without a loss: the other one has gone


class Rivals:
    """Recognises that another client with our id throws us out, as we throw it out.

    MQTT 5 has a reason for it, which not every broker sends. Without one it is concluded from connections that are
    closed again and again soon after they were accepted, while the broker is never away.
    """

    def __init__(self) -> None:
        self.known = False
        self._losses = 0

    def lost(self, lasted_s: float | None, error: PublisherError) -> bool:
        """Note why there is no connection; returns whether another client is, or stays, the reason.

        `lasted_s`: how long the connection lasted; None where the broker had not accepted it.
        """
        if lasted_s is None:
            self._losses = 0  # the broker was away, or said something else
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
    """What is said of a failure, and when the broker is tried again."""

    link: Link
    problem: str
    delay_s: float
    named_before: bool = False  # the log has said it


class Attempts:
    """Follows connections from one to the next."""

    def __init__(self, mqtt: MqttConfig, client_id: str, backoff: Backoff) -> None:
        self._where = f"broker {mqtt.host}:{mqtt.port}"
        self._client_id = client_id
        self._backoff = backoff
        self._rivals, self._rival_backoff = Rivals(), Backoff(_RIVAL_BASE_S, _RIVAL_CAP_S, _RIVAL_BASE_S)
        self._since_s: float | None = None  # when the broker took the connection that is

    def welcome(self, t_s: float) -> bool:
        """Note a connection; returns whether another client is expected to take it over."""
        self._since_s = t_s
        return self._rivals.known

    def answered(self) -> None:
        """Note that the broker does its work: the next failure is a new one."""
        self._backoff.reset()

    def calm(self, t_s: float) -> bool:
        """Forget the other client once a connection has lasted; return whether the conflict has ended."""
        ended = self._since_s is not None and self._rivals.calm(t_s - self._since_s)
        if ended:
            self._rival_backoff.reset()
        return ended

    def failed(self, error: PublisherError, t_s: float, uniform: float) -> Retry:
        """Return what to say and how long to wait; `uniform` is a random number, 0 ≤ it < 1."""
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
