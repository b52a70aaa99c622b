"""A live camera in a process of its own, which can be killed: drivers stall, and `stop()` of some never returns.

The parent requests a frame; the child answers with the next one that the camera delivers, so there is no queue and no
old frame. The picture lies in shared memory (memfd), the messages go over a pair of Unix sockets, and nothing is
written to disk. The child is a new interpreter, not a fork: it inherits neither the template store nor its key. It ends
with its parent; the kernel ends it where it hangs.

Messages to the child: `C` + configuration, `N` (request of a frame), `F` + rate. From the child: `I` + description of a
frame, with the memory's descriptor where that is new, `E` + fault, as its last message.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket  # a pair of AF_UNIX sockets only
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import numpy as np

from edge.cameras.camera import FINITE, FrameSource, open_source
from edge.cameras.child import bind_to_parent
from edge.cameras.pace import CameraSilentError
from edge.config import CameraConfig
from edge.errors import DependencyError, SourceError
from edge.records import Frame

_log = logging.getLogger(__name__)

_WAIT_S = 0.25  # for a frame, before the caller's loop goes round
_END_S = 1.0  # for the child to end by itself, and to be gone after a kill
_MESSAGE_BYTES = 8192
_KEPT_BACK = frozenset({"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC", "WATCHDOG_PID"})


class _Picture(msgspec.Struct, frozen=True):
    """What lies in the shared memory: (H, W, 3) uint8 BGR."""

    t_s: float
    height: int
    width: int


class _Failure(msgspec.Struct, frozen=True):
    """The last message of a child: its fault."""

    what: str
    remedy: str
    dependency: bool


def open_camera(config: CameraConfig, wait: Callable[[float], object] = time.sleep) -> FrameSource:
    """Open files in this process and live cameras in one of their own; raises SourceError or DependencyError."""
    return open_source(config, wait) if config.source in FINITE else CapturedSource(config)


class CapturedSource:
    """A live source whose driver runs in a child. Opening returns at once; `read` reports faults.

    Raises SourceError where no child can be started.
    """

    live = True

    def __init__(self, config: CameraConfig) -> None:
        self._name = config.source
        self._asked = False
        self._index = 0
        self._memory: mmap.mmap | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_WAIT_S)
        environment = {key: value for key, value in os.environ.items() if key not in _KEPT_BACK}
        command = [sys.executable, "-m", "edge.cameras.capture", str(theirs.fileno())]
        try:
            with theirs:  # our own module, in the interpreter that runs
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)  # noqa: S603
        except OSError as e:
            self._socket.close()
            what = f"camera {self._name}: its process cannot be started: {e.strerror}"
            raise SourceError(what, "free some memory; it is tried again") from None
        self._say(b"C" + msgspec.json.encode(config))

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def read(self) -> Frame | None:
        """Return the next frame; raises CameraSilentError where none came yet, SourceError where none will."""
        if not self._asked:
            self._say(b"N")
            self._asked = True
        message, fds = self._hear()
        if not message:
            raise SourceError(f"camera {self._name}: its process has ended", "see the log before this line")
        if message[:1] == b"E":
            failure = msgspec.json.decode(message[1:], type=_Failure)
            raise (DependencyError if failure.dependency else SourceError)(failure.what, failure.remedy)
        self._asked = False
        return self._picture(msgspec.json.decode(message[1:], type=_Picture), fds)

    def _hear(self) -> tuple[bytes, list[int]]:
        """Return a message and the descriptors that came with it; nothing where the child has ended."""
        for _ in range(2):
            try:
                return socket.recv_fds(self._socket, _MESSAGE_BYTES, 1)[:2]
            except TimeoutError:
                raise CameraSilentError(f"camera {self._name}: no frame yet") from None
            except ConnectionResetError:
                continue  # the child ended before it read everything; its last message still waits
            except OSError:
                break
        return b"", []

    def _picture(self, picture: _Picture, fds: list[int]) -> Frame:
        size = picture.height * picture.width * 3
        for fd in fds:
            self._forget_memory()
            try:
                self._memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
            finally:
                os.close(fd)
        if self._memory is None or len(self._memory) < size:
            raise SourceError(f"camera {self._name}: its process sent a frame without its memory", "report this")
        image = np.frombuffer(self._memory, np.uint8, size).reshape(picture.height, picture.width, 3).copy()
        self._index += 1
        return Frame(image, picture.t_s, self._index - 1)

    def set_fps(self, fps: float) -> None:
        """Request another rate of the camera."""
        self._say(b"F" + msgspec.json.encode(fps))

    def close(self) -> None:
        """End the child; kill it where it does not end; safe to call twice."""
        self._socket.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            _log.warning("camera %s: its process hangs and is killed", self._name)
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # the kernel waits for its driver; then it is gone
                self._process.wait(_END_S)
        self._forget_memory()

    def _say(self, message: bytes) -> None:
        with suppress(OSError):  # its end shows in the next read
            self._socket.send(message)

    def _forget_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


class _Child:
    """The child's end, with the driver."""

    def __init__(self, to_parent: socket.socket) -> None:
        self._socket = to_parent
        self._wanted = False
        self._memory: mmap.mmap | None = None
        self._fps: float | None = None

    def serve(self) -> None:
        """Capture until the parent hangs up or the camera fails."""
        first = self._socket.recv(_MESSAGE_BYTES)
        if not first:
            return  # the parent has closed the socket already
        config = msgspec.json.decode(first[1:], type=CameraConfig)
        try:
            source = open_source(config, patience_s=_WAIT_S)
            while self._listen():
                if self._fps is not None:
                    source.set_fps(self._fps)
                    self._fps = None
                with suppress(CameraSilentError):  # another rate is heard while no frame is due
                    frame = source.read()
                    if frame is not None and self._wanted:
                        self._show(frame)
            source.close()
        except (SourceError, DependencyError) as e:
            failure = _Failure(e.what, e.remedy, dependency=isinstance(e, DependencyError))
            with suppress(OSError):
                self._socket.send(b"E" + msgspec.json.encode(failure))

    def _listen(self) -> bool:
        """Take what the parent said meanwhile; False where it has hung up."""
        while True:
            try:
                message = self._socket.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not message:
                return False
            if message == b"N":
                self._wanted = True
            else:
                self._fps = msgspec.json.decode(message[1:], type=float)

    def _show(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        size, fds = frame.image.nbytes, []
        if self._memory is None or len(self._memory) != size:
            fd = os.memfd_create("edge-frame")
            os.ftruncate(fd, size)
            self._memory, fds = mmap.mmap(fd, size), [fd]
        np.frombuffer(self._memory, np.uint8).reshape(frame.image.shape)[:] = frame.image
        message = b"I" + msgspec.json.encode(_Picture(frame.t_s, height, width))
        with suppress(OSError):
            socket.send_fds(self._socket, [message], fds)
        for fd in fds:
            os.close(fd)
        self._wanted = False


def main() -> None:
    """Run the child: the only argument is the descriptor of its end."""
    bind_to_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as to_parent:
        _Child(to_parent).serve()


if __name__ == "__main__":
    main()
