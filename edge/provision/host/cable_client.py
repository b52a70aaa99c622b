"""The host's end of the cable: opens a conversation, sends requests, returns replies. Uses no terminal and no files."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, TypeVar

from edge.errors import EdgeError, ProvisionError
from edge.provision.protocol import framing, messages, replies
from edge.provision.protocol.fields import Message
from edge.provision.protocol.limits import CHUNK_BYTES
from edge.provision.protocol.messages import WINDOW
from edge.provision.protocol.replies import Failed, Reply
from edge.provision.protocol.session import Alert, Ended, HostSession, Opened, Output, Random, Received, Send, State

_GREETING_S = 3.0  # a device answers at once, unless its process is starting
_GREETINGS = 3
_ANSWER_S = 90.0  # the device may test a new model, or wait for vision

ARM = "press its button, or run on it: systemctl start edge-arm"

_R = TypeVar("_R")


class Pipe(Protocol):
    """A channel for bytes."""

    def read(self) -> bytes:
        """Return the bytes that have arrived, none after a short wait; raises ProvisionError."""

    def write(self, data: bytes) -> None:
        """Send all of it; raises ProvisionError."""


class DeviceError(EdgeError):
    """The device has refused, with its reason; `asks`: the question for the user, as in `replies.Failed`."""

    def __init__(self, what: str, remedy: str = "", asks: str = "") -> None:
        super().__init__(what, remedy)
        self.asks = asks


# Alert → (what, remedy). An alert is not authentic: it is a hint for the user, never a decision of the program.
_TOLD: dict[Alert, tuple[str, str]] = {
    Alert.UNEXPECTED: ("the device and this program lost step", "run the command again"),
    Alert.MALFORMED: ("what came is not of this protocol", "is this the right port? name another with --port"),
    Alert.VERSION: ("the device speaks another version of the protocol", "update the older of the two"),
    Alert.NOT_ARMED: ("the device is not armed", ARM),
    Alert.WAIT: ("too many wrong codes", "wait, then arm the device again"),
    Alert.WRONG_CODE: ("the code is not this device's", "arm the device again, and read the code from its label"),
    Alert.NOT_AUTHENTIC: ("somebody or something changes what goes over the cable", "check what is between the ends"),
    Alert.DAMAGED: ("the cable damages what goes over it", "try another cable or another port"),
}


class Client:
    """One conversation with one device."""

    def __init__(self, pipe: Pipe, code: bytes, random: Random, now_s: Callable[[], float]) -> None:
        self._pipe = pipe
        self._code = code
        self._random = random
        self._now_s = now_s
        self._decoder = framing.Decoder()
        self._session = HostSession(code, random)
        self._inbox: deque[Output] = deque()

    def connect(self) -> None:
        """Open the conversation; raises ProvisionError, and DeviceError where the device refuses."""
        for _ in range(_GREETINGS):
            self._session = HostSession(self._code, self._random)
            self._pipe.write(b"\0")  # ends an incomplete frame of an earlier run
            self._write(self._session.start())
            deadline_s = self._now_s() + _GREETING_S
            while self._session.state is not State.OPEN:
                silent = self._session.state is State.GREETED
                output = self._next(deadline_s if silent else deadline_s + _ANSWER_S)
                if isinstance(output, Opened):
                    return
                if output is None and not (silent and self._session.state is not State.GREETED):
                    break  # it has just answered: it gets the time of a slow device
        raise ProvisionError("no device answers", f"is it plugged in and armed? {ARM}")

    def call(self, request: Message, expected: type[_R]) -> _R:
        """Send one request and return the reply; raises DeviceError with the device's message if it is refused."""
        messages.check(request)
        self._ask(request)
        return self._reply(expected)

    def stream(self, requests: Iterator[Message]) -> Iterator[Reply]:
        """Send many requests, a few at a time; yields the replies in order."""
        under_way = 0
        for request in requests:
            self._ask(request)
            under_way += 1
            if under_way == WINDOW:
                yield self._reply(object)  # type: ignore[misc]
                under_way -= 1
        for _ in range(under_way):
            yield self._reply(object)  # type: ignore[misc]

    def close(self) -> None:
        """End the conversation; the device then drops unfinished work. An unplugged cable has the same effect."""
        if self._session.state is not State.OPEN:
            return
        with suppress(EdgeError):
            self._write(self._session.send(messages.encode(messages.Bye())))
        self._session.close()

    def send_photo(self, name: str, data: bytes) -> Iterator[int | replies.Progress]:
        """Send one photo in pieces; yield the number of bytes that arrived, and at the end the device's result."""
        pieces = (
            messages.Photo(name=name, size=len(data), offset=at, data=memoryview(data)[at : at + CHUNK_BYTES])
            for at in range(0, len(data), CHUNK_BYTES)
        )
        for reply in self.stream(pieces):
            if isinstance(reply, replies.Progress):
                yield reply
            elif isinstance(reply, replies.Stored):
                yield reply.offset

    def send_update(self, data: bytes) -> Iterator[int]:
        """Send a bundle from where the last run ended; yields how many bytes have arrived."""
        digest = hashlib.sha256(data).hexdigest()
        have = self.call(messages.UpdateBegin(size=len(data), sha256=digest), replies.Stored).offset
        yield have
        pieces = (
            messages.UpdateChunk(offset=at, data=memoryview(data)[at : at + CHUNK_BYTES])
            for at in range(have, len(data), CHUNK_BYTES)
        )
        for reply in self.stream(pieces):
            if isinstance(reply, replies.Stored):
                yield reply.offset

    def _ask(self, request: Message) -> None:
        if self._session.state is not State.OPEN:
            raise ProvisionError("the conversation is over", "run the command again")
        self._write(self._session.send(messages.encode(request)))

    def _reply(self, expected: type[_R]) -> _R:
        output = self._next(self._now_s() + _ANSWER_S)
        if output is None:
            raise ProvisionError("the device does not answer", "unplug it, plug it in again, and run the command again")
        if not isinstance(output, Received):
            raise ProvisionError("the device lost step", "run the command again")
        reply = messages.decode_reply(output.message)
        if isinstance(reply, Failed):
            raise DeviceError(reply.what, reply.remedy, reply.asks)
        if not isinstance(reply, expected):
            raise ProvisionError("the device answers something else", "update the older of the two ends")
        return reply

    def _next(self, deadline_s: float) -> Output | None:
        """Return the next event of the session; None: nothing came in time. Raises if the session has ended."""
        while not self._inbox:
            if self._now_s() > deadline_s:
                return None
            for payload in self._decoder.feed(self._pipe.read()):
                for output in self._session.receive(payload):
                    if isinstance(output, Send):
                        self._write(output)
                    else:
                        self._inbox.append(output)
        output = self._inbox.popleft()
        if isinstance(output, Ended):
            raise _refused(output)
        return output

    def _write(self, send: Send) -> None:
        self._pipe.write(framing.encode(send.payload))


def _refused(ended: Ended) -> DeviceError:
    what, remedy = _TOLD[ended.alert]
    if ended.alert is Alert.WAIT:
        remedy = f"wait {ended.wait_s} s, then arm the device again"
    return DeviceError(what, remedy)
