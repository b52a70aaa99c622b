"""Pictures from other sources are decoded in a process of their own, without key, network, templates or file access.

A picture decoder is large and old, and its input comes from any sender of a photo. Here it runs in a child, which gets
the bytes and returns pixels, both in anonymous memory. The child is a new interpreter, so it inherits neither key nor
templates. Its memory and time are limited, and seccomp forbids all calls that open, connect or start anything. A
picture beyond these limits is refused, and the next picture gets a new child.

Messages to the child: the picture's name, with the descriptor of its bytes. From the child: `R1` once it is ready
(`R0`: without seccomp), `I` + height and width with the descriptor of the pixels, `E` + fault.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket  # a pair of AF_UNIX sockets only
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge import MAX_IMAGE_PIXELS, confinement
from edge.cameras.child import bind_to_parent
from edge.cameras.heic import SAMPLE, available
from edge.cameras.picture import FORMATS, MAX_IMAGE_BYTES, decode_image, read_bytes
from edge.errors import SourceError

_log = logging.getLogger(__name__)

LIMIT_S = 8.0  # for one picture, and for the start of the child: vision's watchdog waits for 10 s
MEMORY_BYTES = 128 << 20  # beyond what the child has before its first picture: a picture, its coefficients, a copy
_MESSAGE_BYTES = 4096
_NOTHING = subprocess.DEVNULL  # messages of libraries are not logged: the sender of a picture could fill the log
_MAX_NAME_CHARACTERS = 200
_KEPT = frozenset({"PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "OPENCV_IO_MAX_IMAGE_PIXELS"})


class _Size(msgspec.Struct, frozen=True):
    height: int
    width: int


class _Failure(msgspec.Struct, frozen=True):
    what: str
    remedy: str


class PictureDecoder:
    """Decodes pictures in a child, started at once and again where it is needed after a fault. Use as a context.

    Raises SourceError for input that is no picture, is too large, or needs too much memory or time.
    """

    _process: subprocess.Popen[bytes] | None = None
    _socket: socket.socket | None = None

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._ready = False
        with contextlib.suppress(SourceError):  # reported with the next picture
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read one picture as (H, W, 3) uint8 BGR, upright; gray and RGBA are converted."""
        return self.decode(read_bytes(path), str(path))

    def decode(self, data: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """Decode the bytes of a picture to (H, W, 3) uint8 BGR, upright; `name` is what errors call it."""
        if not 0 < data.nbytes <= MAX_IMAGE_BYTES:
            raise SourceError(f"{name}: {data.nbytes} bytes is no picture", FORMATS)
        deadline_s = time.monotonic() + self._limit_s
        if self._socket is None:
            self._start()
        try:
            return self._asked(data, name, deadline_s)
        except TimeoutError:
            self._kill()
            what = f"{name}: takes longer than {self._limit_s:.0f} s to decode"
            raise SourceError(what, "save it again as a plain JPEG") from None
        except (OSError, EOFError, ValueError):
            self._kill()
            what = f"{name}: cannot be decoded in {MEMORY_BYTES >> 20} MB, or its decoder failed"
            raise SourceError(what, "save it again as a plain JPEG") from None

    def close(self) -> None:
        """End the child, which has nothing to finish; safe to call twice."""
        self._kill()

    def __del__(self) -> None:
        """End the child of a decoder that nobody has closed."""
        self._kill()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {key: value for key, value in os.environ.items() if key in _KEPT}
        environment["MALLOC_ARENA_MAX"] = "1"  # a thread's own arena would take 64 MB of the memory below
        environment["OPENCV_LOG_LEVEL"] = "OFF"  # what is wrong with a picture is said once, by us
        command = [sys.executable, "-m", "edge.cameras.decoder", str(theirs.fileno())]
        try:
            with theirs:  # our own module, in the interpreter that runs
                self._process = subprocess.Popen(  # noqa: S603
                    command,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except OSError as e:
            ours.close()
            what = f"the process that decodes pictures cannot be started: {e.strerror}"
            raise SourceError(what, "free some memory, and try again") from None
        self._socket, self._ready = ours, False

    def _kill(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _asked(self, data: NDArray[np.uint8], name: str, deadline_s: float) -> NDArray[np.uint8]:
        assert self._socket is not None  # noqa: S101 (for the type checker: `decode` has started it)
        if not self._ready:
            if self._heard(deadline_s)[0] != b"R1":
                _log.warning("pictures: this kernel or machine has no system call filter")
            self._ready = True
        fd = os.memfd_create("edge-picture", os.MFD_CLOEXEC)
        try:
            os.pwrite(fd, data.data, 0)
            self._socket.settimeout(max(1e-3, deadline_s - time.monotonic()))
            socket.send_fds(self._socket, [b"P" + name[:_MAX_NAME_CHARACTERS].encode("utf-8", "replace")], [fd])
            answer, fds = self._heard(deadline_s)
        finally:
            os.pwrite(fd, bytes(data.nbytes), 0)  # no piece of a photo stays
            os.close(fd)
        return _result(answer, fds)

    def _heard(self, deadline_s: float) -> tuple[bytes, list[int]]:
        assert self._socket is not None  # noqa: S101
        self._socket.settimeout(max(1e-3, deadline_s - time.monotonic()))
        message, fds, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, 4)
        if not message:
            raise EOFError
        return message, fds


def _result(answer: bytes, fds: list[int]) -> NDArray[np.uint8]:
    """Return the pixels, or raise the child's fault; any other answer is a ValueError, since it is not trusted."""
    try:
        if answer[:1] == b"E":
            failure = msgspec.json.decode(answer[1:], type=_Failure)
            raise SourceError(failure.what, failure.remedy)
        size = msgspec.json.decode(answer[1:], type=_Size)
        pixels = size.height * size.width
        if len(fds) != 1 or not (size.height > 0 and size.width > 0 and pixels <= MAX_IMAGE_PIXELS):
            raise ValueError("not a picture")
        if os.fstat(fds[0]).st_size != pixels * 3:
            raise ValueError("not its memory")
        # A private copy: the child could still write into the memory, or cut it, which would end this process.
        raw = bytearray(pixels * 3)
        if os.preadv(fds[0], [raw], 0) != len(raw):
            raise ValueError("not its memory")
        return np.frombuffer(raw, np.uint8).reshape(size.height, size.width, 3)
    except msgspec.MsgspecError:
        raise ValueError("not an answer") from None
    finally:
        for fd in fds:
            os.close(fd)


# ── the child ──


def _serve(parent: socket.socket) -> None:
    while True:
        message, fds, _, _ = socket.recv_fds(parent, _MESSAGE_BYTES, 1)
        if not message:
            return
        name = message[1:].decode("utf-8", "replace")
        try:
            image = _decoded(fds[0], name)
        except SourceError as e:
            parent.send(b"E" + msgspec.json.encode(_Failure(e.what[:1000], e.remedy[:1000])))
            continue
        finally:
            os.close(fds[0])
        _show(parent, image)
        del image  # before the next one comes


def _decoded(fd: int, name: str) -> NDArray[np.uint8]:
    try:
        raw = bytearray(os.fstat(fd).st_size)
        os.preadv(fd, [raw], 0)
        return decode_image(np.frombuffer(raw, np.uint8), name)
    except MemoryError:
        raise SourceError(f"{name}: needs too much memory", "save it again as a plain JPEG") from None


def _show(parent: socket.socket, image: NDArray[np.uint8]) -> None:
    fd = os.memfd_create("edge-pixels", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, image.nbytes)
        os.pwrite(fd, image.data, 0)
        image[:] = 0
        socket.send_fds(parent, [b"I" + msgspec.json.encode(_Size(image.shape[0], image.shape[1]))], [fd])
    finally:
        os.close(fd)


def _warm_up() -> None:
    """Load and use each decoder and raise each error once: nothing can be loaded afterwards."""
    cv2.setNumThreads(0)  # threads that are made later would need calls that are refused
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tif"):
        encoded = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1]
        decode_image(encoded, "")
        with contextlib.suppress(SourceError):
            decode_image(encoded[: len(encoded) // 2], "")
    if available():
        for sample in (SAMPLE, SAMPLE[: len(SAMPLE) // 2]):
            with contextlib.suppress(SourceError):
                decode_image(np.frombuffer(sample, np.uint8), "")
    msgspec.json.encode(_Failure("", ""))
    msgspec.json.encode(_Size(1, 1))


def main() -> None:
    """Run the child: the only argument is the descriptor of its end."""
    with contextlib.suppress(OSError):  # if the unit runs out of memory, the kernel ends this process, not vision
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    bind_to_parent()
    _warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as to_parent:
        confinement.limit(MEMORY_BYTES)
        to_parent.send(b"R1" if confinement.confine(threads=available()) else b"R0")
        _serve(to_parent)
    os._exit(0)  # what Python does at its end needs calls that are refused


if __name__ == "__main__":
    main()
