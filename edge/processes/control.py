"""Vision's end of the control socket: a thread that reads and writes, and a loop that answers between frames."""

from __future__ import annotations

import logging
import os
import queue
import socket  # AF_UNIX only
import struct
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from edge.errors import EdgeError, ProvisionError
from edge.provision.device import control
from edge.provision.device.control import ControlReply, ControlRequest
from edge.provision.protocol.replies import Failed
from edge.wiping import wipe

_log = logging.getLogger(__name__)
_MAX_TEXT = 1000

Handler = Callable[[ControlRequest | None], ControlReply]  # None: the other end has gone


class ControlServer:
    """Listens for one client at a time, of our own user or root. Use as a context.

    Where it cannot listen it says so, and everything else goes on: recognition does not depend on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._client: socket.socket | None = None
        self._asked: queue.SimpleQueue[ControlRequest | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[ControlReply | None] = queue.SimpleQueue()
        self._closed = False
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
        """Answer what was asked since the last time; never waits."""
        while True:
            try:
                request = self._asked.get_nowait()
            except queue.Empty:
                return
            self._answers.put(_answer(handle, request))

    def close(self) -> None:
        """Refuse everybody from now on."""
        self._closed = True
        if not self._thread.is_alive():
            return
        self._answers.put(None)
        self._path.unlink(missing_ok=True)
        for end in (self._listener, self._client):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RD)  # wakes the thread; an answer on its way still goes out
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # of a run that was killed
        with control.address_of(self._path) as address:
            self._listener.bind(address)
        self._path.chmod(0o600)
        self._listener.listen(1)

    def _serve(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with closing(client):
                self._client = client
                if _is_ours(client):
                    self._talk(client)
                self._client = None

    def _talk(self, client: socket.socket) -> None:
        try:
            while not self._closed and (raw := control.receive(client)) is not None:
                control.send(client, self._ask(raw))
        except (OSError, ProvisionError) as e:
            _log.warning("control socket: %s", e)
        if not self._closed:
            self._asked.put(None)
            self._answers.get()

    def _ask(self, raw: bytearray) -> ControlReply:
        try:
            self._asked.put(control.decode_request(raw))
            answer = self._answers.get()
        except ProvisionError as e:
            answer = _failed(e)
        wipe(raw)
        if answer is None:
            raise ProvisionError("vision is stopping")
        return answer


def _answer(handle: Handler, request: ControlRequest | None) -> ControlReply:
    try:
        return handle(request)
    except EdgeError as e:
        return _failed(e)


def _failed(error: EdgeError) -> Failed:
    return Failed(what=error.what[:_MAX_TEXT], remedy=error.remedy[:_MAX_TEXT])


def _is_ours(client: socket.socket) -> bool:
    """Whether the kernel says that the other end runs as our user, or as root."""
    pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid in {os.geteuid(), 0}:
        return True
    _log.warning("control socket: process %d of user %d is refused", pid, uid)
    return False
