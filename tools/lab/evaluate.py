"""What a model is worth: LFW, validation people, and how far int8 lies from float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median

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
_COSINE_CROPS = 1000
_TIMED_RUNS = 200


def evaluate(network: Network, weights: Mapping[str, Array], data_dir: Path, model_name: str) -> dict[str, object]:
    """Return every figure of the shipped int8 files of `model_name` beside the float32 network they come from."""
    engines = {"fp32": float_engine(export(network, weights))}
    for backend in BACKENDS:
        engines[f"int8 {backend}"] = _runtime_engine(model_name, backend)
    val = dict(data.crops(data_dir, "val"))
    lfw = dict(data.crops(data_dir, "lfw", _lfw_keys(data_dir)))
    compared = {name: engines[name] for name in ("fp32", "int8 onnxruntime")}
    return {
        "lfw_accuracy": {name: lfw_accuracy(embed, lfw, data.lfw_pairs(data_dir)) for name, embed in compared.items()},
        "val_tar_at_far_1e-3": {
            name: val_tar(embed, val, data.identities(data_dir)) for name, embed in compared.items()
        },
        "cosine": cosines(engines, list(val.values())[:: max(1, len(val) // _COSINE_CROPS)][:_COSINE_CROPS]),
        "latency_ms": {name: latency_ms(embed, next(iter(val.values()))) for name, embed in engines.items()},
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


def val_tar(embed: Embed, crops: Mapping[str, Crop], identity: Mapping[str, int]) -> float:
    """Return the share of same-person pairs above the score that 1 in 1000 pairs of strangers reaches."""
    vectors = np.stack([embed(crop) for crop in crops.values()])
    person = np.array([identity[key] for key in crops])
    return tar_at_far(vectors, person, FAR)


def tar_at_far(vectors: Array, person: NDArray[np.int_], far: float) -> float:
    """Return the true accept rate over all pairs at a false accept rate of `far`."""
    upper = np.triu_indices(len(vectors), 1)
    scores = (vectors @ vectors.T)[upper]
    same = (person[:, None] == person[None, :])[upper]
    return round(float((scores[same] > np.quantile(scores[~same], 1 - far)).mean()), 4)


def cosines(engines: Mapping[str, Embed], crops: Iterable[Crop]) -> dict[str, dict[str, float]]:
    """Return mean and least cosine between each two engines over the same crops."""
    crops = list(crops)
    vectors = {name: np.stack([embed(crop) for crop in crops]) for name, embed in engines.items()}
    names = list(engines)
    found = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            c = np.einsum("nd,nd->n", vectors[a], vectors[b])
            found[f"{a} ~ {b}"] = {
                "mean": round(float(c.mean()), 4),
                "least": round(float(c.min()), 4),
                "crops": len(c),
            }
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


def _lfw_keys(data_dir: Path) -> list[str]:
    return sorted({key for a, b, _ in data.lfw_pairs(data_dir) for key in (a, b)})
