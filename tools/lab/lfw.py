"""LFW's official pairs from whole pictures, through the product's own detector and aligner, for any embedder.

`python -m tools.lab evaluate` measures on the crops of the face data, which another aligner cut. Here the device's
detector finds the faces of each picture and refines their landmarks. The most central face is aligned for the embedder,
without quality gates. A pair with a picture without a detected face counts as two different people.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.lab import data, embeddings, pictures
from tools.lab.colour import Cutter
from tools.lab.embeddings import CACHE, Table
from tools.lab.engines import Shipped
from tools.lab.figures import ten_fold

_PATTERN = r"(?:.*/)?(\w[\w.-]*_\d{4})\.jpg"
_NOBODY = -1.0  # score of a pair with an undetected face
_SAVED_EVERY = 500  # pictures


def measure(network: Shipped, folder: Path, root: Path, cache: Path | None = CACHE) -> dict[str, Any]:
    """Return the accuracy on LFW's pairs; `folder` has the list of pairs, `root` the pictures. Raises DataError."""
    pairs = data.lfw_pairs(folder)
    keys = sorted({key for a, b, _ in pairs for key in (a, b)})
    found = embedded(network, root, keys, cache)
    scores = np.array([_score(found, a, b) for a, b, _ in pairs], np.float64)
    accuracy = ten_fold(scores, np.array([same for _, _, same in pairs]))
    missed = sum(key not in found for key in keys)
    return {
        "model": network.entry.name,
        "id": network.entry.id,
        "pairs": len(pairs),
        "pictures": len(keys),
        "faces_missed": missed,
        "lfw_accuracy": accuracy["mean"],
        "lfw_std": accuracy["std"],
    }


def embedded(network: Shipped, root: Path, keys: list[str], cache: Path | None = CACHE) -> Table:
    """Return key → embedding of the pictures with a detected face; results are cached as they are computed."""
    paths = {Path(name).stem: name for name in pictures.names(root, _PATTERN)}
    if missing := [key for key in keys if key not in paths]:
        raise data.DataError(f"{root}: {missing[0]} and {len(missing) - 1} more are missing", "name LFW's pictures")
    path = None if cache is None else cache / f"{network.digest[:16]}-lfw-pictures.npz"
    known = {} if path is None else embeddings.read(path)
    todo = [key for key in keys if key not in known]
    cutter, embed, started_s = Cutter(network.entry.contract), network.open(), time.monotonic()
    none = np.zeros(network.entry.dimension, np.float32)  # cached for a picture without a face
    for i, (_, image) in enumerate(pictures.images(root, [paths[key] for key in todo]), 1):
        crop = cutter.cut(image)
        known[todo[i - 1]] = none if crop is None else embed(crop)
        if path is not None and (i % _SAVED_EVERY == 0 or i == len(todo)):
            embeddings.write(path, known)
            print(f"LFW: {i} of {len(todo)} pictures in {time.monotonic() - started_s:.0f} s", file=sys.stderr)
    return {key: known[key] for key in keys if known[key].any()}


def _score(found: Table, a: str, b: str) -> float:
    return float(found[a] @ found[b]) if a in found and b in found else _NOBODY
