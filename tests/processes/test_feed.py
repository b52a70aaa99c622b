"""A camera that is lost, faulty or hangs, over a real stream and in real processes: detected, named, reopened."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from edge.cameras import watch
from edge.cameras.capture import CapturedSource, open_camera
from edge.cameras.pace import CameraSilentError
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import DependencyError, SourceError
from edge.processes import feed as feeding
from edge.processes.feed import Feed
from edge.records import Frame
from tests.conftest import Clips
from tests.footage import video
from tools.rig.brokers import until
from tools.rig.stream import Ill, Stream
from tools.rig.workbench import Bench

DEADLINE_S = 60.0


@pytest.fixture
def stream() -> Iterator[Stream]:
    with Stream(video("carphone", 60)) as one:
        yield one


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report faults after half a second: tests of `watch` cover the real time."""
    for name in ("STALL_S", "BLACK_S", "FROZEN_S"):
        monkeypatch.setattr(watch, name, 0.5)
    monkeypatch.setattr(feeding, "_RETRY_FIRST_S", 0.1)


def mjpeg(stream: Stream) -> CameraConfig:
    return CameraConfig(source="mjpeg", url=stream.url, fps=15.0)


def first_frame(source: CapturedSource) -> Frame:
    end_s = now_s() + DEADLINE_S
    while now_s() < end_s:
        try:
            frame = source.read()
        except CameraSilentError:
            continue
        assert frame is not None
        return frame
    pytest.fail("no frame came")


class Watching:
    """A feed that a thread reads, as vision's loop does."""

    def __init__(self, config: CameraConfig) -> None:
        self.stop = threading.Event()
        self.feed = Feed(config, self.stop, lambda: True)
        self.frames = self.rounds = 0
        self._thread = threading.Thread(target=self._pull)

    def _pull(self) -> None:
        for frame in self.feed.frames():
            self.rounds += 1
            self.frames += frame is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def more(self) -> None:
        """Wait for frames without a fault."""
        before = self.frames
        until(lambda: self.frames > before + 5 and self.feed.problem is None, "good frames", DEADLINE_S)


def test_frames_arrive_complete_from_the_camera_process(stream: Stream) -> None:
    with closing(CapturedSource(mjpeg(stream))) as source:
        frames = [first_frame(source) for _ in range(5)]
    assert {frame.image.shape for frame in frames} == {(144, 176, 3)}
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(a.t_s < b.t_s <= now_s() for a, b in itertools.pairwise(frames))
    assert all(frame.image.std() > 20 for frame in frames)
    assert len({frame.image.tobytes() for frame in frames}) == 5, "a later frame does not overwrite an earlier one"


def test_the_rate_reaches_the_camera_s_process(stream: Stream) -> None:
    with closing(CapturedSource(mjpeg(stream))) as source:
        first_frame(source)
        source.set_fps(2.0)
        for _ in range(2):
            first_frame(source)  # one frame may still be in transit
        a, b = first_frame(source), first_frame(source)
    assert b.t_s - a.t_s >= 0.4


def test_a_faster_rate_takes_effect_during_a_slow_interval(stream: Stream) -> None:
    with closing(CapturedSource(mjpeg(stream))) as source:
        first_frame(source)
        source.set_fps(0.05)
        silent = 0
        while silent < 4:  # one second, so the slow rate is in effect
            try:
                source.read()
                silent = 0
            except CameraSilentError:
                silent += 1
        source.set_fps(15.0)
        asked_s = now_s()
        assert first_frame(source).t_s - asked_s < 5.0, "at 0.05 Hz a frame takes 20 s"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ill", ["stalled", "black", "frozen"])
def test_a_faulty_camera_is_named_reopened_and_accepted_again(
    stream: Stream, ill: Ill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        feeding, "NETWORKED", frozenset()
    )  # treat the stream as a driver's: only drivers count as frozen
    with Watching(mjpeg(stream)) as watching:
        watching.more()
        stream.ill = ill
        until(lambda: watching.feed.problem == f"camera_{ill}", f"it is called {ill}", DEADLINE_S)
        rounds, before = watching.rounds, stream.connections
        until(lambda: watching.rounds > rounds + 5, "the loop goes on", DEADLINE_S)
        until(lambda: stream.connections > before, "it is opened again", DEADLINE_S)
        stream.ill = ""
        watching.more()


@pytest.mark.usefixtures("soon")
def test_a_network_camera_that_repeats_one_picture_stays_open_and_is_remarked_on_once(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "REPEATED_S", 0.5)
    stream.ill = "frozen"
    with Watching(mjpeg(stream)) as watching:
        watching.more()
        until(lambda: "one picture again and again" in caplog.text, "it is remarked on", DEADLINE_S)
        watching.more()
    assert caplog.text.count("one picture again and again") == 1
    assert stream.connections == 1


