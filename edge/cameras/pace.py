"""Which frames of a live camera are due at the wanted rate. The other frames are not decoded."""

from __future__ import annotations

import math

from edge.errors import SourceError

_EARLY = 0.25  # a frame may be early by this share of the interval: cameras do not keep exact time
_LATE = 0.5  # after a late frame the next one is due no sooner than this share of the interval


class CameraSilentError(SourceError):
    """No frame came, or was due, within the time that the caller waits. The source is unchanged."""


class FramePace:
    """Due times of the frames at `fps`. `patience_s`: how long one read may wait until a frame is due."""

    def __init__(self, fps: float, patience_s: float = math.inf) -> None:
        self.fps = fps
        self.patience_s = patience_s
        self.due_s = -math.inf  # no frame is wanted before this time
        self._last_s = -math.inf  # the latest frame

    def is_due(self, t_s: float) -> bool:
        """Whether a frame of this time is wanted."""
        return t_s >= self.due_s - _EARLY / self.fps

    def taken(self, t_s: float) -> None:
        """Note that a frame of this time was decoded."""
        self._last_s, self.due_s = t_s, max(self.due_s + 1 / self.fps, t_s + _LATE / self.fps)

    def set_fps(self, fps: float) -> None:
        """Change the rate. The next frame at a faster rate is due at once if the interval is over."""
        self.fps = fps
        self.due_s = min(self.due_s, self._last_s + 1 / fps)

    def check(self, name: str, began_s: float, t_s: float) -> None:
        """Raise CameraSilentError if the camera `name` was read for longer than the caller waits."""
        if t_s - began_s >= self.patience_s:
            raise CameraSilentError(f"{name}: no frame is due yet")
