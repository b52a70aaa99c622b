"""Look where the faces are: the detector's cost follows the pixels, so it sees few of them wherever that is enough.

A face that is followed stays near its place from one look to the next. So the whole view is seen a few times a second,
which is when newcomers are found, and in between a region of it. A look at a region that misses a known face is
followed at once by one at the whole view: nobody is lost by it.

A whole view that is shrunk to save energy shows a far face too small to be sure of, and its landmarks are coarse. There
a find that is new or unsure is a place worth a second look, at the region around it in full resolution, and only what
that one finds counts (`python -m tools.lab look-size` measures both). A known face that is surely seen again is not.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import Face, Frame

_MARGIN = 0.7  # sides of a face, by which the region reaches beyond it on each side: room to move, and context
_MAX_SHARE = 0.5  # of the view; a look at a region larger than that saves too little
_GRID_PX = 32  # the detector's coarsest cell: regions on this grid give the very finds of a look at the whole view
_RIM_PX = 2.0  # a find that touches the region's rim is a face cut in two, no find
UNSURE = 0.3  # score from which a find in a shrunk view is worth a second look
_LOOKS_AT_A_PICTURE = 40  # the same for a picture of its own, which has no next frame
_SECOND_LOOKS = 4  # at most, after one look at a shrunk view: bounds the cost of a crowd and of a hostile picture


class Detector(Protocol):
    """Finds faces in a frame."""

    def detect(self, frame: Frame) -> list[Face]: ...  # noqa: D102 - the class's line is the contract

    def set_max_side(self, max_side_px: int) -> None: ...  # noqa: D102


class FocusedDetector:
    """A detector that sees the whole view every `whole_s`, and in between the region of the faces found last.

    `detector` shrinks frames to a longer side of `max_side_px`, and tells finds from a score of UNSURE on; only those
    of `min_confidence` come back, in pixels of the full frame. Pure: the frame carries the time.
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
        """Shrink what is looked at to this longer side from now on."""
        self._max_side_px = max_side_px
        self._detector.set_max_side(max_side_px)

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, surest first."""
        if frame.still:
            self._known = []
        found = self._near(frame)
        if found is None:
            found = self._whole(frame)
            self._whole_at_s, self._shape = frame.t_s, frame.image.shape
        self._known = found
        return found

    def _whole(self, frame: Frame) -> list[Face]:
        """Look at the whole view, and again where a shrunk one shows something."""
        found = self._detector.detect(frame)
        if max(frame.width_px, frame.height_px) <= self._max_side_px:
            return self._sure(found)
        faces = [face for face in self._sure(found) if any(_is_same(face, other) for other in self._known)]
        doubtful = [place for place in found if not any(_is_same(face, place) for face in faces)]
        for place in doubtful[: _LOOKS_AT_A_PICTURE if frame.still else _SECOND_LOOKS]:
            if not any(_is_same(face, place) for face in faces):
                again = self._look_at(_region([place], frame), frame)
                faces += [face for face in again if not any(_is_same(face, other) for other in faces)]
        return faces

    def _near(self, frame: Frame) -> list[Face] | None:
        """Look at the region of the known faces; None where that is not enough."""
        fresh = 0 <= frame.t_s - self._whole_at_s < self._whole_s - 1e-6
        if not self._known or not fresh or frame.image.shape != self._shape:
            return None
        region = left, top, right, bottom = _region(self._known, frame)
        if (right - left) * (bottom - top) > _MAX_SHARE * frame.width_px * frame.height_px:
            return None
        found = self._look_at(region, frame)
        return found if len(found) >= len(self._known) else None

    def _look_at(self, region: tuple[int, int, int, int], frame: Frame) -> list[Face]:
        """Return the sure faces in a region that its rim does not cut."""
        left, top, right, bottom = region
        part = Frame(frame.image[top:bottom, left:right], frame.t_s, frame.index)
        corner = np.array([left, top], np.float32)
        found = self._sure(self._detector.detect(part))
        return [_moved(face, corner) for face in found if not _is_cut(face, part, corner, frame)]

    def _sure(self, found: list[Face]) -> list[Face]:
        return [face for face in found if face.score >= self._min_confidence]


def _region(faces: list[Face], frame: Frame) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom, px: all faces with their margins, inside the frame, sides in whole cells."""
    boxes: NDArray[np.float32] = np.stack([face.box_px for face in faces])  # (N, 4)
    margin = _MARGIN * boxes[:, 2:].max(axis=1, keepdims=True)
    low = (boxes[:, :2] - margin).min(axis=0)
    high = (boxes[:, :2] + boxes[:, 2:] + margin).max(axis=0)
    left, right = _cells(float(low[0]), float(high[0]), frame.width_px)
    top, bottom = _cells(float(low[1]), float(high[1]), frame.height_px)
    return left, top, right, bottom


def _cells(low: float, high: float, limit: int) -> tuple[int, int]:
    """Widen a span to whole cells of the frame: the detector then sees the same cells as in a look at all of it."""
    return max(0, int(low) // _GRID_PX * _GRID_PX), min(limit, -(-int(high) // _GRID_PX) * _GRID_PX)


def _is_same(one: Face, other: Face) -> bool:
    """Whether the middle of each lies within the other: two finds of one face."""
    apart = np.abs(one.box_px[:2] + one.box_px[2:] / 2 - other.box_px[:2] - other.box_px[2:] / 2)
    return bool((2 * apart < np.minimum(one.box_px[2:], other.box_px[2:])).all())


def _is_cut(face: Face, part: Frame, corner: NDArray[np.float32], frame: Frame) -> bool:
    """Whether a find lies on a rim of the region that is not the frame's own."""
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
