"""Network cameras with unusual answers work, or give an error without the login; over real HTTP on loopback."""

from __future__ import annotations

import base64
import contextlib
import http.server
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import pytest

from edge.cameras.camera import open_source
from edge.cameras.pace import CameraSilentError
from edge.cameras.player import FileSource
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame
from tests.footage import video

JPEG = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in video("carphone")[:20]]
Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler, int], None]


@contextmanager
def camera(answer: Answer) -> Iterator[str]:
    """Serve `answer(handler, number of the request)`; yields host and port."""
    asked = iter(range(10**6))

    class One(Handler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            with contextlib.suppress(OSError):  # the client has closed
                answer(self, next(asked))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), One) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def head(handler: Handler, kind: str = "multipart/x-mixed-replace; boundary=b", **more: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    for name, value in more.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def refusal(code: int) -> Answer:
    return lambda handler, _: handler.send_error(code)


def opened(url: str, fps: float = 120.0, patience_s: float = 5.0) -> Iterator[Frame]:
    with closing(open_source(CameraConfig(source="mjpeg", url=url, fps=fps), patience_s=patience_s)) as source:
        while True:
            frame = source.read()
            assert frame is not None
            yield frame


def stream(before: bytes, between: bytes) -> Answer:
    def answer(handler: Handler, _: int) -> None:
        head(handler)
        handler.wfile.write(before)
        for jpeg in JPEG * 3:
            handler.wfile.write(b"Content-Type: image/jpeg\r\n\r\n" + jpeg + between)
            time.sleep(0.01)

    return answer


def snapshot(handler: Handler, number: int) -> None:
    jpeg = JPEG[number % len(JPEG)]
    head(handler, "image/jpeg", Content_Length=str(len(jpeg)))
    handler.wfile.write(jpeg)


def snapshot_of_no_length(handler: Handler, number: int) -> None:
    head(handler, "image/jpeg")
    handler.wfile.write(JPEG[number % len(JPEG)])


def snapshot_cut_short(handler: Handler, number: int) -> None:
    head(handler, "image/jpeg")
    handler.wfile.write(JPEG[number % len(JPEG)][:-2])


def one_part_each(handler: Handler, number: int) -> None:
    head(handler)
    handler.wfile.write(b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG[number % len(JPEG)] + b"\r\n--b--\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        stream(b"", b"\r\n--b\r\n"),
        stream(b"--b\r\n", b"\r\n--b\r\n"),
        stream(b"----b\r\n", b"\r\n----b\r\n"),
        stream(b"", b""),
        snapshot,
        snapshot_of_no_length,
        snapshot_cut_short,
        one_part_each,
    ],
    ids=["no first boundary", "usual", "two dashes more", "no boundary", "snapshot", "no length", "no end", "one part"],
)
def test_frames_come_from_cameras_that_keep_no_standard(answer: Answer) -> None:
    with camera(answer) as host:
        frames = [frame for frame, _ in zip(opened(f"http://{host}/"), range(5), strict=False)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert {frame.image.shape for frame in frames} == {(144, 176, 3)}
    assert len({frame.image.tobytes() for frame in frames}) == 5, "all pictures differ"


def test_snapshots_are_requested_no_more_often_than_frames_are_due() -> None:
    asked: list[float] = []

    def answer(handler: Handler, number: int) -> None:
        asked.append(time.monotonic())
        snapshot_of_no_length(handler, number)

    with camera(answer) as host:
        source = open_source(CameraConfig(source="mjpeg", url=f"http://{host}/", fps=5.0), patience_s=0.05)
        with closing(source):
            until_s, frames = time.monotonic() + 1.1, 0
            while time.monotonic() < until_s:
                with contextlib.suppress(CameraSilentError):
                    frames += source.read() is not None
    assert 3 <= frames <= 7
    assert len(asked) <= frames + 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refusal(401), "the camera answers 401 Unauthorized\n.*check user and password"),
        (refusal(403), "answers 403 Forbidden\n.*this user"),
        (refusal(404), "answers 404 Not Found\n.*check the path"),
        (refusal(503), "answers 503 Service Unavailable\n.*close other viewers"),
        (refusal(500), "answers 500"),
        (lambda handler, _: head(handler, "text/html"), "answers with a page"),
        (lambda handler, _: head(handler, "image/png"), "image/png that holds no JPEG"),
        (lambda handler, _: head(handler), "holds no JPEG"),
        (lambda handler, _: handler.wfile.write(b"ICY 200 OK\r\n\r\n") and None, "no HTTP"),
    ],
)
def test_a_camera_that_refuses_is_named_with_its_answer_and_without_the_login(answer: Answer, says: str) -> None:
    with camera(answer) as host, pytest.raises(SourceError, match=says) as caught:
        next(opened(f"http://anna:s3cret@{host}/video?pwd=s3cret"))
    assert host in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "anna" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/stream", "127.0.0.1:9/stream: Connection refused"),
        ("http://127.0.0.1:99999/", "no address"),
        ("http://[::1/", "no address"),
        ("ftp://cam/", "no address that can be read"),
        ("cam/stream", "no address that can be read"),
        ("", "set .camera. url"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(url: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        open_source(CameraConfig(source="mjpeg", url=url))


def _basic(handler: Handler, number: int) -> None:
    if handler.headers["Authorization"] == "Basic " + base64.b64encode(b"anna:a@b").decode():
        stream(b"", b"")(handler, number)
        return
    handler.send_response(401)
    handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
    handler.end_headers()


def _digest(handler: Handler, number: int) -> None:
    given = urllib.request.parse_keqv_list(
        urllib.request.parse_http_list((handler.headers["Authorization"] or "Digest ").removeprefix("Digest "))
    )
    digest = urllib.request.AbstractDigestAuthHandler().get_algorithm_impls("MD5")[0]
    expected = ""
    if given:
        ours, asked = digest("anna:camera:a@b"), digest(f"GET:{given['uri']}")
        expected = digest(f"{ours}:n0nce:{given['nc']}:{given['cnonce']}:auth:{asked}")
    if given and given["response"] == expected:
        stream(b"", b"")(handler, number)
        return
    handler.send_response(401)
    handler.send_header("WWW-Authenticate", 'Digest realm="camera", nonce="n0nce", qop="auth"')
    handler.end_headers()


@pytest.mark.parametrize("answer", [_basic, _digest])
def test_a_login_in_the_url_is_used_and_a_wrong_one_named(answer: Answer) -> None:
    with camera(answer) as host:
        assert next(opened(f"http://anna:a%40b@{host}/video")).image.shape == (144, 176, 3)
        with pytest.raises(SourceError, match="401") as caught:
            next(opened(f"http://anna:wr0ng@{host}/video"))
    assert "wr0ng" not in str(caught.value)


def test_a_network_address_in_place_of_a_path_names_the_right_key() -> None:
    with pytest.raises(SourceError, match=r"rtsp:/127[^\n]*\n.*set source = 'rtsp'") as caught:
        FileSource([Path("rtsp://anna:s3cret@127.0.0.1:8554/one")], fps=15.0)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SourceError, match="set source = 'rtsp'"):
        open_source(CameraConfig(source="v4l2", device="rtsp://127.0.0.1:8554/one"))


def test_an_rtsp_camera_that_is_not_there_is_named_without_its_login() -> None:
    with pytest.raises(SourceError, match=r"rtsp://127\.0\.0\.1:9/one: cannot be opened") as caught:
        open_source(CameraConfig(source="rtsp", url="rtsp://anna:s3cret@127.0.0.1:9/one"))
    assert "s3cret" not in str(caught.value)
