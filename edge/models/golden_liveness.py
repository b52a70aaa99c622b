"""Golden self-test of a liveness model: drawn faces in drawn scenes must give the known log-odds, at every start.

It checks what a hash cannot: the cut around the face, the order of the colours, the range of the values, the engine. An
error in one of them shifts the log-odds of at least one scene by far more than `MAX_ERROR`; a test shows it for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.golden import draw_head
from edge.models.manifest import LivenessEntry
from edge.records import Face, Frame

# Largest difference from the recorded log-odds. Engines differ by 1e-4; OpenCV's resizing differs by one gray level,
# which is 0.1. Wrong inputs differ by more than 1.
MAX_ERROR = 0.5
_MAKE = "make it with: python -m tools.lab liveness"
_SCENES = ((320, 240, 70, 92), (176, 144, 40, 60), (240, 320, 150, 190), (200, 200, 60, 60))  # frame and box, px


class GoldenLiveness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a golden file."""

    model: str  # id of the model
    log_odds: list[float]  # of "live", one for each scene


def scenes() -> list[tuple[Frame, Face]]:
    """Return the golden scenes: a drawn head in front of a background of three tones, and the box of its face."""
    return [(Frame(_scene(*sizes), 0.0, i), _face(*sizes)) for i, sizes in enumerate(_SCENES)]


def record(model: str, log_odds: Sequence[float]) -> bytes:
    """Return a golden file."""
    golden = GoldenLiveness(model, [round(value, 3) for value in log_odds])
    return msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n"


def check(entry: LivenessEntry, content: bytes, log_odds: Callable[[Frame, Face], float]) -> float:
    """Run the golden scenes through `log_odds`; return the largest difference from the values in the file `content`.

    Raises ModelError where the file is of another model or a difference exceeds MAX_ERROR.
    """
    try:
        golden = msgspec.json.decode(content, type=GoldenLiveness)
    except msgspec.MsgspecError as e:
        raise ModelError(f"{entry.name}: the golden file cannot be read: {e}", _MAKE) from None
    found = [log_odds(frame, face) for frame, face in scenes()]
    if golden.model != entry.id or len(golden.log_odds) != len(found):
        raise ModelError(f"{entry.name}: the golden file is of another model", _MAKE)
    worst = max(abs(a - b) for a, b in zip(golden.log_odds, found, strict=True))
    if not worst <= MAX_ERROR:
        raise ModelError(
            f"{entry.name}: golden self-test: log-odds differ by {worst:.2f}, at most {MAX_ERROR} is allowed",
            "input or engine compute wrongly on this CPU: reinstall edge-face-runtime and onnxruntime",
        )
    return worst


def _scene(width: int, height: int, box_width: int, box_height: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8, BGR: a head in a skin tone in front of a background that differs in each channel."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    ground = np.stack([60 + 120 * x // width, 170 - 90 * y // height, 90 + 60 * (x + y) // (width + height)], axis=2)
    side = max(box_width, box_height) * 3 // 2
    gray = draw_head(side).astype(np.int64)
    head = np.stack([gray * 5 // 8, gray * 6 // 8, gray], axis=2)
    top, left = (height - side) // 2, (width - side) // 2
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    in_head = (((x - width // 2) * 2) ** 2 * 16 + ((y - height // 2) * 2) ** 2 * 9) < (3 * side) ** 2
    patch = ground[rows, columns]
    patch[in_head[rows, columns]] = head[inner][in_head[rows, columns]]
    return np.asarray(np.clip(ground, 0, 255), np.uint8)


def _face(width: int, height: int, box_width: int, box_height: int) -> Face:
    box = np.array([(width - box_width) / 2, (height - box_height) / 2, box_width, box_height], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return Face(box, box[:2] + points * box[2:], 1.0)
