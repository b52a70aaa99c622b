"""Measure the share of faces that a look finds, by the width of the face and the size of the reduced view.

Validation faces are placed into views of a street of 640×480 at a given width of the detector's box, with sensor noise.
They are heads without bodies, which are harder to find than whole people. A face is found where the landmarks of a
detection are within 0.3 face widths of its own. `alone` counts confident detections. `again` counts detections of the
runtime, which examines uncertain detections of a reduced view again at full resolution (`edge/vision/focus.py`). The
landmark error is the median distance to the landmarks in the full view, in face widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bench.scenes import street
from edge.config import Config
from edge.processes.assembly import build_detector
from edge.records import Face, Frame
from edge.vision.focus import UNSURE, FocusedDetector
from tools.lab import data
from tools.lab.finder import Finder
from tools.lab.report import markdown

WIDTHS_PX = (40, 48, 56, 64, 80, 112)  # of a face: 40 px at 2.1 m, 112 px at 0.7 m before a lens of 60°
SIDES_PX = (640, 480, 320)  # longer side of the view that the detector sees
FACES = 400
_HOWS = ("alone", "again")
_NEAR = 0.3  # widths
_NOISE = 3.0  # standard deviation, gray levels


@dataclass(frozen=True, slots=True)
class _Head:
    image: NDArray[np.uint8]  # (S, S) gray
    width_px: float  # of the detector's box
    centre_px: NDArray[np.float32]  # (2,) mean of the landmarks


@dataclass(frozen=True, slots=True)
class _View:
    frame: Frame
    centre_px: NDArray[np.float32]
    width_px: int

    def find(self, faces: list[Face]) -> Face | None:
        """Return the detection of the face, None where there is none."""
        apart_px = (np.hypot(*(face.landmarks_px.mean(axis=0) - self.centre_px)) for face in faces)
        return next((face for face, px in zip(faces, apart_px, strict=True) if px < _NEAR * self.width_px), None)


def measure(folder: Path) -> dict[str, Any]:
    """Return shares found and errors of landmarks for every width and size."""
    config, heads, rows = Config(), list(_heads(folder)), []
    sure = config.detector.min_confidence
    alone, unsure = build_detector(config), build_detector(config, UNSURE)
    for width_px in WIDTHS_PX:
        views = list(_views(heads, width_px))
        truth: list[Face | None] = []
        for side_px in SIDES_PX:
            alone.set_max_side(side_px)
            unsure.set_max_side(side_px)
            finds = [view.find(alone.detect(view.frame)) for view in views]
            truth = truth or finds
            again = [view.find(FocusedDetector(unsure, 0.0, sure, side_px).detect(view.frame)) for view in views]
            rows.append(
                {
                    "face_px": width_px,
                    "view_px": side_px,
                    "alone": _found(finds),
                    "again": _found(again),
                    "alone_error": _error(finds, truth, width_px),
                    "again_error": _error(again, truth, width_px),
                }
            )
    return {"faces": len(heads), "rows": rows}


def table(figures: Mapping[str, Any]) -> str:
    """Return the shares as Markdown, one row per face width."""
    columns = [(side, how) for side in SIDES_PX for how in _HOWS if side != SIDES_PX[0] or how == "alone"]
    rows = {(row["face_px"], row["view_px"]): row for row in figures["rows"]}
    lines = []
    for width_px in WIDTHS_PX:
        cells = [(rows[width_px, side], how) for side, how in columns]
        lines.append([f"{width_px} px", *(_cell(row[how], row[f"{how}_error"]) for row, how in cells)])
    return markdown(["face", *(f"{side} px, {how}" for side, how in columns)], lines)


def _heads(folder: Path) -> Iterator[_Head]:
    finder = Finder(Config().detector.min_confidence)
    for crop in data.sample(folder, "val", FACES):
        face = finder.find(crop)
        if face is not None:
            yield _Head(crop, float(face.box_px[2:].min()), face.landmarks_px.mean(axis=0))


def _views(heads: Sequence[_Head], width_px: int) -> Iterator[_View]:
    rng = np.random.default_rng(width_px)
    for head, background in zip(heads, cycle(street()), strict=False):
        scale = width_px / head.width_px
        side = round(scale * len(head.image))
        how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        small = cv2.resize(head.image, (side, side), interpolation=how)[..., None]
        x, y = (int(rng.integers(0, size - side + 1)) for size in (background.shape[1], background.shape[0]))
        view = background.astype(np.float32)
        part = view[y : y + side, x : x + side]
        part += _oval(side) * (small - part)
        noisy = np.clip(view + rng.normal(0.0, _NOISE, view.shape), 0, 255).astype(np.uint8)
        centre_px = np.array([x, y], np.float32) + scale * head.centre_px
        yield _View(Frame(noisy, 0.0, 0), centre_px, width_px)


def _oval(side: int) -> NDArray[np.float64]:
    """Return (S, S, 1) blending weights: 1 in a circle, 0 in the corners, with a soft border."""
    across = (np.arange(side) + 0.5) / side * 2.0 - 1.0
    radius = np.hypot(across[:, None], across[None, :])
    return np.clip((1.05 - radius) / 0.2, 0.0, 1.0)[..., None]


def _cell(share: float, error: float | None) -> str:
    return f"{100 * share:.0f} %" + ("" if error is None else f", {error:.3f}")


def _found(finds: Sequence[Face | None]) -> float:
    return sum(face is not None for face in finds) / len(finds)


def _error(finds: Sequence[Face | None], truth: Sequence[Face | None], width_px: int) -> float | None:
    apart_px = [
        float(np.hypot(*(one.landmarks_px - other.landmarks_px).T).mean())
        for one, other in zip(finds, truth, strict=True)
        if one is not None and other is not None
    ]
    return float(np.median(apart_px)) / width_px if apart_px else None
