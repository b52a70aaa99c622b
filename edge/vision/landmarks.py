"""Refined landmarks: a small network looks at each detection again, upright, and returns its confidence.

The detector's landmarks hardly follow the roll of a small face, and lie too high above the chin. The network was
trained on faces that were moved, turned and scaled by known amounts (`tools/lab/train_aligner.py`). It looks twice:
first at the square around the detector's box, then at the square that its first answer turns upright.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models import golden
from edge.models.manifest import AlignerEntry
from edge.models.sessions import open_session
from edge.records import Face, Frame
from edge.vision.geometry import cut, inverse, mapped

VIEW_PX = 64  # side of the square that the network sees
FACES_A_VIEW = 3.4  # width of this square in eyes-to-mouth distances
_LOOKS = 2
_BOX_SPANS = 2.45  # height of the detector's box in eyes-to-mouth distances: median over sizes and rolls
_BOX_RAISED = 0.1  # height of the box's middle above that of the landmarks, in eyes-to-mouth distances
_OUTPUTS = 11  # five points, and the logit of trust
_MIN_SPAN_PX = 2.0  # least eyes-to-mouth distance with visible features


class LandmarkRefiner:
    """The aligner's network. Not for several threads at once. Raises ModelError where `model` is not that network."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self._session = _open(model, threads)
        self._input: str = self._session.get_inputs()[0].name
        if self._session.get_outputs()[0].shape != [1, _OUTPUTS]:
            raise ModelError("the file is a network, but not the aligner", "reinstall edge-face-runtime")

    def refine(self, frame: Frame, face: Face) -> Face:
        """Return the face with the network's landmarks and its trust; unchanged, with trust 0, where that fails."""
        x, y, width, height = (float(v) for v in face.box_px)
        span_px = max(width, height) / _BOX_SPANS
        middle, roll_rad, trust = np.array([x + width / 2, y + height / 2 + _BOX_RAISED * span_px]), 0.0, 0.0
        points: NDArray[np.float32] = face.landmarks_px
        for _ in range(_LOOKS):
            if not (math.isfinite(span_px) and span_px >= _MIN_SPAN_PX and np.isfinite(middle).all()):
                return replace(face, trust=0.0)
            to_view = _view(middle, span_px, roll_rad)
            seen, trust = self._see(cut(frame.image, to_view, VIEW_PX))
            points = mapped(inverse(to_view), seen)
            eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
            middle, down = (eyes + mouth).astype(np.float64) / 2, (mouth - eyes).astype(np.float64)
            span_px, roll_rad = float(np.hypot(*down)), math.atan2(-down[0], down[1])
        return replace(face, landmarks_px=points, trust=trust)

    def check(self, entry: AlignerEntry, expected: bytes) -> float:
        """Run the golden self-test against the file `expected`; return the largest difference. Raises ModelError."""
        return golden.check_answers(entry, expected, [self.answer(view) for view in golden.views(VIEW_PX)])

    def answer(self, gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's output for a view, (S, S) gray: (11,), points in half views and a logit."""
        out = self._session.run(None, {self._input: gray[None, None].astype(np.float32)})[0]
        return np.asarray(out[0], np.float32)

    def _see(self, view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
        """Return the landmarks in px of the view, (5, 2), and the trust in them, 0..1."""
        out = self.answer(np.asarray(cv2.cvtColor(view, cv2.COLOR_BGR2GRAY), np.uint8))
        points = out[:10].reshape(5, 2).astype(np.float64) * (VIEW_PX / 2) + (VIEW_PX - 1) / 2
        return points, 1.0 / (1.0 + math.exp(-min(max(float(out[10]), -30.0), 30.0)))


def _view(middle: NDArray[np.float64], span_px: float, roll_rad: float) -> NDArray[np.float64]:
    """Return the (2, 3) similarity from the frame to a view in which this face is upright and in the middle."""
    scale = VIEW_PX / (FACES_A_VIEW * span_px)
    cos, sin = scale * math.cos(roll_rad), scale * math.sin(roll_rad)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([turn, (VIEW_PX - 1) / 2 - turn @ middle])


def _open(model: bytes, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return open_session(ort, model, options)
