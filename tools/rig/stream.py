"""An HTTP-MJPEG server with faults that a test can switch on."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Sequence
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

Ill = Literal["", "stalled", "black", "frozen"]
_FPS = 30.0


class Stream:
    """Serves pictures in a loop as multipart JPEG; it keeps its port over restarts."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], port: int = 0) -> None:
        self._good = [_jpeg(picture) for picture in pictures]
        self._black = _jpeg(np.zeros_like(pictures[0]))
        self.ill: Ill = ""
        self.connections = 0
        self._over = threading.Event()
        self._port = port  # 0: a free one
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The stream's address."""
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def start(self) -> None:
        """Listen."""
        stream = self
        self._over.clear()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stream.connections += 1
                stream.send(self)

            def log_message(self, *_: Any) -> None:
                """Suppress the log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close all connections and the listening socket."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def send(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Send frames until either end closes the connection."""
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        at = 0
        try:
            while not self._over.wait(1 / _FPS):
                if self.ill == "stalled":
                    continue
                at += self.ill != "frozen"
                data = self._black if self.ill == "black" else self._good[at % len(self._good)]
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                handler.wfile.write(head + data + b"\r\n")
        except OSError:
            return
        finally:
            handler.close_connection = True
            with contextlib.suppress(OSError):  # the client has already closed
                handler.connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()
