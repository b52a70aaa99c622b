"""Vision's end of the control socket: threads read and write, and vision's loop answers between frames.

No client can block the others: each has its own thread, and a message must be complete within a time limit. If all
places are taken, the client that was silent for longest is disconnected.
"""

from __future__ import annotations

import logging
import os
import queue
import socket  # AF_UNIX only
import stat
import struct
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from edge.errors import EdgeError, ProvisionError
from edge.provision.device import control_socket
from edge.provision.device.control_socket import ControlReply, ControlRequest
from edge.provision.protocol.messages import EnrolBegin
from edge.wiping import wipe

_log = logging.getLogger(__name__)
_MAX_CLIENTS = 4  # provisioning needs one; each client may use the memory of one photo
_MESSAGE_S = 20.0  # for the rest of a message, or for the client to read its answer
_CLOSED_POLL_S = 0.1
_ACCEPT_RETRY_S = 1.0

Handler = Callable[[ControlRequest | None], ControlReply]  # None: the client of a live enrolment has disconnected


@dataclass(slots=True, eq=False)
class _Client:
    """One connection. `busy`: its request is being answered."""

    connection: socket.socket
    heard_s: float
    busy: bool = False
    answers: queue.SimpleQueue[ControlReply] = field(default_factory=queue.SimpleQueue)


@dataclass(slots=True)
class _Bounded:
    """A connection for one message. There is no limit for its first byte; the rest must arrive within `limit_s`."""

    connection: socket.socket
    limit_s: float
    deadline_s: float | None = None

    def recv_into(self, buffer: memoryview) -> int:
        """Fill some of it; TimeoutError after the limit."""
        self.connection.settimeout(None if self.deadline_s is None else max(1e-3, self.deadline_s - time.monotonic()))
        got = self.connection.recv_into(buffer)
        if self.deadline_s is None:
            self.deadline_s = time.monotonic() + self.limit_s
        return got

    def sendall(self, data: bytearray) -> None:
        """Send all of it; TimeoutError after the limit."""
        self.connection.settimeout(self.limit_s)
        self.connection.sendall(data)


class ControlServer:
    """Listens for clients of our own user, of root, and of the users in `allowed`. Use as a context.

    If it cannot listen, it logs this and recognition continues.
    """

    def __init__(self, path: Path, allowed: Collection[int] = (), message_s: float = _MESSAGE_S) -> None:
        self._path = path
        self._allowed = {os.geteuid(), 0, *allowed}
        self._message_s = message_s
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._clients: list[_Client] = []
        self._enrolling: _Client | None = None  # the client whose disconnection ends the enrolment
        self._lock = threading.Lock()  # guards the two fields above
        self._asked: queue.SimpleQueue[tuple[_Client, ControlRequest | None]] = queue.SimpleQueue()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        try:
            self._listen()
            self._thread.start()
        except OSError as e:
            self._listener.close()
            _log.error("%s: provisioning cannot ask for anything: %s", path, e.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, handle: Handler) -> None:
        """Answer the requests since the last call; never waits."""
        while True:
            try:
                client, request = self._asked.get_nowait()
            except queue.Empty:
                return
            client.answers.put(_answer(handle, request))

    def close(self) -> None:
        """Refuse all clients from now on."""
        self._closed = True
        if not self._thread.is_alive():
            return
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RD)  # wakes the thread
        self._thread.join()
        with self._lock:
            for client in self._clients:
                _hang_up(client)  # an answer that is being sent is completed
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _listen(self) -> None:
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # left by a run that was killed
        with control_socket.address_of(self._path) as address:
            self._listener.bind(address)
        self._path.chmod(0o660 if folder.stat().st_mode & stat.S_ISGID else 0o600)
        self._listener.listen(_MAX_CLIENTS)

    def _serve(self) -> None:
        while not self._is_closed():
            try:
                connection, _ = self._listener.accept()
            except OSError as e:
                if not self._is_closed():
                    _log.error("control socket: %s", e.strerror)  # for example, no descriptor is left
                    time.sleep(_ACCEPT_RETRY_S)
                continue
            if not self._is_ours(connection):
                connection.close()
                continue
            client = _Client(connection, time.monotonic())
            self._make_room()
            with self._lock:
                self._clients.append(client)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._talk, args=(client,), name="control", daemon=True))
            self._threads[-1].start()

    def _is_closed(self) -> bool:
        return self._closed

    def _make_room(self) -> None:
        with self._lock:
            idle = [client for client in self._clients if not client.busy]
            if len(self._clients) < _MAX_CLIENTS or not idle:
                return
            silent = min(idle, key=lambda client: client.heard_s)
            self._clients.remove(silent)
        _log.warning("control socket: more than %d clients, the longest silent one is cut off", _MAX_CLIENTS)
        _hang_up(silent)

    def _talk(self, client: _Client) -> None:
        with closing(client.connection):
            try:
                while not self._closed:
                    raw = control_socket.receive(_Bounded(client.connection, self._message_s))
                    if raw is None:
                        break
                    answer = self._answered(client, raw)
                    control_socket.send(_Bounded(client.connection, self._message_s), answer)
            except (OSError, ProvisionError) as e:
                _log.warning("control socket: %s", e)
            self._gone(client)

    def _answered(self, client: _Client, raw: bytearray) -> ControlReply:
        client.busy, client.heard_s = True, time.monotonic()
        try:
            request = control_socket.decode_request(raw)
            if isinstance(request, EnrolBegin):
                with self._lock:
                    self._enrolling = client
            return self._ask(client, request)
        except ProvisionError as e:
            if self._closed:
                raise
            return control_socket.failed(e)
        finally:
            wipe(raw)
            client.busy = False

    def _ask(self, client: _Client, request: ControlRequest | None) -> ControlReply:
        self._asked.put((client, request))
        while True:
            try:
                return client.answers.get(timeout=_CLOSED_POLL_S)
            except queue.Empty:
                if self._closed:  # no request is answered any more
                    raise ProvisionError("vision is stopping") from None

    def _gone(self, client: _Client) -> None:
        """Forget a client and its enrolment."""
        with self._lock:
            if client in self._clients:
                self._clients.remove(client)
            began = self._enrolling is client
            if began:
                self._enrolling = None
        if began and not self._closed:
            with suppress(ProvisionError):
                self._ask(client, None)

    def _is_ours(self, client: socket.socket) -> bool:
        """Whether the client runs as one of the allowed users, as the kernel reports it."""
        size = struct.calcsize("3i")
        pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if uid in self._allowed:
            return True
        _log.warning("control socket: process %d of user %d is refused", pid, uid)
        return False


def _hang_up(client: _Client) -> None:
    with suppress(OSError):
        client.connection.shutdown(socket.SHUT_RD)  # wakes its thread


def _answer(handle: Handler, request: ControlRequest | None) -> ControlReply:
    try:
        return handle(request)
    except EdgeError as e:
        return control_socket.failed(e)
