"""Report the state of the process to systemd. Without systemd every call does nothing."""

from __future__ import annotations

import errno
import os
import socket  # AF_UNIX datagrams to the service manager only

from edge.clock import now_s
from edge.errors import DescriptorsError

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_STDERR = 2
_ALIVE_EVERY_S = 0.5  # more often is not needed


class Notifier:
    """Speak the sd_notify protocol: datagrams on the Unix socket that NOTIFY_SOCKET names."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._alive_s = float("-inf")

    def ready(self, status: str) -> None:
        """Report the end of the start."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Feed the watchdog, twice a second at most; call this only where work has been done.

        Raises DescriptorsError where no file descriptor is left: the process ends, and the manager starts it again.
        """
        now = now_s()
        if now - self._alive_s >= _ALIVE_EVERY_S:
            self._alive_s = now
            refuse_exhaustion()
            self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Report that the process ends on request."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.connect(self._address)
                sock.sendall(message.encode())
            except OSError:
                self._address = ""  # no manager listens: say nothing more


def refuse_exhaustion() -> None:
    """Raise DescriptorsError where no descriptor is left: otherwise every file would fail, and the process continue."""
    try:
        os.close(os.dup(_STDERR))  # needs a free descriptor and no path: a confined process may open none
    except OSError as e:
        if e.errno in OUT_OF_DESCRIPTORS:
            raise DescriptorsError from None
