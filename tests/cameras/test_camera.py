"""Frame sources: files played like a camera, and live sources with clear errors."""

from __future__ import annotations

import http.server
import logging
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from edge.cameras.camera import FrameSource, open_source
from edge.cameras.pace import CameraSilentError
from edge.cameras.picamera import to_bgr
from edge.cameras.player import FileSource, expand
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import DependencyError, SourceError
from edge.records import Frame
from tests.footage import path_of, still, video


def play(source: FrameSource) -> list[Frame]:
    with closing(source):
        return list(iter(source.read, None))


def test_a_video_gives_every_frame_with_media_time() -> None:
    frames = play(FileSource([path_of("carphone")], fps=60.0))
    assert [f.index for f in frames] == list(range(120))
    assert frames[0].image.shape == (144, 176, 3)
    np.testing.assert_allclose(np.diff([f.t_s for f in frames]), 1 / 29.97, atol=1e-4)


def test_fewer_frames_are_delivered_at_a_lower_rate() -> None:
    frames = play(FileSource([path_of("carphone")], fps=10.0))
    assert len(frames) == pytest.approx(40, abs=1)
    assert np.diff([f.t_s for f in frames]).mean() == pytest.approx(0.1, rel=0.05)


def test_a_picture_that_is_looped_is_announced_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "lin.png"
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    source = FileSource([path], fps=30.0, loop=True)
    assert all(source.read() is not None for _ in range(8))
    source.close()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("edge")] == ["playing lin.png"]


def test_the_rate_can_be_changed_while_playing() -> None:
    with closing(FileSource([path_of("carphone")], fps=30.0)) as source:
        first = [source.read() for _ in range(60)]
        source.set_fps(5.0)
        rest = list(iter(source.read, None))
    assert all(first)
    assert len(rest) == pytest.approx(10, abs=1)


def test_realtime_takes_as_long_as_the_recording() -> None:
    began_s = now_s()
    frames = play(FileSource([path_of("carphone")], fps=60.0, realtime=True))
    assert now_s() - began_s >= 119 / 29.97
    assert all(f.t_s <= now_s() for f in frames)


def test_realtime_skips_frames_that_were_due_between_two_reads() -> None:
    with closing(FileSource([path_of("carphone")], fps=60.0, realtime=True)) as source:
        first = source.read()
        assert first is not None
        threading.Event().wait(1.0)
        second = source.read()
        assert second is not None
        assert second.t_s - first.t_s > 0.8


def test_a_wait_for_the_next_frame_ends_when_a_stop_is_requested() -> None:
    stop = threading.Event()
    with closing(FileSource([path_of("carphone")], fps=0.01, realtime=True, loop=True, wait=stop.wait)) as source:
        first = source.read()
        threading.Timer(0.1, stop.set).start()
        began_s = now_s()
        with pytest.raises(CameraSilentError):
            source.read()
        assert now_s() - began_s < 50  # half of a frame interval at this rate
        assert first is not None


def test_a_frame_that_is_not_due_for_long_is_announced_and_kept(tmp_path: Path) -> None:
    path = matroska(tmp_path / "gap.mkv", [0, 80, 1200])
    with closing(FileSource([path], fps=30.0, realtime=True)) as source:
        first, silent, last = source.read(), 0, None
        while last is None or last.index < 2:
            try:
                last = source.read()
            except CameraSilentError:
                silent += 1
        assert first is not None
        assert silent == 2
        assert last.t_s - first.t_s == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("times_ms", "expected_s"),
    [
        ([0, 80, 160, 12_000, 12_080], [0, 0.08, 0.16, 12.0, 12.08]),
        ([5_000, 5_080, 5_160], [0, 0.08, 0.16]),
        ([0, 80, 4_000_000_000, 4_000_000_080], None),  # a leap of 46 days
    ],
)
def test_a_video_keeps_its_own_times(tmp_path: Path, times_ms: list[int], expected_s: list[float] | None) -> None:
    frames = play(FileSource([matroska(tmp_path / "clip.mkv", times_ms)], fps=120.0))
    times_s = np.array([frame.t_s - frames[0].t_s for frame in frames])
    if expected_s is None:
        assert np.all(np.diff(times_s) > 0)
        assert times_s[-1] < 10.0
    else:
        np.testing.assert_allclose(times_s, expected_s, atol=0.002)


