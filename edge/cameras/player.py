"""Plays video files and pictures as a camera would deliver them."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.addresses import is_address, without_login
from edge.cameras.decoder import PictureDecoder
from edge.cameras.pace import CameraSilentError
from edge.cameras.turn import UPRIGHT, Turn
from edge.clock import now_s
from edge.content import kind_of, played_in
from edge.errors import SourceError
from edge.health import refuse_exhaustion
from edge.records import Frame
from edge.vocabulary import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)

_PICTURE_S = 1.0  # from one picture to the next file
_PATIENCE_S = 0.5  # longest wait for a frame that is due later; then `read` reports that none is due
_LONGEST_GAP_S = 24 * 3600.0  # between two frames of a file; a longer one is a damaged time
_FALLBACK_FPS = 25.0  # for files without a stated rate


def refuse_address(text: str, where: str) -> None:
    """Raise SourceError if `text` is a network address instead of a path."""
    if is_address(text):
        what = f"{where}: {without_login(text)} is a network address, not a path"
        raise SourceError(what, "for rtsp:// set source = 'rtsp', for http:// source = 'mjpeg', and the address as url")


def expand(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by its pictures and videos, sorted by name; raises SourceError where there is nothing."""
    if not paths:
        raise SourceError("no file is named", "set [camera] paths to files or folders")
    files: list[Path] = []
    for path in paths:
        refuse_address(str(path), "[camera] paths")
        if path.is_dir():
            found = list(played_in(path))
            if not found:
                raise SourceError(f"{path}: holds no pictures and no videos", "name another folder")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise SourceError(f"{path}: no such file", "check the path")
    return files


class FileSource:
    """Play video files and pictures, in order, as a camera would deliver them.

    `t_s` is the clock's reading at the first frame plus media time, counted on from file to file. With `realtime`
    frames come when they are due, and those that are late are skipped; without it they come as fast as they are taken.
    The type of a file follows from its content. A video keeps its own times, of variable rate too. A picture is one
    frame, marked as `still`; it is never skipped.
    """

    live = False

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        fps: float,
        realtime: bool = False,
        loop: bool = False,
        turn: Turn = UPRIGHT,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._files = expand(paths)
        self._turn, self._wait = turn, wait
        self._queue = deque(self._files)
        self._fps, self._realtime, self._loop = fps, realtime, loop
        self._clip: _Video | _Picture | None = None
        self._held_s: float | None = None  # media time within the file of a frame that is not due yet
        self._decoder: PictureDecoder | None = None  # made for the first picture
        self._clip_s = 0.0  # media time at which the current file began
        self._due_s = 0.0  # media time before which no further frame is wanted
        self._origin_s: float | None = None  # the clock's reading at media time 0
        self._index = 0
        self._announced: set[Path] = set()  # files whose name is in the log: with `loop`, once
        self._fruitful = False  # whether the present pass through the files has given any frame

    def read(self) -> Frame | None:
        """Return the next due frame; raises SourceError for a damaged file, and then goes on with the next one."""
        while True:
            clip = self._clip or self._next_clip()
            if clip is None:
                return None
            try:
                at_s = clip.grab() if self._held_s is None else self._held_s
            except SourceError:
                self._finish(clip)
                raise
            if at_s is None:
                self._finish(clip)
                continue
            self._fruitful = True
            self._held_s = at_s
            wanted = self._await(self._clip_s + at_s, late_too=clip.still)
            self._held_s = None
            if wanted:
                t_s = (self._origin_s or 0.0) + self._clip_s + at_s
                self._index += 1
                return Frame(self._turn.apply(clip.retrieve()), t_s, self._index - 1, still=clip.still)

    def set_fps(self, fps: float) -> None:
        """Limit the rate, frames a second of media time."""
        self._due_s -= max(0.0, 1 / self._fps - 1 / fps)  # a faster rate need not wait out the slower one
        self._fps = fps

    def close(self) -> None:
        """Close the current file and forget the rest."""
        self._queue.clear()
        self._loop = False
        if self._clip is not None:
            self._finish(self._clip)
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _next_clip(self) -> _Video | _Picture | None:
        if not self._queue and self._loop and self._fruitful:
            self._queue.extend(self._files)
            self._fruitful = False  # stop where all files are damaged
        if not self._queue:
            return None
        path = self._queue.popleft()
        _log.log(logging.DEBUG if path in self._announced else logging.INFO, "playing %s", path.name)
        self._announced.add(path)
        kind = kind_of(path)
        is_picture = kind in {"picture", "heic"} or (kind == "other" and path.suffix.lower() in IMAGE_SUFFIXES)
        if is_picture:
            self._decoder = self._decoder or PictureDecoder()
            self._clip = _Picture(self._decoder.read(path))
        else:
            self._clip = _Video(path)
        return self._clip

    def _finish(self, clip: _Video | _Picture) -> None:
        self._held_s = None
        self._clip_s += clip.duration_s
        clip.close()
        self._clip = None

    def _await(self, media_s: float, *, late_too: bool) -> bool:
        """Wait until a frame is due; False where a camera would not have delivered it.

        `late_too`: it is delivered even so, for it is a picture of its own. Raises CameraSilentError where it is not
        due for long.
        """
        if media_s < self._due_s - 1e-6 and not late_too:
            return False
        if self._origin_s is None:
            self._origin_s = now_s() - media_s
        if self._realtime and (early_s := self._origin_s + media_s - now_s()) > 0:
            self._wait(min(early_s, _PATIENCE_S))
            if early_s > _PATIENCE_S:
                raise CameraSilentError("the file has no frame that is due yet")
        self._due_s = max(self._due_s + 1 / self._fps, media_s + 0.5 / self._fps)
        late_s = now_s() - self._origin_s - media_s
        return not self._realtime or late_too or late_s < 2.0 / self._fps


