"""Repeat one operation of the product TIMES times, for instruction counters: `counted.py SUBJECT TIMES FOLDER`.

The script needs the installed product only, no `tools`. The start-up is in every count; the difference of two counts
removes it. FOLDER holds other forms of the model, because the emulator would take too long to make them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge.bench import scenes
from edge.cameras.picture import read_image
from edge.config import Config
from edge.footage import locate
from edge.models import golden
from edge.models.manifest import MANIFEST, load_manifest
from edge.processes.assembly import build_detector
from edge.records import Frame
from edge.vision.embedder import Embedder, OnnxRuntime, load_embedder

Work = Callable[[], object]
_EMBEDDER = "lightcnn9"


def embedding(subject: str, folder: Path) -> Work:
    """Return a function that computes one embedding with a form of the model, on one thread."""
    entry = load_manifest().embedder(_EMBEDDER)
    if subject == "embed-int8":
        embedder = load_embedder(entry, "onnxruntime", 1, MANIFEST.parent)
    else:
        embedder = Embedder(entry, OnnxRuntime((folder / f"{subject}.onnx").read_bytes(), 1))
    crop = golden.crops(entry.contract)[0]
    return lambda: embedder.embed(crop)


def detection() -> Work:
    """Return a function that runs the detector once on a view of 640×480."""
    detector = build_detector(Config())
    # A picture, not a video: threads decode a video, and their counts vary from run to run.
    image = cv2.resize(read_image(locate("astronaut")), (scenes.WIDTH_PX, scenes.HEIGHT_PX))
    frame = Frame(np.asarray(image, np.uint8), 0.0, 0)
    return lambda: detector.detect(frame)


def main(subject: str, times: int, forms: Path) -> None:
    """Run the operation."""
    cv2.setNumThreads(1)
    work = detection() if subject == "detect" else embedding(subject, forms)
    for _ in range(times):
        work()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
