"""Shared parts of the two sweeps that chose the limits of the quality gate: crops, embedder, command line."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.errors import EdgeError
from tools.lab import data
from tools.lab.checkpoint import load_weights
from tools.lab.export import INPUT, export
from tools.lab.lightcnn9 import LIGHTCNN9

Gray = NDArray[np.uint8]  # (H, W) uint8, 0..255
Floats = NDArray[np.float64]

CROP_PX = 128
LANDMARKS_PX = np.array([(40, 40), (88, 40), (64, 66), (46, 88), (82, 88)], np.float64)  # of the aligned 128 px crop
NOISE = 2.0  # sensor noise, gray levels


class Embedder:
    """The float32 network, one thread, as exported for quantization."""

    def __init__(self, weights: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = export(LIGHTCNN9, load_weights(weights)).SerializeToString()
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()

    def embed(self, crop: Gray) -> Floats:
        """(128, 128) uint8 → (256,) unit vector."""
        face = crop.astype(np.float32)[None, None] / 255
        vector = np.asarray(self._session.run(None, {INPUT: face})[0], np.float64)[0]
        return np.asarray(vector / np.linalg.norm(vector))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of both sweeps."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT, help="folder of the face crops")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: DATA/weights/lightcnn9-start.pt)")
    parser.add_argument("--json", action="store_true", help="print plain data instead of tables")
    return parser


def run(
    parser: argparse.ArgumentParser,
    sweep: Callable[[argparse.Namespace, Embedder], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
) -> int:
    """Parse the arguments, run a sweep and print its report; return the exit code."""
    asked = parser.parse_args()
    try:
        report = sweep(asked, Embedder(asked.weights or asked.data / "weights" / "lightcnn9-start.pt"))
    except EdgeError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    print(json.dumps(report, indent=1)) if asked.json else show(report)
    return 0
