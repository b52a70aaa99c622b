"""Focused looks: the detector's cost is proportional to the pixels, so it sees only as many as needed.

A followed face stays near its place from one look to the next. The detector therefore sees the whole view a few times a
second, which finds new faces, and in between only the region of the known faces. If a look at the region misses a known
face, a look at the whole view follows at once: no face is lost.

In a whole view that is shrunk to save energy, a distant face is too small for a certain detection. Its landmarks are
coarse. A new or uncertain detection there gets a second look at the region around it in full resolution, and only the
second look counts (`python -m tools.lab look-size` measures both). A known face that is detected with certainty gets no
second look.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame

_MARGIN = 0.7  # of a face's side, around the faces on each side of the region: room to move, and context
_MAX_SHARE = 0.5  # of the view; a larger region saves too little
_GRID_PX = 32  # the detector's coarsest cell: on this grid a region gives the same detections as the whole view
_RIM_PX = 2.0  # a detection this close to the region's rim is a face cut in two
UNSURE = 0.3  # least score of a detection in a shrunk view that gets a second look
_SECOND_LOOKS = 4  # most second looks after one look: limits the cost of a crowd and of a hostile picture
_SECOND_LOOKS_AT_A_PICTURE = 40  # most second looks at a single picture, which has no next frame


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract

    def set_max_side(self, max_side_px: int) -> None: ...  # noqa: D102


class FocusedDetector:
    """A detector that sees the whole view every `whole_s`, and in between the region of the faces found last.

    `detector` shrinks frames to a longer side of `max_side_px` and returns detections from a score of UNSURE on. Only
    those from `min_confidence` on are returned, in pixels of the full frame. Pure: the frame carries the time.
    """

    def __init__(self, detector: Detector, whole_s: float, min_confidence: float, max_side_px: int) -> None:
        self._detector = detector
        self._whole_s = whole_s
        self._min_confidence = min_confidence
        self._max_side_px = max_side_px
        self._known: list[Face] = []
        self._whole_at_s = float("-inf")  # when the whole view was seen last
        self._shape: tuple[int, ...] = ()

    def set_max_side(self, max_side_px: int) -> None:
        """Shrink views to this longer side from now on."""
        self._max_side_px = max_side_px
        self._detector.set_max_side(max_side_px)

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, highest score first."""
        if frame.still:
            self._known = []
        found = self._near(frame)
        if found is None:
            found = self._whole(frame)
            self._whole_at_s, self._shape = frame.t_s, frame.image.shape
        self._known = found
        return found

    def _whole(self, frame: Frame) -> list[Face]:
        """Look at the whole view, and again at uncertain detections where the view is shrunk."""
        found = self._detector.detect(frame)
        if max(frame.width_px, frame.height_px) <= self._max_side_px:
            return self._sure(found)
        faces = [face for face in self._sure(found) if any(_is_same(face, other) for other in self._known)]
        unsure = [place for place in found if not any(_is_same(face, place) for face in faces)]
        for place in unsure[: _SECOND_LOOKS_AT_A_PICTURE if frame.still else _SECOND_LOOKS]:
            if not any(_is_same(face, place) for face in faces):
                again = self._look_at(_region([place], frame), frame)
                faces += [face for face in again if not any(_is_same(face, other) for other in faces)]
        return faces

    def _near(self, frame: Frame) -> list[Face] | None:
        """Look at the region of the known faces; None where the whole view is due."""
        fresh = 0 <= frame.t_s - self._whole_at_s < self._whole_s - 1e-6
        if not self._known or not fresh or frame.image.shape != self._shape:
            return None
        region = left, top, right, bottom = _region(self._known, frame)
        if (right - left) * (bottom - top) > _MAX_SHARE * frame.width_px * frame.height_px:
            return None
        found = self._look_at(region, frame)
        return found if len(found) >= len(self._known) else None

    def _look_at(self, region: tuple[int, int, int, int], frame: Frame) -> list[Face]:
        """Return the certain faces in a region that its rim does not cut."""
        left, top, right, bottom = region
        part = Frame(frame.image[top:bottom, left:right], frame.t_s, frame.index)
        corner = np.array([left, top], np.float32)
        found = self._sure(self._detector.detect(part))
        return [_moved(face, corner) for face in found if not _is_cut(face, part, corner, frame)]

    def _sure(self, found: list[Face]) -> list[Face]:
        return [face for face in found if face.score >= self._min_confidence]


def _region(faces: list[Face], frame: Frame) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom, px, of all faces with their margins: inside the frame, sides in whole cells."""
    boxes: NDArray[np.float32] = np.stack([face.box_px for face in faces])  # (N, 4)
    margin = _MARGIN * boxes[:, 2:].max(axis=1, keepdims=True)
    low = (boxes[:, :2] - margin).min(axis=0)
    high = (boxes[:, :2] + boxes[:, 2:] + margin).max(axis=0)
    left, right = _cells(float(low[0]), float(high[0]), frame.width_px)
    top, bottom = _cells(float(low[1]), float(high[1]), frame.height_px)
    return left, top, right, bottom


def _cells(low: float, high: float, limit: int) -> tuple[int, int]:
    """Widen a span to whole cells of the frame: the detector then sees the same cells as in the whole frame."""
    return max(0, int(low) // _GRID_PX * _GRID_PX), min(limit, -(-int(high) // _GRID_PX) * _GRID_PX)


def _is_same(one: Face, other: Face) -> bool:
    """Whether the middle of each lies within the other: two detections of one face."""
    apart = np.abs(one.box_px[:2] + one.box_px[2:] / 2 - other.box_px[:2] - other.box_px[2:] / 2)
    return bool((2 * apart < np.minimum(one.box_px[2:], other.box_px[2:])).all())


def _is_cut(face: Face, part: Frame, corner: NDArray[np.float32], frame: Frame) -> bool:
    """Whether a detection lies on a rim of the region that is not a border of the frame."""
    (x, y, width, height), (left, top) = face.box_px, corner
    return bool(
        (left > 0 and x < _RIM_PX)
        or (top > 0 and y < _RIM_PX)
        or (left + part.width_px < frame.width_px and x + width > part.width_px - _RIM_PX)
        or (top + part.height_px < frame.height_px and y + height > part.height_px - _RIM_PX)
    )


def _moved(face: Face, corner: NDArray[np.float32]) -> Face:
    box = face.box_px.copy()
    box[:2] += corner
    return Face(box_px=box, landmarks_px=face.landmarks_px + corner, score=face.score)
