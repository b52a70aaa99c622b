"""What a model is worth: LFW, validation people, and how far int8 lies from float32."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.records import AlignedFace
from edge.vision.embedder import open_embedder
from tools.lab import data
from tools.lab.data import Crop
from tools.lab.export import INPUT, export
from tools.lab.lightcnn9 import Array, Network
from tools.lab.quantize import as_input

Embed = Callable[[Crop], Array]  # (S, S) uint8 → (D,) float32, norm 1
BACKENDS = ("onnxruntime", "litert")
FAR = 1e-3
VAL_PEOPLE = 70  # the same people by whom training watches its progress
_TIMED_RUNS = 200


def evaluate(network: Network, weights: Mapping[str, Array], data_dir: Path, model_name: str) -> dict[str, Any]:
    """Return every figure of the shipped int8 files of `model_name` beside the float32 network they come from."""
    shipped = {f"int8 {backend}": _runtime_engine(model_name, backend) for backend in BACKENDS}
    engines = {"fp32": float_engine(export(network, weights)), **shipped}
    compared = {name: engines[name] for name in ("fp32", "int8 onnxruntime")}  # LiteRT computes the same integers
    lfw = dict(data.crops(data_dir, "lfw", _lfw_keys(data_dir)))
    val, person = _val_crops(data_dir)
    vectors = {name: np.stack([embed(crop) for crop in val]) for name, embed in engines.items()}
    return {
        "lfw_accuracy": {name: lfw_accuracy(embed, lfw, data.lfw_pairs(data_dir)) for name, embed in compared.items()},
        "val_tar_at_far_1e-3": {name: tar_at_far(vectors[name], person, FAR) for name in compared},
        "cosine": cosines(vectors),
        "latency_ms": {name: latency_ms(embed, val[0]) for name, embed in engines.items()},
    }


def float_engine(model: onnx.ModelProto) -> Embed:
    """Return an engine that runs any ONNX model of the lab on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def embed(crop: Crop) -> Array:
        return unit(np.asarray(session.run(None, {INPUT: as_input(crop)})[0][0], np.float32))

    return embed


def unit(vectors: Array) -> Array:
    """Return rows (…, D) of Euclidean norm 1; raises ModelError for a row without a direction."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ModelError("an embedding has no direction", "the weights are damaged: train or fetch them again")
    return np.asarray(vectors / norms, np.float32)


def lfw_accuracy(embed: Embed, crops: Mapping[str, Crop], pairs: list[tuple[str, str, bool]]) -> dict[str, float]:
    """Return LFW's figure: mean and standard deviation over ten folds, each with the other nine's best threshold."""
    vectors = {key: embed(crop) for key, crop in crops.items()}
    scores = np.array([vectors[a] @ vectors[b] for a, b, _ in pairs], np.float64)
    same = np.array([s for _, _, s in pairs])
    return ten_fold(scores, same)


def ten_fold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, float]:
    """Return mean and standard deviation of the accuracy over ten consecutive folds, shares of 1."""
    folds = np.arange(len(scores)) * 10 // len(scores)
    results = []
    for fold in range(10):
        threshold = _best_threshold(scores[folds != fold], same[folds != fold])
        test = folds == fold
        results.append(float(((scores[test] >= threshold) == same[test]).mean()))
    return {"mean": round(float(np.mean(results)), 4), "std": round(float(np.std(results)), 4)}


def _best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    order = np.argsort(scores, kind="stable")
    # accepting from rank i on: the strangers below it and the pairs from it on are right
    right = np.concatenate([[0], np.cumsum(~same[order])]) + np.concatenate([np.cumsum(same[order][::-1])[::-1], [0]])
    return float(np.append(scores[order], np.inf)[int(right.argmax())])


def tar_at_far(vectors: Array, person: NDArray[np.int_], far: float) -> float:
    """Return the true accept rate over all pairs at a false accept rate of `far`."""
    upper = np.triu_indices(len(vectors), 1)
    scores = (vectors @ vectors.T)[upper]
    same = (person[:, None] == person[None, :])[upper]
    return round(float((scores[same] > np.quantile(scores[~same], 1 - far)).mean()), 4)


def cosines(vectors: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """Return mean and least cosine between each two engines' unit-norm (N, D) embeddings of the same crops."""
    found = {}
    for (a, left), (b, right) in itertools.combinations(vectors.items(), 2):
        c = np.einsum("nd,nd->n", left, right)
        found[f"{a} ~ {b}"] = {"mean": round(float(c.mean()), 4), "least": round(float(c.min()), 4), "crops": len(c)}
    return found


def latency_ms(embed: Embed, crop: Crop) -> float:
    """Return the median time of one call on one thread; as noisy as the machine."""
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        embed(crop)
        times.append(time.perf_counter() - start)
    return round(median(times) * 1e3, 2)


def _runtime_engine(model_name: str, backend: str) -> Embed:
    embedder = open_embedder(model_name, backend, 1)
    return lambda crop: embedder.embed(AlignedFace(crop)).vector


def _val_crops(data_dir: Path) -> tuple[list[Crop], NDArray[np.int_]]:
    identity = data.identities(data_dir)
    keys = data.keys(data_dir, "val")
    people = sorted({identity[key] for key in keys})[:VAL_PEOPLE]
    wanted = [key for key in keys if identity[key] in people]
    return [crop for _, crop in data.crops(data_dir, "val", wanted)], np.array([identity[key] for key in wanted])


def _lfw_keys(data_dir: Path) -> list[str]:
    return sorted({key for a, b, _ in data.lfw_pairs(data_dir) for key in (a, b)})
