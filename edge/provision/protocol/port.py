"""Ports that bytes go through: a serial port, or a pseudo-terminal in its place. Only this module knows pyserial."""

from __future__ import annotations

import errno
import importlib
import os
import select
import tty
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge.errors import DependencyError, ProvisionError, install_extra

try:
    import termios
except ImportError:  # Windows
    _TERMINAL_ERRORS: tuple[type[Exception], ...] = ()
else:
    _TERMINAL_ERRORS = (termios.error,)  # not an OSError; pyserial raises it while it opens a port

USB_VENDOR, USB_PRODUCT = 0x1D6B, 0x0104  # Linux Foundation, Multifunction Composite Gadget: see systemd/edge-gadget
_OPENING: tuple[type[Exception], ...] = (OSError, ValueError, *_TERMINAL_ERRORS)
_WAIT_S = 0.2  # longest wait of a read for the first byte
_WRITE_S = 10.0  # longest time in which the other end reads nothing
_READ_BYTES = 1 << 16
_UNPLUGGED = "plug it in again; the next run continues where this one ended"


class Port(Protocol):
    """Both directions of a cable."""

    def read(self) -> bytes:
        """Return the received bytes, empty after a short wait; raises ProvisionError if the cable was unplugged."""

    def write(self, data: bytes) -> None:
        """Send all of it; raises ProvisionError if the cable was unplugged."""

    def close(self) -> None:
        """Close the port."""


@dataclass(frozen=True, slots=True)
class Found:
    """A port to which a device may be connected."""

    path: str
    description: str


def find() -> list[Found]:
    """Return the ports of connected devices, found by their USB ids; raises DependencyError."""
    list_ports = _pyserial("serial.tools.list_ports")
    return [
        Found(port.device, port.description or "")
        for port in list_ports.comports()
        if (port.vid, port.pid) == (USB_VENDOR, USB_PRODUCT)
    ]


class SerialPort:
    """A serial port, or anything that pyserial opens like one; a pty has no modem lines, and needs none."""

    def __init__(self, path: str) -> None:
        self._serial_module = _pyserial("serial")
        self._path = path
        try:
            self._serial = self._serial_module.Serial(path, 115200, timeout=_WAIT_S, write_timeout=_WRITE_S)
            with suppress(OSError, self._serial_module.SerialException):
                self._serial.exclusive = True  # where it can: two programs on one port disturb each other
        except _OPENING as e:  # SerialException is an OSError
            if e.args and e.args[0] == errno.EIO:
                raise self._gone(e) from None
            raise ProvisionError(
                f"{path}: cannot be opened: {_reason(e)}", "check the path, and who may use it"
            ) from None

    def read(self) -> bytes:
        """Return the received bytes."""
        try:
            first: bytes = self._serial.read(1)
            return first + self._serial.read(min(self._serial.in_waiting, _READ_BYTES)) if first else b""
        except (OSError, TypeError) as e:  # pyserial raises TypeError if the port is closed meanwhile
            raise self._gone(e) from None

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._serial.write(data)
        except (OSError, TypeError) as e:
            raise self._gone(e) from None

    def close(self) -> None:
        """Close the port."""
        with suppress(OSError):
            self._serial.close()

    def _gone(self, error: Exception) -> ProvisionError:
        return ProvisionError(f"{self._path}: the cable has gone: {_reason(error)}", _UNPLUGGED)


class PtyPort:
    """The device's end of a pseudo-terminal, with a link to the other end: a cable without hardware."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # held open: a host that disconnects then causes silence and no error
        with suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(os.ttyname(self._slave))

    def read(self) -> bytes:
        """Return the received bytes."""
        ready, _, _ = select.select([self._master], [], [], _WAIT_S)
        return os.read(self._master, _READ_BYTES) if ready else b""

    def write(self, data: bytes) -> None:
        """Send all of it."""
        left: memoryview | bytes = memoryview(data)
        while left:
            _, ready, _ = select.select([], [self._master], [], _WRITE_S)
            if not ready:
                raise ProvisionError("nobody reads at the other end of the cable", _UNPLUGGED)
            left = left[os.write(self._master, left[:4096]) :]

    def close(self) -> None:
        """Close both ends."""
        self._link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)


def _pyserial(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise DependencyError("a serial port needs pyserial", install_extra("enroll")) from None


def _reason(error: Exception) -> str:
    if isinstance(error, _TERMINAL_ERRORS):
        return str(error.args[-1])  # (number, words), as of an OSError, but without its attributes
    return getattr(error, "strerror", None) or str(error)