class _Video:
    """One video file, frame by frame."""

    still = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._fps = self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < self._fps < 1000:
            self._fps = _FALLBACK_FPS
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # ≤ 0 where the container does not say
        self._grabbed = 0
        self._at_s = self._shift_s = 0.0  # media time of the current frame, and what makes it of the file's time
        if not self._capture.isOpened():
            refuse_exhaustion()
            raise SourceError(f"{path}: not a video that can be decoded", "the file may be truncated; copy it again")

    @property
    def duration_s(self) -> float:
        """Media time up to here."""
        return self._at_s + 1 / self._fps if self._grabbed else 0.0

    def grab(self) -> float | None:
        """Go to the next frame and return its media time; None at the end; SourceError where frames are missing."""
        if self._capture.grab():
            self._at_s = self._time_s()
            self._grabbed += 1
            return self._at_s
        # Some containers announce a frame or two that no decoder delivers.
        if self._grabbed == 0 or self._grabbed < self._announced - 2:
            what = f"{self._path}: ends after {self._grabbed} of {self._announced} frames"
            raise SourceError(what, "the file is truncated; what could be decoded was used")
        return None

    def _time_s(self) -> float:
        """Return the time of the current frame, seconds from the first: the file's own where it goes forward.

        A file without times, or whose times go back or leap by a day, goes on at its mean rate from there.
        """
        said_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._grabbed == 0:
            self._shift_s = -said_s if math.isfinite(said_s) else 0.0
            return 0.0
        at_s = said_s + self._shift_s
        if not 0.0 < at_s - self._at_s <= _LONGEST_GAP_S:  # so written, NaN goes on too
            at_s = self._at_s + 1 / self._fps
            self._shift_s = at_s - said_s if math.isfinite(said_s) else 0.0
        return at_s

    def retrieve(self) -> NDArray[np.uint8]:
        """Return the current frame as (H, W, 3) uint8 BGR."""
        ok, image = self._capture.retrieve()
        if not ok:
            raise SourceError(f"{self._path}: frame {self._grabbed - 1} cannot be decoded", "copy the file again")
        return np.asarray(image, np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class _Picture:
    """One picture: one frame, and the next file a second later."""

    still = True

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._image = image
        self._shown = False
        self.duration_s = _PICTURE_S

    def grab(self) -> float | None:
        """Return 0.0 once, then None."""
        if self._shown:
            return None
        self._shown = True
        return 0.0

    def retrieve(self) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) uint8 BGR."""
        return self._image

    def close(self) -> None:
        """Do nothing: the file is closed since it was read."""
