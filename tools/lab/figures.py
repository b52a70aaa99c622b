"""Figures of merit: accuracy over folds, true accept rate at a false accept rate, cosines between engines."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError

Vectors = NDArray[np.float32]  # (N, D) float32, unit rows
Labels = NDArray[np.intp]  # (N,) person of each crop
_BLOCK = 512  # rows of the score matrix at a time: LFW's whole matrix has 700 MB
_TIMED_RUNS = 200


def unit(vectors: NDArray[np.float32]) -> Vectors:
    """Return rows (…, D) of Euclidean norm 1; raises ModelError for a row that is zero or not finite."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ModelError("an embedding has no direction", "the weights are damaged: train or fetch them again")
    return np.asarray(vectors / norms, np.float32)


def ten_fold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, float]:
    """Return mean and standard deviation of the accuracy over ten consecutive folds, shares of 1.

    The threshold of each fold is the best one on the other nine folds.
    """
    folds = np.arange(len(scores)) * 10 // len(scores)
    results = []
    for fold in range(10):
        threshold = _best_threshold(scores[folds != fold], same[folds != fold])
        test = folds == fold
        results.append(float(((scores[test] >= threshold) == same[test]).mean()))
    return {"mean": round(float(np.mean(results)), 4), "std": round(float(np.std(results)), 4)}


def tars_at_fars(vectors: Vectors, person: Labels, fars: Sequence[float]) -> list[float]:
    """Return the true accept rate over all pairs at each false accept rate of `fars`, shares of 1.

    The threshold is the lowest one that at most this share of impostor pairs passes. The result is exact: every pair is
    scored once, and only the highest impostor scores are kept.
    """
    counts = np.unique(person, return_counts=True)[1].astype(np.int64)
    genuine_pairs = int((counts * (counts - 1) // 2).sum())
    impostor_pairs = len(person) * (len(person) - 1) // 2 - genuine_pairs
    allowed = [int(far * impostor_pairs) for far in fars]
    genuine, highest = _scores(vectors, person, keep=max(allowed) + 1)
    highest = np.sort(highest)[::-1]
    return [round(float((genuine > highest[a]).mean()), 4) for a in allowed]


def tar_at_far(vectors: Vectors, person: Labels, far: float) -> float:
    """Return the true accept rate over all pairs at one false accept rate."""
    return tars_at_fars(vectors, person, [far])[0]


def cosines(vectors: Mapping[str, Vectors]) -> dict[str, dict[str, float]]:
    """Return statistics of the cosine between each two engines' (N, D) embeddings of the same crops."""
    found = {}
    for (a, left), (b, right) in itertools.combinations(vectors.items(), 2):
        c = np.einsum("nd,nd->n", left, right)
        found[f"{a} ~ {b}"] = {
            "mean": round(float(c.mean()), 4),
            "p01": round(float(np.quantile(c, 0.01)), 4),
            "least": round(float(c.min()), 4),
            "crops": len(c),
        }
    return found


def latency_ms(embed: Callable[[NDArray[np.uint8]], object], crop: NDArray[np.uint8]) -> float:
    """Return the median time of one call on one thread, ms."""
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        embed(crop)
        times.append(time.perf_counter() - start)
    return round(median(times) * 1e3, 2)


def _scores(vectors: Vectors, person: Labels, keep: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the genuine pairs' scores, and the `keep` highest of the impostor pairs'."""
    genuine, highest = [], np.empty(0, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores = vectors[rows] @ vectors[start:].T  # (B, N − start)
        later = np.arange(scores.shape[1]) > np.arange(scores.shape[0])[:, None]  # each pair once, without the diagonal
        same = person[rows, None] == person[None, start:]
        genuine.append(scores[later & same])
        highest = np.concatenate([highest, scores[later & ~same]])
        if len(highest) > keep:
            highest = np.partition(highest, len(highest) - keep)[-keep:]
    return np.concatenate(genuine), highest


def _best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    order = np.argsort(scores, kind="stable")
    # Acceptance from rank i on is right for impostor pairs below i and for genuine pairs from i on.
    right = np.concatenate([[0], np.cumsum(~same[order])]) + np.concatenate([np.cumsum(same[order][::-1])[::-1], [0]])
    return float(np.append(scores[order], np.inf)[int(right.argmax())])
