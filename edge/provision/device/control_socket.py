"""The control socket between provisioning and vision: its schema, its framing, and the client's end.

Vision has the camera, the models and the store; provisioning has the cable. They talk over a Unix socket in a folder
that only their users may enter. A message is its length, four bytes little-endian, then MessagePack. Each request gets
one reply.
"""

from __future__ import annotations

import os
import socket  # AF_UNIX only
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from edge.errors import DifferentPeopleError, EdgeError, NameTakenError, ProvisionError
from edge.provision.protocol.fields import MAX_PHOTO_BYTES, Message, Name, Small, Text
from edge.provision.protocol.messages import COMMANDS, Command, Photo, one_of
from edge.provision.protocol.replies import Done, Failed, Progress, Reply
from edge.wiping import wipe

MAX_BYTES: Final = MAX_PHOTO_BYTES + 4096
_LENGTH_BYTES = 4
_CONNECT_S, _CONNECT_POLL_S = 20.0, 0.1  # after a change of settings, vision loads its models again
_TRIES = 3  # connections: to vision before a restart, in the queue of an ending vision, and to the new one
_POLL_S = 1.0
_MAX_TEXT = 1000
_ASKS: Mapping[type[EdgeError], Literal["taken", "different"]] = {
    NameTakenError: "taken",
    DifferentPeopleError: "different",
}
_ANSWER_S = 60.0  # enough for the largest photo on the slowest device, and for a camera without frames


class Status(Message, frozen=True, tag="status"):
    """Request vision's status."""


class WholePhoto(Message, frozen=True, tag="whole-photo"):
    """One whole photo."""

    name: Name
    data: Annotated[memoryview, Meta(max_length=MAX_PHOTO_BYTES)]


class Reload(Message, frozen=True, tag="reload"):
    """Read the settings again; vision answers, and closes the socket before it starts."""


class Forget(Message, frozen=True, tag="forget"):
    """Destroy the store and its key file, and go back to the built-in model."""


class VisionStatus(Message, frozen=True, tag="vision-status"):
    """Reply to Status."""

    model: Text
    slot: Text
    people: Small
    camera: Text


# Requests between the two processes besides the commands of the cable.
CONTROL: tuple[Command, ...] = (
    Command(Status, (VisionStatus,), ("vision",)),
    Command(WholePhoto, (Progress,), ("vision",)),
    Command(Reload, (Done,), ("vision",)),
    Command(Forget, (Done,), ("vision",)),
)
ASKED_OF_VISION: frozenset[type[Message]] = frozenset(
    row.request for row in (*CONTROL, *COMMANDS) if "vision" in row.by and row.request is not Photo
)
"""All requests that vision answers. It gets a whole photo instead of pieces."""

ControlRequest = Message  # one of ASKED_OF_VISION
ControlReply = VisionStatus | Reply

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[ControlRequest] = msgspec.msgpack.Decoder(one_of(ASKED_OF_VISION))
_replies: msgspec.msgpack.Decoder[ControlReply] = msgspec.msgpack.Decoder(ControlReply)


def decode_request(raw: bytearray) -> ControlRequest:
    """Return the request; a photo's data points into `raw`. Raises ProvisionError."""
    try:
        return _requests.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise ProvisionError(f"not a control request ({type(e).__name__})") from None


def failed(error: EdgeError) -> Failed:
    """Return the reply for an error, with the question for the user."""
    return Failed(what=error.what[:_MAX_TEXT], remedy=error.remedy[:_MAX_TEXT], asks=_ASKS.get(type(error), ""))


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Yield a socket address for a path of any length: the kernel takes 107 bytes, so it goes by the folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class Wire(Protocol):
    """A channel for messages: a connected socket, or one with a timeout."""

    def sendall(self, data: bytearray, /) -> object:
        """Send all of it; raises OSError."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill some of it and return how much; 0: the other end has closed. Raises OSError."""


