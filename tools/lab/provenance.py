"""Find the weights that an int8 model was made from, by comparing the weights instead of a record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edge.errors import ModelError
from tools.lab.checkpoint import load_weights
from tools.lab.export import export
from tools.lab.lightcnn9 import LIGHTCNN9

COMMITTED = Path(__file__).parent / "weights"
_ROUNDING = 0.51  # of one quantization step: one half, plus the rounding of a float32 division


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The float32 network that an int8 model was made from."""

    path: Path
    model: onnx.ModelProto

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def source_of(int8: onnx.ModelProto, candidates: Iterable[Path]) -> Source | None:
    """Return the first candidate whose rounding is the int8 model; None where there is none."""
    for path in candidates:
        try:
            model = export(LIGHTCNN9, load_weights(path))
        except ModelError:  # weights of another network
            continue
        if is_rounding_of(int8, model):
            return Source(path, model)
    return None


def candidates(data_dir: Path) -> list[Path]:
    """Return the available weights files: those of the project, then those beside the data."""
    return [p for folder in (COMMITTED, data_dir / "weights") for p in sorted(folder.glob("*.pt"))]


def is_rounding_of(int8: onnx.ModelProto, model: onnx.ModelProto) -> bool:
    """Return whether every int8 weight times its scale is within half a step of the float32 weight."""
    stored = {t.name: t for t in int8.graph.initializer}
    weights = [t for t in model.graph.initializer if len(t.dims) == 4]
    return bool(weights) and all(_rounds(stored, t) for t in weights)


def _rounds(stored: dict[str, onnx.TensorProto], weight: onnx.TensorProto) -> bool:
    names = [f"{weight.name}_{part}" for part in ("quantized", "scale")]
    if any(name not in stored for name in names):
        return False
    integers, scale = (numpy_helper.to_array(stored[name]).astype(np.float64) for name in names)
    exact = numpy_helper.to_array(weight).astype(np.float64)
    if integers.shape != exact.shape or scale.shape != exact.shape[:1]:
        return False
    step = scale[:, None, None, None]
    return bool((np.abs(integers * step - exact) <= _ROUNDING * step).all())