@pytest.mark.usefixtures("soon")
def test_a_lost_camera_is_used_again_when_it_returns(stream: Stream) -> None:
    with Watching(mjpeg(stream)) as watching:
        watching.more()
        stream.stop()
        until(lambda: watching.feed.problem == "camera_lost", "it is lost", DEADLINE_S)
        stream.start()
        watching.more()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_driver_that_hangs_or_crashes_is_replaced(stream: Stream, number: signal.Signals) -> None:
    with Watching(mjpeg(stream)) as watching:
        watching.more()
        source = watching.feed._source
        assert isinstance(source, CapturedSource)
        os.kill(source.pid, number)
        until(lambda: watching.feed._source is not source, "another process", DEADLINE_S)
        watching.more()
        assert not Path(f"/proc/{source.pid}").exists(), "the process that hung has ended"


@pytest.mark.usefixtures("soon")
def test_a_camera_whose_process_cannot_be_started_is_tried_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", no_memory)
        with pytest.raises(SourceError, match="Cannot allocate memory"):
            CapturedSource(mjpeg(stream))
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        with Watching(mjpeg(stream)) as watching:
            until(lambda: watching.feed.problem == "camera_lost", "it is called lost", DEADLINE_S)
            full.undo()
            watching.more()


def test_a_stop_that_hangs_ends_after_a_limit(stream: Stream) -> None:
    source = CapturedSource(mjpeg(stream))
    first_frame(source)
    os.kill(source.pid, signal.SIGSTOP)
    source.close()
    source.close()
    assert not Path(f"/proc/{source.pid}").exists()


def test_a_camera_closed_at_once_logs_nothing(stream: Stream, capfd: pytest.CaptureFixture[str]) -> None:
    source = CapturedSource(mjpeg(stream))
    source.close()
    assert not Path(f"/proc/{source.pid}").exists()
    assert "Traceback" not in capfd.readouterr().err


def test_the_camera_process_ends_with_its_parent_even_if_it_hangs(stream: Stream) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from edge.config import CameraConfig\n"
        "from edge.cameras.capture import CapturedSource\n"
        "from edge.cameras.pace import CameraSilentError\n"
        f"source = CapturedSource(CameraConfig(source='mjpeg', url={stream.url!r}))\n"
        "while True:\n"
        "    try:\n"
        "        source.read()\n"
        "        break\n"
        "    except CameraSilentError:\n"
        "        pass\n"
        "os.kill(source.pid, signal.SIGSTOP)\n"
        "print(source.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = Path(f"/proc/{done.stdout.strip()}")
    until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text(), "it is gone", DEADLINE_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root may read the environment of a process")
def test_the_camera_process_inherits_no_secret(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-vision.service")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    with closing(CapturedSource(mjpeg(stream))) as source:
        first_frame(source)
        environ = Path(f"/proc/{source.pid}/environ").read_bytes()
        command = Path(f"/proc/{source.pid}/cmdline").read_bytes()
    assert b"CREDENTIALS_DIRECTORY" not in environ
    assert b"NOTIFY_SOCKET" not in environ
    assert stream.url.encode() not in command, "an address may hold a password"


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        (CameraConfig(source="v4l2", device="/dev/video97"), SourceError, "video97"),
        (CameraConfig(source="picamera2"), DependencyError, "apt install python3-picamera2"),
        (CameraConfig(source="gstreamer", pipeline="videotestsrc ! appsink"), DependencyError, "OpenCV of apt"),
    ],
)
def test_errors_of_the_camera_process_are_those_of_a_single_process(
    config: CameraConfig, error: type[Exception], says: str
) -> None:
    with closing(open_camera(config)) as source:
        assert isinstance(source, CapturedSource)
        with pytest.raises(error, match=says):
            first_frame(source)


def test_vision_continues_while_its_camera_is_away(man_bench: Bench, clips: Clips) -> None:
    assert clips.man_later.exists()
    with Stream(video("carphone")[30:]) as stream:
        man_bench.configure({"camera": {"source": "mjpeg", "url": stream.url, "fps": 15.0}})
        with man_bench.start("vision") as running:
            running.says(": match")
            stream.stop()
            until(lambda: man_bench.status()["vision"]["reason"] == "camera_lost", "the state says so", DEADLINE_S)
            boot = man_bench.status()["vision"]["boot"]
            stream.start()
            until(lambda: man_bench.status()["vision"]["reason"] == "normal", "it is back", DEADLINE_S)
            assert man_bench.status()["vision"]["boot"] == boot
            assert running.stop() == 0
