"""The frames of the configured source. A lost or faulty camera is opened again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

from edge.cameras.camera import FINITE, NETWORKED, FrameSource
from edge.cameras.capture import open_camera
from edge.cameras.pace import CameraSilentError
from edge.cameras.watch import CameraWatch, Problem
from edge.clock import now_s
from edge.config import CameraConfig
from edge.errors import SourceError
from edge.records import Frame
from edge.vocabulary import Reason

_log = logging.getLogger(__name__)

_IDLE_S = 1.0  # period of the check whether frames are wanted
_RETRY_FIRST_S, _RETRY_MOST_S = 1.0, 30.0  # waits before a lost camera is opened again
_ILLS: dict[Problem, tuple[str, str]] = {
    "camera_stalled": ("the camera delivers no frames", "check its cable"),
    "camera_black": ("the camera delivers black frames", "take off the lens cap, or check its cable"),
    "camera_frozen": ("the camera delivers the same frame again and again", "its driver hangs"),
}


class CameraIllError(SourceError):
    """A camera delivers no frames, or no usable ones."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(*_ILLS[problem])
        self.problem: Problem = problem


class Feed:
    """Frames, and None a few times a second while there are none."""

    def __init__(self, config: CameraConfig, stop: threading.Event, wanted: Callable[[], bool]) -> None:
        self._config = config
        self._stop = stop
        self._wanted = wanted
        self._retry_s = _RETRY_FIRST_S
        self._source: FrameSource | None = None
        self._watch = self._new_watch(config.fps)
        self._fps = config.fps
        self._remarked = False  # whether the log says that the camera repeats a picture
        self.problem: Reason | None = None  # the fault of a live source
        self.damaged = False  # parts of a finite source could not be read

    def _new_watch(self, fps: float) -> CameraWatch:
        return CameraWatch(now_s(), fps, repeats=self._config.source in NETWORKED)

    def set_fps(self, fps: float) -> None:
        """Limit the rate of the source, and of sources that are opened later."""
        if fps != self._fps:
            self._fps = fps
            self._watch.set_fps(fps)
            if self._source is not None:
                self._source.set_fps(fps)

    def frames(self) -> Iterator[Frame | None]:
        """Yield frames until a finite source ends or on stop; raises SourceError if a finite source cannot begin."""
        while not self._stop.is_set():
            if not self._wanted():
                yield from self._pause(_IDLE_S)
                continue
            try:
                source = self._source = open_camera(self._config, self._stop.wait)
                self._watch = self._new_watch(self._fps)
                with closing(source):
                    if self._fps != self._config.fps:
                        source.set_fps(self._fps)
                    yield from self._play(source)
                if not source.live:
                    return
            except SourceError as e:
                if self._config.source in FINITE:
                    raise
                self.problem = e.problem if isinstance(e, CameraIllError) else "camera_lost"
                _log.error("%s; trying again in %.0f s", e, self._retry_s)
                yield from self._pause(self._retry_s)
                self._retry_s = min(2 * self._retry_s, _RETRY_MOST_S)

    def _play(self, source: FrameSource) -> Iterator[Frame | None]:
        """Yield the frames of an open source until it ends, is no longer wanted, or fails (SourceError)."""
        while not self._stop.is_set():
            if not self._wanted():
                if source.live:
                    return  # the camera is closed while no frames are wanted
                yield from self._pause(_IDLE_S)
                continue
            try:
                frame = source.read()
            except CameraSilentError:
                self._judge(self._watch.silent(now_s()) if source.live else None)
                yield None
                continue
            except SourceError as e:
                if source.live:
                    raise
                _log.error("%s", e)
                self.damaged = True
                continue
            if frame is None:
                return
            if source.live:
                self._judge(self._watch.saw(frame.image, now_s()))
                self._remark_on_repetition()
            if self._watch.healthy:
                self.problem, self._retry_s = None, _RETRY_FIRST_S
            yield frame

    def _remark_on_repetition(self) -> None:
        """Log once that a network camera repeats one picture: it may hang, or nothing moves."""
        if not self._remarked and self._watch.repeats_itself(now_s()):
            self._remarked = True
            _log.warning("the camera sends one picture again and again: nothing moves before it, or it hangs")

    def _judge(self, problem: Problem | None) -> None:
        if problem is not None:
            raise CameraIllError(problem)

    def _pause(self, seconds: float) -> Iterator[None]:
        end_s = now_s() + seconds
        while now_s() < end_s and not self._stop.wait(0.25):
            yield None
