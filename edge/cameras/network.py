"""Cameras that answer over HTTP: a stream of JPEG pictures (MJPEG), or one picture at a time (snapshots).

For a workbench only: vision has no network on a device. Only the process of the camera loads this module.

OpenCV's FFmpeg refuses streams that browsers show, and gives no reason where a camera refuses. Here the standard
library does HTTP, and pictures are found by their own structure (`jpegs.py`).
"""

from __future__ import annotations

import http.client
import math
import socket
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import cv2
import numpy as np

from edge.addresses import without_login
from edge.cameras.jpegs import MAX_JPEG_BYTES, JpegSplitter
from edge.cameras.pace import CameraSilentError, FramePace
from edge.cameras.turn import Turn
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

_TIMEOUT_S = 5.0  # a camera without data for this long has failed
_CHUNK_BYTES = 65536
_DAMAGED_MOST = 10  # pictures in a row that may be damaged, as on a bad radio link
_REMEDIES = {
    401: 'check user and password: [camera] url = "http://USER:PASSWORD@…", with %40 for an @ in them',
    403: "the camera forbids this address to this user: check its settings",
    404: "check the path: the camera's manual names its stream, often /stream, /video or /mjpg/video.mjpg",
    503: "close other viewers: many cameras serve one at a time",
}


class HttpSource:
    """A camera at an `http` or `https` address. Raises SourceError where it cannot be used, with its own answer."""

    live = True

    def __init__(self, config: CameraConfig, patience_s: float = math.inf) -> None:
        if not config.url:
            raise SourceError(f"no address for source '{config.source}'", "set [camera] url")
        self._name = without_login(config.url)
        self._pace = FramePace(config.fps, patience_s)
        self._turn = Turn(config.rotation, config.mirror)
        self._opener, self._url = _opener(config.url)
        self._index = 0
        self._pictures = 0  # of this connection
        self._answer, self._splitter = self._connect()

    def read(self) -> Frame | None:
        """Return the next frame that is due; raises SourceError where the camera has gone or sends nothing readable."""
        began_s, damaged = now_s(), 0
        while True:
            picture = self._next_picture()
            t_s = now_s()
            if self._pace.is_due(t_s):
                image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    break
                damaged += 1
                if damaged == _DAMAGED_MOST:
                    what = f"{self._name}: delivers pictures that cannot be decoded"
                    raise SourceError(what, "set the camera to send JPEG, and check its link")
            self._pace.check(self._name, began_s, t_s)
        self._pace.taken(t_s)
        self._index += 1
        return Frame(self._turn.apply(np.asarray(image, np.uint8)), t_s, self._index - 1)

    def set_fps(self, fps: float) -> None:
        """Limit the decoded frames a second from now on; a camera of snapshots is asked for no more."""
        self._pace.set_fps(fps)

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._answer.close()

    def _connect(self) -> tuple[http.client.HTTPResponse, JpegSplitter]:
        """Ask the camera; raises SourceError with what it answers."""
        headers = {"Accept": "multipart/x-mixed-replace, image/*"}
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - _opener takes http and https alone
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as e:
            e.close()
            remedy = _REMEDIES.get(e.code, "open the address in a browser: it shows what the camera answers")
            phrase = http.client.responses.get(e.code, "")
            raise SourceError(f"{self._name}: the camera answers {e.code} {phrase}".rstrip(), remedy) from None
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise SourceError(f"{self._name}: {_why(e)}", "check address, port and network of the camera") from None
        kind = _kind(answer)
        if kind.startswith("text/"):
            answer.close()
            remedy = "the url must be the stream's own, not that of the page which shows it"
            raise SourceError(f"{self._name}: the camera answers with a page ({kind}), not with pictures", remedy)
        self._pictures = 0
        return answer, JpegSplitter()

    def _next_picture(self) -> bytes:
        """Return the newest complete picture; connects again where the camera sends one for each question."""
        while True:
            try:
                data = self._answer.read1(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as e:
                raise SourceError(f"{self._name}: delivers no frames: {_why(e)}", "check the camera") from None
            found = self._splitter.feed(data)
            self._pictures += len(found)
            if found:
                return found[-1]
            if not data:
                if rest := self._splitter.rest():
                    self._pictures += 1
                    return rest
                self._ask_again()
            elif self._pictures == 0 and self._splitter.skipped > MAX_JPEG_BYTES:
                kind = _kind(self._answer)
                raise SourceError(f"{self._name}: delivers no JPEG but {kind}", "choose MJPEG in the camera's settings")

    def _ask_again(self) -> None:
        """Connect again after one picture, when the next is due; raises SourceError where a stream ended, or was empty.

        Raises CameraSilentError where none is due for long: the camera need not make pictures that nobody wants.
        """
        self._answer.close()
        if self._pictures != 1:
            what = "ended the stream" if self._pictures else f"answered with {_kind(self._answer)} that holds no JPEG"
            raise SourceError(f"{self._name}: delivers no frames: the camera {what}", "check the camera, and its url")
        early_s = self._pace.due_s - now_s()
        if early_s > 0:
            time.sleep(min(early_s, self._pace.patience_s))
        if early_s > self._pace.patience_s:
            raise CameraSilentError(f"{self._name}: no frame is due yet")
        self._answer, self._splitter = self._connect()


class _Basic(urllib.request.HTTPBasicAuthHandler):
    """Answers a 401 by basic authentication, and hangs up on the connection that asked for it."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage) -> Any:
        """Ask again with the login."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


class _Digest(urllib.request.HTTPDigestAuthHandler):
    """The same by digest authentication."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage) -> Any:
        """Ask again with the login."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


def _opener(url: str) -> tuple[urllib.request.OpenerDirector, str]:
    """Return what asks the camera, by basic or digest authentication where it wants that, and the url without login.

    No proxy is asked: a camera is in the owner's own network. Raises SourceError for an address that is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise SourceError(f"{without_login(url)}: no address: {_why(e)}", "set [camera] url") from None
    if parts.scheme.lower() not in {"http", "https"} or not host:
        raise SourceError(
            f"{without_login(url)}: no address that can be read", "http://, https:// and rtsp:// are"
        ) from None
    where = f"[{host}]" if ":" in host else host
    netloc = where if port is None else f"{where}:{port}"
    bare = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if parts.username is not None:
        logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        logins.add_password(
            None,
            urlunsplit((parts.scheme, netloc, "/", "", "")),
            unquote(parts.username),
            unquote(parts.password or ""),
        )
        handlers += [_Basic(logins), _Digest(logins)]
    return urllib.request.build_opener(*handlers), bare


def _kind(answer: http.client.HTTPResponse) -> str:
    """Return the media type that the camera names; without one, no type is guessed."""
    return answer.headers.get_content_type() if "Content-Type" in answer.headers else "data of no stated type"


def _why(error: Exception) -> str:
    """Return what went wrong in words that name no address."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {_TIMEOUT_S:.0f} s"
    if isinstance(cause, socket.gaierror):
        return "the name of the host is not known"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, http.client.HTTPException):
        return "the answer is no HTTP"
    return "it cannot be used"
