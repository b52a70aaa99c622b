"""Thresholds of one model from the validation people: python -m tools.lab.calibrate --data DIR --model NAME.

Embeds the validation crops with the runtime's own embedder, scores every face against every other person with
1, 2, 4, 8 and 12 templates, and writes `edge/models/NAME-calibration.json`: tables and counts, no score and no
embedding. Prints one JSON object with what the thresholds cost. LFW is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.identity.calibration import TEMPLATE_COUNTS, Calibration, Cohort
from edge.identity.calibration import calibrate as compute
from edge.records import AlignedFace
from edge.vision.embedder import Embedder, open_embedder
from tools.lab import data

MODELS = Path(__file__).parents[2] / "edge/models"
COHORT = "validation split (CelebA): templates of a person drawn at random, probes are all other people's pictures"
_SEED = 20_240_229
_SHOTS = 3  # pictures averaged into one probe, to see what several embeddings of one track do to the tail

Vectors = NDArray[np.float32]  # (N, D) float32, unit rows
Labels = NDArray[np.intp]  # (N,) the person on each


def calibrate(data_dir: Path, model_name: str) -> None:
    """Write `edge/models/<model_name>-calibration.json` from the validation crops under `data_dir`."""
    started_s = time.monotonic()
    embedder = open_embedder(model_name, "onnxruntime", 1)
    vectors, labels = embed(embedder, data_dir)
    embedded_s = time.monotonic()
    rng = np.random.default_rng(_SEED)
    cohorts = [draw(vectors, labels, k, rng) for k in TEMPLATE_COUNTS]
    calibration = compute(cohorts, model=embedder.model, cohort=COHORT, rng=rng)
    (MODELS / f"{model_name}-calibration.json").write_bytes(calibration.encode())
    averaged = [draw(vectors, labels, k, np.random.default_rng(_SEED), shots=_SHOTS) for k in TEMPLATE_COUNTS]
    report = {
        "model": model_name,
        "faces": len(labels),
        "people": len(np.unique(labels)),
        "embed_s": round(embedded_s - started_s, 1),
        "calibrate_s": round(time.monotonic() - embedded_s, 1),
        "table": table(calibration, averaged),
    }
    print(json.dumps(report))


def embed(embedder: Embedder, data_dir: Path) -> tuple[Vectors, Labels]:
    """Return the embeddings and people of all validation crops, in file order.

    Raises ModelError for a model of another geometry: the crops are 128×128 gray, no other kind can be cut from them.
    """
    if (embedder.contract.size_px, embedder.contract.channels) != (128, 1):
        raise ModelError(
            "the validation crops are 128×128 gray, this model reads another kind",
            "calibrate it on pictures aligned for it, with edge.identity.calibration.calibrate",
        )
    person = data.identities(data_dir)
    found = [(embedder.embed(AlignedFace(crop)).vector, person[key]) for key, crop in data.crops(data_dir, "val")]
    vectors, labels = zip(*found, strict=True)
    return np.stack(vectors), np.array(labels, np.intp)


def draw(vectors: Vectors, labels: Labels, templates: int, rng: np.random.Generator, shots: int = 1) -> Cohort:
    """Draw `templates` pictures of each person who has more, and score all pictures against these people.

    With `shots` above 1 the probes are means of that many pictures of one person, none of them a template.
    """
    means, gallery, held_out = [], [], np.ones(len(labels), bool)
    for person in np.unique(labels):
        pictures = np.flatnonzero(labels == person)
        if len(pictures) > templates:
            chosen = rng.permutation(pictures)[:templates]
            held_out[chosen] = False
            means.append(vectors[chosen].mean(axis=0))
            gallery.append(person)
    mean = np.stack(means)  # (G, D)
    if shots > 1:
        vectors, labels = average(vectors[held_out], labels[held_out], shots, rng)
        held_out = np.ones(len(labels), bool)
    return Cohort(
        scores=vectors @ mean.T,
        probes=labels,
        gallery=np.array(gallery, np.intp),
        norms=np.linalg.norm(mean, axis=1),
        held_out=held_out,
        templates=templates,
    )


def average(vectors: Vectors, labels: Labels, shots: int, rng: np.random.Generator) -> tuple[Vectors, Labels]:
    """Return means of `shots` pictures of one person each, drawn without return; leftovers are dropped."""
    groups = []
    for person in np.unique(labels):
        pictures = rng.permutation(np.flatnonzero(labels == person))
        groups += [pictures[i : i + shots] for i in range(0, len(pictures) - shots + 1, shots)]
    members = np.stack(groups)  # (M, shots)
    return vectors[members].mean(axis=1), labels[members[:, 0]]


def table(calibration: Calibration, averaged: Sequence[Cohort]) -> list[dict[str, float]]:
    """Return one flat record a threshold, with what a probe of several shots does at the same threshold."""
    lines = []
    for row, cohort in zip(calibration.rows, averaged, strict=True):
        impostor = cohort.impostor
        for level in row.levels:
            hit = cohort.scores >= level.threshold
            lines.append(
                {
                    "templates": row.templates,
                    "norm": row.norm,
                    "fmr": level.fmr,
                    "threshold": level.threshold,
                    "errors": level.errors,
                    "upper": level.upper,
                    "upper_binomial": level.upper_binomial,
                    "tar": level.tar,
                    f"fmr_of_{_SHOTS}": round(float(hit[impostor].mean()), 7),
                    f"tar_of_{_SHOTS}": round(float(hit[~impostor].mean()), 4),
                }
            )
    return lines


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT, help="folder of the aligned face crops")
    parser.add_argument("--model", default="lightcnn9", help="a model of edge/models")
    arguments = parser.parse_args()
    calibrate(arguments.data, arguments.model)


if __name__ == "__main__":
    main()
