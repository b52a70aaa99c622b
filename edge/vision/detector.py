"""Frame → faces with five landmarks: YuNet, run by onnxruntime.

The shipped file is OpenCV Zoo's network with float32 weights and a free input size (`tools/lab/finish.py` makes it).
OpenCV's own engine takes more than twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.sessions import open_session
from edge.records import Face, Frame

_STRIDES = (8, 16, 32)  # px of the picture per cell, for each of the three output grids
_HEADS = ("cls", "obj", "bbox", "kps")  # face, object, box, landmarks; one output for each head and stride
_NMS_IOU = 0.3  # overlap above which two boxes are one face; the value of OpenCV's own YuNet sample
_MAX_CANDIDATES = 200  # boxes kept before overlaps are resolved: limits the cost of a hostile picture
_MIN_SIDE_PX = 16  # a smaller picture holds no face that a gate admits


class YuNetDetector:
    """Finds faces in a frame. Not for several threads at once: the network's input is kept between looks.

    The frame is shrunk so that its longer side is at most `max_side_px`. Boxes and landmarks are returned in pixels of
    the full frame. `min_confidence` is a limit of the detector's own score, 0..1. Source of the network: "YuNet: A Tiny
    Millisecond-level Face Detector", Wu, Peng and Yu, 2023. Raises ModelError where `model` is not that network.
    """

    def __init__(self, model: bytes, min_confidence: float, max_side_px: int, threads: int = 1) -> None:
        self._session = _open(model, threads)
        self._outputs = [f"{head}_{stride}" for stride in _STRIDES for head in _HEADS]
        self._min_confidence = min_confidence
        self._max_side_px = max_side_px
        self._input = np.zeros((1, 3, 0, 0), np.float32)  # (1, 3, H, W) float32, BGR, 0..255

    def set_max_side(self, max_side_px: int) -> None:
        """Shrink frames to this longer side from now on."""
        self._max_side_px = max_side_px

    def detect(self, frame: Frame) -> list[Face]:
        """Return the faces of a frame, highest score first; an empty list where there are none."""
        height, width = frame.image.shape[:2]
        if min(height, width) < _MIN_SIDE_PX:
            return []
        image: NDArray[np.uint8] = frame.image
        scale = 1.0
        if max(height, width) > self._max_side_px:
            scale = self._max_side_px / max(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        rows = _best(self._candidates(image))
        return [
            Face(box_px=row[:4] / scale, landmarks_px=row[4:14].reshape(5, 2) / scale, score=float(row[14]))
            for row in rows
        ]

    def _candidates(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 15) float32: box 4 and landmarks 10 in px of `image`, score; finite, N unbounded."""
        found = self._session.run(self._outputs, {"input": self._planes(image)})
        rows = []
        for i, stride in enumerate(_STRIDES):
            heads = [output[0] for output in found[i * len(_HEADS) : (i + 1) * len(_HEADS)]]
            rows.append(_decode(heads, stride, self._input.shape[3] // stride, self._min_confidence))
        together = np.concatenate(rows)
        return together[np.isfinite(together).all(axis=1)]

    def _planes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the picture in the network's layout, its sides padded with black to multiples of 32."""
        height, width = image.shape[:2]
        padded = (-(-height // 32) * 32, -(-width // 32) * 32)
        if self._input.shape[2:] != padded:
            self._input = np.zeros((1, 3, *padded), np.float32)
        elif padded != (height, width):
            self._input[:] = 0  # the picture before may have been larger
        self._input[0, :, :height, :width] = image.transpose(2, 0, 1)
        return self._input


def _open(model: bytes, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The arena keeps the memory of a look, 13 MB at 640×480. Without it each look allocates and frees the same blocks,
    # and fragmentation grows to 65 MB. A memory pattern planned in advance costs 9 MB more.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = open_session(ort, model, options)
    wanted = {f"{head}_{stride}" for stride in _STRIDES for head in _HEADS}
    inputs, outputs = ({one.name for one in ports} for ports in (session.get_inputs(), session.get_outputs()))
    if inputs != {"input"} or outputs != wanted:
        raise ModelError("the file is a network, but not YuNet", "reinstall edge-face-runtime")
    return session


def _decode(heads: Sequence[NDArray[np.float32]], stride: int, columns: int, least: float) -> NDArray[np.float32]:
    """Return the detections of one grid as (N, 15) float32: box 4, landmarks 10, score.

    `heads` hold one row for each cell of the grid: (cells, 1) face and (cells, 1) object, 0..1; (cells, 4) centre
    relative to the cell and logarithm of the size; (cells, 10) landmarks relative to the cell; lengths in strides.
    The score is the geometric mean of both probabilities.
    """
    face, thing, box, points = heads
    square = np.clip(face[:, 0], 0, 1) * np.clip(thing[:, 0], 0, 1)
    cells = np.flatnonzero(square >= least * least)
    corner = np.stack([cells % columns, cells // columns], axis=1).astype(np.float32)  # (N, 2) x, y
    centre, size = corner + box[cells, :2], np.exp(box[cells, 2:])
    landmarks = points[cells] + np.tile(corner, 5)
    measures = np.concatenate([centre - size / 2, size, landmarks], axis=1) * np.float32(stride)
    return np.concatenate([measures, np.sqrt(square[cells])[:, None]], axis=1)


def _best(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the best of each group of overlapping boxes: greedy non-maximum suppression. (M, 15), best first."""
    rest = rows[np.argsort(-rows[:, 14], kind="stable")][:_MAX_CANDIDATES]
    kept = []
    while len(rest):
        kept.append(rest[0])
        rest = rest[1:][_overlap(rest[0, :4], rest[1:, :4]) <= _NMS_IOU]
    return np.array(kept, np.float32).reshape(-1, 15)


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of one (x, y, width, height) box with each of (N, 4) others."""
    sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    union = box[2] * box[3] + others[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-6), np.float32)