def send(connection: Wire, message: ControlRequest | ControlReply) -> None:
    """Send one message; raises OSError."""
    raw = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, raw, _LENGTH_BYTES)
    raw[:_LENGTH_BYTES] = (len(raw) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little")
    try:
        connection.sendall(raw)
    finally:
        wipe(raw)


def receive(connection: Wire) -> bytearray | None:
    """Return the bytes of one message; None: the other end has closed. Raises OSError, ProvisionError if too long."""
    head = _exactly(connection, _LENGTH_BYTES)
    if head is None:
        return None
    length = int.from_bytes(head, "little")
    if length > MAX_BYTES:
        raise ProvisionError(f"a control message of {length} bytes")
    return _exactly(connection, length)


def _exactly(connection: Wire, count: int) -> bytearray | None:
    raw = bytearray(count)
    view, got = memoryview(raw), 0
    while got < count:
        more = connection.recv_into(view[got:])
        if more == 0:
            return None
        got += more
    return raw


class _Patient:
    """A socket with a slow other end: waits up to _ANSWER_S and calls `waiting` each second."""

    def __init__(self, connection: socket.socket, now_s: Callable[[], float], waiting: Callable[[], object]) -> None:
        connection.settimeout(_POLL_S)
        self._connection = connection
        self._now_s = now_s
        self._waiting = waiting
        self._deadline_s = now_s() + _ANSWER_S

    def sendall(self, data: bytearray) -> None:
        """Send all of it."""
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                with view[sent:] as rest:
                    sent += self._patiently(lambda rest=rest: self._connection.send(rest))  # type: ignore[misc]

    def recv_into(self, buffer: memoryview) -> int:
        """Fill some of it."""
        return self._patiently(lambda: self._connection.recv_into(buffer))

    def _patiently(self, step: Callable[[], int]) -> int:
        while True:
            try:
                return step()
            except TimeoutError:
                if self._now_s() >= self._deadline_s:
                    raise
                self._waiting()


class ControlClient:
    """Provisioning's end. Connects at the first request, and again after vision has restarted.

    `pause` waits for the given seconds. It is called at least once a second while vision does not answer, with 0 if
    the wait itself happens elsewhere.
    """

    def __init__(self, path: Path, now_s: Callable[[], float], pause: Callable[[float], object]) -> None:
        self._path = path
        self._now_s = now_s
        self._pause = pause
        self._connection: socket.socket | None = None

    def call(self, request: ControlRequest) -> ControlReply:
        """Send a request to vision and return its answer; raises ProvisionError if vision does not run.

        Vision may restart at any moment. A request without an answer on an older connection was not carried out. On a
        new connection, a regular close means that vision had read the request, and is reported; an error means it had
        not.
        """
        for _ in range(_TRIES):
            fresh, unread = self._connection is None, False
            connection = self._connection or self._connect()
            raw = None
            try:
                patient = _Patient(connection, self._now_s, lambda: self._pause(0.0))
                send(patient, request)
                raw = receive(patient)
            except TimeoutError:
                self.close()
                raise _away("no answer") from None
            except OSError:
                unread = True
            if raw is not None:
                return self._decoded(raw)
            self.close()
            if fresh and not unread:
                break
        raise _away("it hung up")

    def close(self) -> None:
        """Close the connection; vision cancels an enrolment."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _decoded(self, raw: bytearray) -> ControlReply:
        try:
            return _replies.decode(raw)
        except msgspec.MsgspecError:
            self.close()
            raise _away("its answer cannot be read") from None

    def _connect(self) -> socket.socket:
        deadline_s = self._now_s() + _CONNECT_S
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                with address_of(self._path) as address:
                    connection.connect(address)
            except OSError as e:
                connection.close()
                if self._now_s() >= deadline_s:
                    raise _away(str(e.strerror or e)) from None
                self._pause(_CONNECT_POLL_S)
                continue
            self._connection = connection
            return connection


def _away(why: str) -> ProvisionError:
    return ProvisionError(f"the vision process cannot be asked: {why}", "check it with: edge-daemon status")