def test_a_picture_is_one_still_frame_at_any_rate(tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), still("astronaut"))
    frames = play(FileSource([tmp_path], fps=0.1))
    assert [frame.still for frame in frames] == [True] * 3
    assert np.diff([frame.t_s for frame in frames]) == pytest.approx([1.0, 1.0])


def matroska(path: Path, times_ms: list[int]) -> Path:
    """Write a film of small JPEGs at these times; a cluster a frame, RFC 9559."""

    def box(ident: str, data: bytes) -> bytes:
        return bytes.fromhex(ident) + (len(data) | 1 << 56).to_bytes(8, "big") + data

    jpeg = cv2.imencode(".jpg", still("astronaut")[:64, :64])[1].tobytes()
    size = box("B0", (64).to_bytes(1, "big")) + box("BA", (64).to_bytes(1, "big"))
    track = box(
        "AE", box("D7", b"\1") + box("73C5", b"\1") + box("83", b"\1") + box("86", b"V_MJPEG") + box("E0", size)
    )
    clusters = (box("E7", ms.to_bytes(5, "big")) + box("A3", b"\x81\0\0\x80" + jpeg) for ms in times_ms)
    info = box("1549A966", box("2AD7B1", (1_000_000).to_bytes(3, "big")))
    segment = info + box("1654AE6B", track) + b"".join(box("1F43B675", cluster) for cluster in clusters)
    path.write_bytes(box("1A45DFA3", box("4282", b"matroska")) + box("18538067", segment))
    return path


def test_files_play_one_after_the_other_on_one_clock(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), still("astronaut"))
    frames = play(FileSource([path_of("carphone"), tmp_path, path_of("carphone")], fps=60.0))
    assert len(frames) == 241
    assert np.all(np.diff([f.t_s for f in frames]) > 0)


def test_a_loop_begins_again() -> None:
    with closing(FileSource([path_of("carphone")], fps=60.0, loop=True)) as source:
        frames = [source.read() for _ in range(250)]
    assert all(frames)


def test_a_truncated_recording_plays_to_its_last_frame_and_is_then_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (176, 144))
    for frame in video("carphone"):
        writer.write(frame)
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with closing(FileSource([cut, path_of("carphone")], fps=60.0)) as source:
        used: list[Frame] = []
        with pytest.raises(SourceError, match=r"cut\.avi: ends after \d+ of 120 frames"):
            used.extend(iter(source.read, None))
        assert 30 < len(used) < 90
        assert sum(1 for _ in iter(source.read, None)) == 120


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(path_of("carphone").read_bytes()[:20_000])  # the index of an MP4 stands at its end
    with pytest.raises(SourceError, match=r"cut\.mp4"):
        play(FileSource([path], fps=30.0))


@pytest.mark.parametrize(("content", "why"), [(b"", "0 bytes"), (b"\xff\xd8\xff\xe0 no picture", "not a picture")])
def test_a_file_that_is_no_picture_is_named_and_the_next_one_is_shown(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    cv2.imwrite(str(tmp_path / "b.png"), still("astronaut"))
    with closing(FileSource([tmp_path], fps=30.0)) as source:
        with pytest.raises(SourceError, match=rf"a\.jpg.*{why}"):
            source.read()
        assert source.read() is not None
        assert source.read() is None


def test_no_files_to_play_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file is named"):
        expand([])
    with pytest.raises(SourceError, match="holds no pictures"):
        expand([tmp_path])
    with pytest.raises(SourceError, match="no such file"):
        expand([tmp_path / "missing.mp4"])


@pytest.mark.parametrize("source", ["v4l2", "mjpeg"])
def test_a_live_source_that_is_not_there_is_named(source: Any) -> None:
    config = CameraConfig(source=source, device="/dev/video97", url="http://127.0.0.1:9/stream.mjpg")
    with pytest.raises(SourceError, match=r"video97|127\.0\.0\.1"):
        open_source(config)


def test_picamera2_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)  # as an import without the package
    with pytest.raises(DependencyError, match="apt install python3-picamera2"):
        open_source(CameraConfig(source="picamera2"))


