"""Compute the last layer in closed form: the linear projection from the network's output to the teacher's embedding.

After training, the other layers are fixed. The optimal projection is then a ridge regression of the teacher's
embeddings on the network's outputs, with a bias. The teacher's mean embedding is subtracted first. It is common to all
faces and does not distinguish people; without it, impostor cosines are centred at zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.bench import progress
from edge.errors import ModelError
from edge.vision.embedder import OnnxRuntime
from tools.lab import data
from tools.lab.checkpoint import PROJECTION, Weights
from tools.lab.cleaning import unlike_validation
from tools.lab.evaluate import VAL_PEOPLE, val_people
from tools.lab.export import export
from tools.lab.figures import tar_at_far, unit
from tools.lab.lightcnn9 import LIGHTCNN9, Array
from tools.lab.quantize import as_input

CROPS = 16_384
_RIDGE = (
    1e-3  # regularization relative to the outputs' mean square; it bounds the weight of an output that is always zero
)


def with_solved_head(weights: Weights, data_dir: Path, crops: int = CROPS) -> Weights:
    """Return the weights with a new projection, solved on `crops` training crops that resemble no validation person.

    Raises ModelError where the weights do not fit, DataError where the crops are missing.
    """
    keys = _training_keys(data_dir, crops)
    outputs = _outputs(weights, data_dir, "train", keys)
    weight, bias = solve(outputs, data.teacher(data_dir, keys))
    scale = 1 / np.abs(weight).max()  # embeddings are normalized later; small weights lose precision in float16
    return _body(weights) | {"proj.weight": weight * scale, "proj.bias": bias * scale}


def judged(trained: Weights, solved: Weights, data_dir: Path) -> dict[str, float]:
    """Return TAR at FAR 1e-3 over all pairs of validation people: without, with trained and with solved projection."""
    keys, person = val_people(data_dir, VAL_PEOPLE)
    outputs = _outputs(trained, data_dir, "val", keys)
    vectors = {"before the projection": outputs}
    for name, weights in (("trained projection", trained), ("solved projection", solved)):
        if "proj.weight" in weights:
            vectors[name] = outputs @ weights["proj.weight"].T + weights.get("proj.bias", np.float32(0))
    return {name: tar_at_far(unit(found), person, 1e-3) for name, found in vectors.items()}


def _body(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if not name.startswith(PROJECTION)}


def _outputs(weights: Weights, data_dir: Path, split: str, keys: list[str]) -> Array:
    """Return the network's outputs before the projection, (N, M) float32, not normalized."""
    network = OnnxRuntime(export(LIGHTCNN9, _body(weights)).SerializeToString(), threads=1)
    found = []
    with progress.bar(f"{split} crops", len(keys)) as advance:
        for _, crop in data.crops(data_dir, split, keys):
            found.append(network(as_input(crop)))
            advance()
    return np.stack(found)


def solve(outputs: Array, teacher: Array) -> tuple[Array, Array]:
    """Return weight (D, M) and bias (D,) of the ridge regression from `outputs` (N, M) to the centred `teacher` (N, D).

    The result minimizes |W·x + b − (t − mean t)|² + ridge·|W|², summed over the samples. Raises ModelError for N <= M.
    """
    count, width = outputs.shape
    if count <= width:
        raise ModelError(f"{count} crops do not determine {width} weights a row", "take more crops")
    centre = outputs.mean(axis=0, dtype=np.float64)
    x, y = outputs - centre, teacher - teacher.mean(axis=0, dtype=np.float64)
    ridge = _RIDGE * float((x**2).mean()) * count
    weight = np.linalg.solve(x.T @ x + ridge * np.eye(width), x.T @ y).T  # (D, M)
    return weight.astype(np.float32), (-weight @ centre).astype(np.float32)


def _training_keys(data_dir: Path, count: int) -> list[str]:
    """Return `count` keys at even steps through the training crops, in file order."""
    keys = data.keys(data_dir, "train")
    keep = unlike_validation(data_dir, data.teacher(data_dir, keys))
    keys = [key for key, kept in zip(keys, keep, strict=True) if kept]
    return data.evenly(keys, min(count, len(keys)))
