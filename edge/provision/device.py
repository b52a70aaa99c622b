"""The device's end of the cable: bytes in, bytes out. Framing, session and the desk, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.errors import ProvisionError
from edge.provision import framing, messages
from edge.provision.arming import Arming
from edge.provision.control import wipe
from edge.provision.desk import Desk
from edge.provision.messages import Failed
from edge.provision.session import DeviceSession, Ended, Opened, Random, Received, Send, State

_log = logging.getLogger(__name__)


class Device:
    """Speaks with one host at a time."""

    def __init__(
        self, desk: Desk, arming: Arming, code: Callable[[], bytes], random: Random, hang_up: Callable[[], None]
    ) -> None:
        self._desk = desk
        self._decoder = framing.Decoder()
        self._session = DeviceSession(code, random, arming.spend, arming.proven)
        self._hang_up = hang_up  # ends vision's part: an enrolment that was begun is forgotten

    @property
    def is_open(self) -> bool:
        """Whether a host has proved that it knows the code."""
        return self._session.state is State.OPEN

    def feed(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Take what came over the cable, and write what follows; `write` may raise ProvisionError."""
        for payload in self._decoder.feed(data):
            for output in self._session.receive(payload):
                if isinstance(output, Send):
                    write(framing.encode(output.payload))
                elif isinstance(output, Received):
                    write(framing.encode(self._answered(output.message)))
                elif isinstance(output, Opened):
                    _log.info("a host has proved that it knows the code")
                else:
                    self._over(output)

    def lost(self) -> None:
        """Forget the keys and everything half done: the cable has gone."""
        self._decoder = framing.Decoder()
        if self._session.state is not State.CLOSED:
            self._session.close()
            self._over(None)

    def _answered(self, message: bytearray) -> bytes:
        """Return the sealed answer to one request, and leave nothing of the request in memory."""
        try:
            reply = self._desk.answer(messages.decode_request(message))
        except ProvisionError as e:
            reply = Failed(what=e.what, remedy=e.remedy)
        finally:
            wipe(message)
        return self._session.send(messages.encode(reply)).payload

    def _over(self, ended: Ended | None) -> None:
        _log.info("the conversation is over: %s", "the cable has gone" if ended is None else ended.alert.name)
        self._desk.forget_photo()
        self._hang_up()