def test_picamera2_without_a_camera_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("picamera2")

    def no_camera() -> None:
        raise IndexError("list index out of range")  # as Picamera2() without a camera

    monkeypatch.setattr(module, "Picamera2", no_camera, raising=False)
    monkeypatch.setitem(sys.modules, "picamera2", module)
    with pytest.raises(SourceError, match="check cable and libcamera"):
        open_source(CameraConfig(source="picamera2"))


@pytest.mark.parametrize(
    ("pixel_format", "back", "padded"),
    [
        ("RGB888", None, False),
        ("BGR888", cv2.COLOR_BGR2RGB, False),
        ("XRGB8888", cv2.COLOR_BGR2BGRA, False),
        ("XBGR8888", cv2.COLOR_BGR2RGBA, False),
        ("YUV420", cv2.COLOR_BGR2YUV_I420, False),
        ("YUYV", cv2.COLOR_BGR2YUV_YUYV, False),
        ("RGB888", None, True),
        ("YUYV", cv2.COLOR_BGR2YUV_YUYV, True),
    ],
)
def test_frames_of_a_pi_camera_become_bgr(pixel_format: str, back: int | None, padded: bool) -> None:
    view = np.zeros((48, 64, 3), np.uint8)
    view[:24], view[24:, :32], view[24:, 32:] = (200, 60, 20), (20, 180, 60), (40, 50, 220)
    given: Any = view if back is None else cv2.cvtColor(view, back)
    if padded:
        given = np.concatenate([given, np.zeros_like(given[:, :16])], axis=1)
    found = to_bgr(given, pixel_format, (64, 48))
    assert found.shape == view.shape
    assert found.flags["C_CONTIGUOUS"]
    assert np.abs(found.astype(int) - view).mean() < 3


def test_nv12_of_a_pi_camera_becomes_bgr() -> None:
    view = np.full((48, 64, 3), (200, 60, 20), np.uint8)
    planes = cv2.cvtColor(view, cv2.COLOR_BGR2YUV_I420)
    u, v = planes[48:60].reshape(-1), planes[60:].reshape(-1)
    nv12 = np.concatenate([planes[:48], np.stack([u, v], axis=1).reshape(24, 64)])
    assert np.abs(to_bgr(nv12, "NV12", (64, 48)).astype(int) - view).mean() < 3


def _picamera2_that_gives(pixel_format: str) -> types.ModuleType:
    class Camera:
        def create_video_configuration(self, **_: Any) -> dict[str, Any]:
            return {}

        def configure(self, _: dict[str, Any]) -> None:
            pass

        def camera_configuration(self) -> dict[str, Any]:
            return {"main": {"format": pixel_format, "size": (640, 480)}}

        def close(self) -> None:
            pass

    module = types.ModuleType("picamera2")
    module.__dict__["Picamera2"] = Camera
    return module


def test_an_unsupported_pixel_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", _picamera2_that_gives("MJPEG"))
    with pytest.raises(SourceError, match="MJPEG"):
        open_source(CameraConfig(source="picamera2"))


class _Stream(http.server.BaseHTTPRequestHandler):
    """Sends the man's frames as multipart JPEG, then closes, as a camera that is unplugged does."""

    frames: ClassVar[int] = 20

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for frame in video("carphone")[: self.frames]:
            data = cv2.imencode(".jpg", frame)[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
            self.wfile.write(data + b"\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def mjpeg_server() -> Iterator[str]:
    video("carphone")  # decoded first: OpenCV's FFmpeg blocks with two files open
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
        finally:
            server.shutdown()
            thread.join()


def test_an_http_mjpeg_stream_is_read_until_the_sender_goes() -> None:
    with mjpeg_server() as url, closing(open_source(CameraConfig(source="mjpeg", url=url, fps=120))) as source:
        assert source.live
        frames: list[Frame] = []
        with pytest.raises(SourceError, match="delivers no frames"):
            frames.extend(iter(source.read, None))
    assert frames
    assert {frame.image.shape for frame in frames} == {(144, 176, 3)}
