"""The device's end of the cable: bytes in, bytes out. Connects framing, session and the owner's requests."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.errors import ProvisionError
from edge.provision.device.arming import Arming
from edge.provision.device.cable_requests import CableRequests
from edge.provision.protocol import framing, messages
from edge.provision.protocol.replies import Failed
from edge.provision.protocol.session import DeviceSession, Ended, Opened, Random, Received, Send, State
from edge.wiping import wipe

_log = logging.getLogger(__name__)
_SILENCE_S = 900.0
_PROOF_S = 60.0  # the slowest host needs less time


class Device:
    """Speaks with one host at a time."""

    def __init__(
        self,
        *,
        requests: CableRequests,
        arming: Arming,
        code: Callable[[], bytes],
        random: Random,
        hang_up: Callable[[], None],
        now_s: Callable[[], float],
    ) -> None:
        self._requests = requests
        self._decoder = framing.Decoder()
        self._session = DeviceSession(code, random, arming.spend, arming.proven)
        self._now_s = now_s
        self._heard_s = now_s()  # time of the guess, later of the last message of a host that knows the code
        self._hang_up = hang_up  # ends vision's part: cancels an enrolment

    @property
    def is_open(self) -> bool:
        """Whether a host has proved that it knows the code."""
        return self._session.state is State.OPEN

    @property
    def is_busy(self) -> bool:
        """Whether a host knows the code, or has used this arming's guess and must still prove it."""
        return self._session.state in {State.EXCHANGED, State.OPEN}

    def feed(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Process bytes from the cable, and write the answers; `write` may raise ProvisionError."""
        for payload in self._decoder.feed(data):
            began_busy = self.is_busy
            for output in self._session.receive(payload):
                if isinstance(output, Send):
                    write(framing.encode(output.payload))
                elif isinstance(output, Received):
                    self._heard_s = self._now_s()
                    answer, last = self._answered(output.message)
                    write(framing.encode(answer))
                    if last:
                        self.lost()
                elif isinstance(output, Opened):
                    self._heard_s = self._now_s()
                    _log.info("a host has proved that it knows the code")
                else:
                    self._over(output)
            if self.is_busy and not began_busy:
                self._heard_s = self._now_s()

    def tick(self) -> None:
        """End a silent conversation: not every cable reports that it is unplugged.

        Before the proof nothing renews the time, so bytes without the code cannot keep the device busy.
        """
        if self.is_busy and self._now_s() - self._heard_s > (_SILENCE_S if self.is_open else _PROOF_S):
            self.lost()

    def lost(self) -> None:
        """Drop the keys and all unfinished work: the cable is unplugged, or the host has ended the conversation."""
        if self._session.state is not State.CLOSED:
            self._session.close()
            self._over(None)

    def _answered(self, message: bytearray) -> tuple[bytes, bool]:
        """Return the sealed answer to one request, and whether it is the last. The request is wiped from memory."""
        last = False
        try:
            request = messages.decode_request(message)
            reply = self._requests.answer(request)
            last = isinstance(request, messages.Bye)
        except ProvisionError as e:
            reply = Failed(what=e.what, remedy=e.remedy)
        finally:
            wipe(message)
        return self._session.send(messages.encode(reply)).payload, last

    def _over(self, ended: Ended | None) -> None:
        _log.info("the conversation is over: %s", "goodbye" if ended is None else ended.alert.name)
        self._requests.forget_photo()
        self._hang_up()
