"""Measurements of a model: LFW's pairs, identification among many, open-set search, distance of int8 to float32.

LFW is reported only; no choice depends on it. Thresholds and choices are made on the validation people (CelebA), none
of whom is in the training data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.lab import data
from tools.lab.embeddings import CACHE, Table, embed_split
from tools.lab.engines import BACKENDS, Exported, Shipped, Subject, listed, subject
from tools.lab.figures import Labels, Vectors, cosines, latency_ms, tar_at_far, tars_at_fars, ten_fold
from tools.lab.identification import closed_set, name, open_set, people_with
from tools.lab.provenance import Source, candidates, source_of
from tools.lab.unroll import rolled

FARS = (1e-2, 1e-3, 1e-4)
MANY_PICTURES = 20  # lowest number of pictures of an LFW person in identification
VAL_PEOPLE = 70  # number of validation people; the progress of training uses the same people

Figures = dict[str, Any]  # flat: name → number


def evaluate(
    model: Path, folder: Path, weights: Path | None = None, *, cache: Path | None = CACHE, workers: int = 2
) -> Figures:
    """Return every figure of a model file, and those of its float32 network where the weights are found.

    `weights`: the weights file; without it, the project and the folder beside the data are searched. Weights count only
    where the int8 model is their rounding. Raises ModelError and DataError.
    """
    measured, source = subject(model), origin(model, folder, weights)
    pairs, val_keys, person = data.lfw_pairs(folder), *val_people(folder)
    in_pairs = sorted({key for a, b, _ in pairs for key in (a, b)})
    lfw_keys = sorted({*in_pairs, *of_many(data.keys(folder, "lfw"))})

    def embedded(network: Subject, split: str, keys: list[str]) -> Table:
        return embed_split(network, folder, split, keys, cache=cache, workers=workers)

    lfw, val = embedded(measured, "lfw", lfw_keys), embedded(measured, "val", val_keys)
    figures = {
        "model": measured.digest,
        "size_bytes": model.stat().st_size,
        **verification(lfw, pairs, in_pairs),
        **identification(stacked(lfw, lfw_keys), people(lfw_keys), stacked(val, val_keys), person),
    }
    if source is None:
        return figures | {"fp32_lfw_accuracy": None, "weights": None}
    fp32 = embedded(Exported(source.model.SerializeToString(deterministic=True)), "lfw", in_pairs)
    (near,) = cosines({"fp32": stacked(fp32, in_pairs), "int8": stacked(lfw, in_pairs)}).values()
    return {
        **figures,
        **{f"fp32_{key}": value for key, value in verification(fp32, pairs, in_pairs).items()},
        **{f"cosine_to_fp32_{key}": value for key, value in near.items()},
        "weights": source.sha256,
    }


def origin(model: Path, folder: Path, weights: Path | None) -> Source | None:
    """Return the float32 network of an int8 ONNX file; for a TFLite file, that of the ONNX file beside it."""
    entry = listed(model)
    path = model if entry is None else entry.files["onnxruntime"].locate(model.parent)
    if path.suffix != ".onnx":
        return None
    return source_of(
        onnx.load_model_from_string(rolled(path.read_bytes())), candidates(folder) if weights is None else [weights]
    )


def verification(lfw: Table, pairs: Sequence[tuple[str, str, bool]], in_pairs: Sequence[str]) -> Figures:
    """Return LFW's accuracy on the official pairs, and true accept rates over all pairs of their pictures."""
    accuracy = lfw_accuracy(lfw, pairs)
    tars = tars_at_fars(stacked(lfw, in_pairs), people(in_pairs), FARS)
    return {
        "lfw_accuracy": accuracy["mean"],
        "lfw_std": accuracy["std"],
        **{f"tar_at_far_{name(far)}": tar for far, tar in zip(FARS, tars, strict=True)},
    }


def identification(lfw: Vectors, lfw_person: Labels, val: Vectors, val_person: Labels) -> Figures:
    """Return figures of closed and open search among the validation people, and LFW's people with many pictures."""
    on_val = {**closed_set(val, val_person), **open_set(val, val_person)}
    on_lfw = {**closed_set(lfw, lfw_person, MANY_PICTURES), **open_set(lfw, lfw_person, MANY_PICTURES)}
    tars = tars_at_fars(val, val_person, FARS)
    return {
        **{f"{key}_val": value for key, value in on_val.items() if not key.startswith("tpir")},
        **{key: value for key, value in on_val.items() if key.startswith("tpir")},
        **{f"val_tar_at_far_{name(far)}": tar for far, tar in zip(FARS, tars, strict=True)},
        **{f"{key}_lfw": value for key, value in on_lfw.items()},
    }


def lfw_accuracy(vectors: Table, pairs: Sequence[tuple[str, str, bool]]) -> dict[str, float]:
    """Return LFW's accuracy: mean and standard deviation over ten folds, shares of 1."""
    scores = np.array([vectors[a] @ vectors[b] for a, b, _ in pairs], np.float64)
    return ten_fold(scores, np.array([same for _, _, same in pairs]))


def people(keys: Iterable[str]) -> Labels:
    """Return (N,) person numbers of LFW pictures: `Some_Name_0001` shows Some_Name."""
    return np.unique([key.rpartition("_")[0] for key in keys], return_inverse=True)[1]


def of_many(keys: Sequence[str]) -> list[str]:
    """Return the LFW pictures of people with at least `MANY_PICTURES` pictures."""
    person = people(keys)
    enough = np.isin(person, people_with(person, MANY_PICTURES))
    return [key for key, kept in zip(keys, enough, strict=True) if kept]


def val_people(folder: Path, first: int | None = None) -> tuple[list[str], Labels]:
    """Return keys and people of the validation pictures, in file order; `first`: only of the first people."""
    identity, keys = data.identities(folder), data.keys(folder, "val")
    wanted = set(sorted({identity[key] for key in keys})[:first])
    keys = [key for key in keys if identity[key] in wanted]
    return keys, np.array([identity[key] for key in keys], np.intp)


def stacked(table: Table, keys: Sequence[str]) -> Vectors:
    """Return the embeddings of these keys, (N, D)."""
    return np.stack([table[key] for key in keys])


def compare_exports(fp32: onnx.ModelProto, entry_file: Path, folder: Path) -> Figures:
    """Return agreement and times of float32, int8 ONNX and TFLite on crops of validation people, without a cache."""
    entry = listed(entry_file)
    if entry is None:
        raise data.DataError(f"{entry_file}: not in the manifest beside it", "run `make model` first")
    subjects: dict[str, Subject] = {"fp32": Exported(fp32.SerializeToString(deterministic=True))}
    subjects |= {f"int8 {backend}": Shipped(entry, backend, entry_file.parent) for backend in BACKENDS}
    keys, person = val_people(folder, VAL_PEOPLE)
    vectors = {n: stacked(embed_split(s, folder, "val", keys), keys) for n, s in subjects.items()}
    crop = next(data.crops(folder, "val", keys[:1]))[1]
    return {
        "people": len(np.unique(person)),
        "tar_at_far_1e-3": {n: tar_at_far(v, person, 1e-3) for n, v in vectors.items()},
        "cosine": cosines(vectors),
        "latency_ms": {n: latency_ms(s.open(), crop) for n, s in subjects.items()},
        "size_bytes": {b: entry.files[b].locate(entry_file.parent).stat().st_size for b in BACKENDS},
    }
