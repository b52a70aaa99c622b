"""Liveness: whether a face is live or a picture of a face.

A network reads the face with its surroundings: the texture of print and screen, and the edge of an object that is held
up. It judges a whole visit, from the views of the shots that were embedded. The median of their scores decides, so a
single odd frame does not. The model was not measured on faces that are too small, too blurred, or too large for the
frame: there the answer is None, unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models import golden_liveness
from edge.models.manifest import MANIFEST, LivenessEntry, ViewContract, load_manifest, load_verified, read_verified
from edge.records import Face, FaceView, Frame, Quality
from edge.vision.liveness_calibration import OperatingPoint

MAX_VIEWS = 3  # of one decision: more cost more than an embedding, and measured results do not change
_LOG_ODDS_LIMIT = 15.0  # float32 probabilities cannot resolve more

Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (N, 3, S, S) → (N, classes) probabilities


class LivenessModel:
    """A loaded network, without a threshold. Not for several threads at once."""

    def __init__(self, entry: LivenessEntry, engine: Engine) -> None:
        self._entry = entry
        self._engine = engine

    @property
    def model(self) -> str:
        """Id of the model, to which a calibration is bound."""
        return self._entry.id

    def view(self, frame: Frame, face: Face) -> FaceView:
        """Return the face with its surroundings as the network reads it."""
        return cut(frame, face, self._entry.contract)

    def log_odds(self, views: Sequence[FaceView]) -> NDArray[np.float64]:
        """Return the log-odds of "live" for each of N ≥ 1 views, (N,) float64; higher is more certainly live.

        Raises ModelError where the network gives no probabilities. An intact network gives them for every picture.
        """
        found = self._engine(self._entry.contract.prepare([view.pixels for view in views])).astype(np.float64)
        live = self._entry.live_class
        if found.ndim != 2 or found.shape[0] != len(views) or live >= found.shape[1] or not np.isfinite(found).all():
            raise ModelError(
                f"{self._entry.name} gave no probabilities for {len(views)} views",
                "manifest and model file do not belong together: reinstall edge-face-runtime",
            )
        attack = np.delete(found, live, axis=1).sum(axis=1)
        odds = np.log(np.maximum(found[:, live], 1e-12)) - np.log(np.maximum(attack, 1e-12))
        return np.asarray(np.clip(odds, -_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT), np.float64)


class Liveness:
    """The stage: it takes views of faces that the model was measured on, and gives one answer for several of them."""

    def __init__(self, model: LivenessModel, point: OperatingPoint) -> None:
        self._model = model
        self._point = point

    def view(self, frame: Frame, face: Face, quality: Quality) -> FaceView | None:
        """Return the face with its surroundings; None where the model was not measured on such a face."""
        if face.size_px < self._point.min_face_px or quality.sharpness < self._point.min_sharpness:
            return None
        view = self._model.view(frame, face)
        return None if self._point.level(view.kept) is None else view

    def judge(self, views: Sequence[FaceView]) -> bool | None:
        """Return whether the face of these views is live, by the median of up to MAX_VIEWS of them; None without one.

        The thresholds depend on how much of the surroundings a view holds. The median is therefore taken of the
        distances between each view's score and its own threshold.
        """
        chosen = [views[i] for i in _spread(len(views), MAX_VIEWS)]
        levels = [level for view in chosen if (level := self._point.level(view.kept)) is not None]
        if len(levels) < max(len(chosen), 1):
            return None
        odds = self._model.log_odds(chosen)
        if np.median(odds - [level.live_from for level in levels]) >= 0.0:
            return True
        limits = [-np.inf if level.picture_below is None else level.picture_below for level in levels]
        return False if np.median(odds - limits) < 0.0 else None


class NoLiveness:
    """The stage where it is switched off or has no model: the answer is always unknown, at no cost."""

    def view(self, frame: Frame, face: Face, quality: Quality) -> FaceView | None:  # noqa: ARG002  # the Protocol's
        """Return None."""
        return None

    def judge(self, views: Sequence[FaceView]) -> bool | None:  # noqa: ARG002
        """Return None."""
        return None


def cut(frame: Frame, face: Face, contract: ViewContract) -> FaceView:
    """Return the square around the face, `scale` times its longer side wide, shrunk until it fits into the frame.

    Where the frame holds less than `near_below` of that width, the square is `near_scale` wide instead, and parts
    outside the frame are mirrored at its border: the model judges large faces better so (docs/adr/0015-liveness.md).
    """
    x, y, width, height = (float(v) for v in face.box_px)
    side, centre = max(width, height), (x + width / 2, y + height / 2)
    fitting = min((frame.height_px - 1) / side, (frame.width_px - 1) / side)
    kept = min(1.0, fitting / contract.scale)
    if kept < contract.near_below:
        return FaceView(_mirrored(frame.image, centre, side * contract.near_scale, contract.size_px), kept)
    return FaceView(_inside(frame.image, centre, side * min(fitting, contract.scale), contract.size_px), kept)


def _inside(image: NDArray[np.uint8], centre: tuple[float, float], side: float, size_px: int) -> NDArray[np.uint8]:
    """Cut a square out of the image, shifted to lie inside: exactly the rule of the model's authors."""
    spans = []
    for middle, length in zip(centre, (image.shape[1], image.shape[0]), strict=True):
        start = min(max(middle - side / 2, 0.0), max(length - 1 - side, 0.0))
        spans.append((int(start), int(start + side) + 1))
    (left, right), (top, bottom) = spans
    # bilinear, not area: the model was trained with it and depends on the texture
    resized = cv2.resize(image[top:bottom, left:right], (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def _mirrored(image: NDArray[np.uint8], centre: tuple[float, float], side: float, size_px: int) -> NDArray[np.uint8]:
    """Cut a square out of the image; parts outside the image are mirrored at its border."""
    scale = size_px / side
    matrix = np.array(
        [[scale, 0, (size_px - 1) / 2 - scale * centre[0]], [0, scale, (size_px - 1) / 2 - scale * centre[1]]]
    )
    warped = cv2.warpAffine(
        image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` indices of `count` items, evenly spread, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most)).round()})


def open_liveness(name: str, threads: int = 1, manifest: Path = MANIFEST) -> LivenessModel:
    """Load the liveness model `name` of the manifest and run its self-test; raises ModelError."""
    folder = manifest.parent
    entry = load_manifest(manifest).liveness(name)
    model = load_liveness(entry, threads, folder)
    golden_liveness.check(
        entry, read_verified(entry.golden, folder), lambda f, b: model.log_odds([model.view(f, b)])[0]
    )
    return model


def load_liveness(entry: LivenessEntry, threads: int, folder: Path) -> LivenessModel:
    """Load without the self-test, to record what the self-test expects."""
    return LivenessModel(entry, _OnnxRuntime(load_verified(entry, "onnxruntime", folder), threads))


class _OnnxRuntime:
    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime as ort  # noqa: PLC0415  # not needed where liveness is off

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # one to three views: onnxruntime would keep a plan for each number
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # noqa: BLE001  # onnxruntime's own exceptions have no common type
            raise ModelError(f"the liveness model cannot be loaded: {e}", "reinstall edge-face-runtime") from None
        self._input: str = self._session.get_inputs()[0].name

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, S, S) → (N, classes)."""
        return np.asarray(self._session.run(None, {self._input: x})[0], np.float32)
