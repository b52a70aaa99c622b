"""The last layer, solved instead of trained: the linear map that takes the network's output nearest to the teacher.

Training moves the projection by small steps beside all other layers. Once these stand, the best projection has a closed
form: least squares of the teacher's embeddings on the network's, with a bias. The teacher's mean is taken away first:
the part that all faces share distinguishes no people, and without it strangers' cosines lie around zero.
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
_RIDGE = 1e-3  # of the mean square of an output: keeps an output that never speaks from a weight without bound


def with_solved_head(weights: Weights, data_dir: Path, crops: int = CROPS) -> Weights:
    """Return the weights with the projection solved on training crops that resemble no validation person.

    Raises ModelError where the weights do not fit, DataError where the crops are missing.
    """
    keys = _training_keys(data_dir, crops)
    outputs = _outputs(weights, data_dir, "train", keys)
    weight, bias = solve(outputs, data.teacher(data_dir, keys))
    scale = 1 / np.abs(weight).max()  # an embedding's length means nothing, and float16 holds no tiny weights
    return _body(weights) | {"proj.weight": weight * scale, "proj.bias": bias * scale}


def judged(trained: Weights, solved: Weights, data_dir: Path) -> dict[str, float]:
    """Return TAR at FAR 1e-3 over all pairs of the validation people: before the last layer, and behind either."""
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
    """Return what the network says of crops before its last layer, (N, M), not normalized."""
    network = OnnxRuntime(export(LIGHTCNN9, _body(weights)).SerializeToString(), threads=1)
    found = []
    with progress.bar(f"{split} crops", len(keys)) as advance:
        for _, crop in data.crops(data_dir, split, keys):
            found.append(network(as_input(crop)))
            advance()
    return np.stack(found)


def solve(outputs: Array, teacher: Array) -> tuple[Array, Array]:
    """Return weight (D, M) and bias (D,) that take outputs (N, M) nearest to teacher (N, D) less its mean.

    Raises ModelError for fewer samples than weights a row.
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
