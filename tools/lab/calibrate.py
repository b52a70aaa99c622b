"""Thresholds of one model from the validation people: python -m tools.lab.calibrate --data DIR --model NAME.

Embeds the validation crops with the runtime's own model, as they are and mirrored, makes encounters of them, decides
each against every other person with 1, 2, 4, 8 and 12 templates, and writes `edge/models/NAME-calibration.json`: tables
and counts, no score and no embedding. Prints one JSON object with what the thresholds cost. LFW is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.config import RecognitionConfig
from edge.errors import ModelError
from edge.identity.calibration import Calibration
from edge.models.manifest import EmbedderEntry, load_manifest
from tools.lab import data
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Shipped, Subject
from tools.lab.evaluate import stacked, val_people
from tools.lab.figures import Labels, Vectors, unit
from tools.lab.thresholds import SHOT_COUNTS, TEMPLATE_COUNTS, Cohort
from tools.lab.thresholds import calibrate as compute

MODELS = Path(__file__).parents[2] / "edge/models"
COHORT = (
    "validation split (CelebA): templates of a person drawn at random, encounters are of all other people's pictures"
)
FIRST, LAST = RecognitionConfig().min_embeddings, RecognitionConfig().max_embeddings  # running means that decide
_SEED = 20_240_229


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Embeddings of pictures as they are and mirrored."""

    plain: Vectors  # (N, D) float32, unit rows
    mirrored: Vectors  # (N, D)
    person: Labels  # (N,) who is on each

    @property
    def templates(self) -> Vectors:
        """(N, D) unit rows: what an enrolment makes of each picture, looked at both ways."""
        return unit(self.plain + self.mirrored)

    def seen(self, members: NDArray[np.intp]) -> NDArray[np.float32]:
        """(E, J, D): the embeddings of encounters (E, J) of pictures, every second one mirrored."""
        every_second = (np.arange(members.shape[1]) % 2 == 1)[None, :, None]
        return np.where(every_second, self.mirrored[members], self.plain[members])

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Faces:
        """Return some of the pictures."""
        return Faces(self.plain[chosen], self.mirrored[chosen], self.person[chosen])


def calibrate(data_dir: Path, model_name: str) -> None:
    """Write `edge/models/<model_name>-calibration.json` from the validation crops under `data_dir`."""
    started_s = time.monotonic()
    entry = load_manifest().embedder(model_name)
    check_geometry(entry)
    _, faces = embedded(Shipped(entry, "onnxruntime", MODELS), data_dir)
    embedded_s = time.monotonic()
    rng = np.random.default_rng(_SEED)
    cohorts = [draw(faces, k, rng) for k in TEMPLATE_COUNTS]
    calibration = compute(cohorts, model=entry.id, cohort=COHORT, decided=(FIRST, LAST), rng=rng)
    (MODELS / f"{model_name}-calibration.json").write_bytes(calibration.encode())
    report = {
        "model": model_name,
        "faces": len(faces.person),
        "people": len(np.unique(faces.person)),
        "embed_s": round(embedded_s - started_s, 1),
        "calibrate_s": round(time.monotonic() - embedded_s, 1),
        "table": table(calibration),
    }
    print(json.dumps(report))


def check_geometry(entry: EmbedderEntry) -> None:
    """Raise ModelError for a model that reads another kind of picture than the validation crops."""
    if (entry.contract.size_px, entry.contract.channels) != (128, 1):
        raise ModelError(
            "the validation crops are 128×128 gray, this model reads another kind",
            "calibrate it on pictures aligned for it, with tools.lab.thresholds.calibrate",
        )


def embedded(network: Subject, folder: Path, cache: Path | None = CACHE) -> tuple[list[str], Faces]:
    """Return keys and embeddings of all validation crops, in file order."""
    keys, person = val_people(folder)
    plain, mirrored = (
        stacked(embed_split(network, folder, "val", keys, mirrored=way, cache=cache), keys) for way in (False, True)
    )
    return keys, Faces(plain, mirrored, person)


def draw(faces: Faces, templates: int, rng: np.random.Generator) -> Cohort:
    """Draw `templates` pictures of each person who has more, and score encounters of everybody against these people."""
    means, gallery, held_out = [], [], np.ones(len(faces.person), bool)
    vectors = faces.templates
    for person in np.unique(faces.person):
        pictures = np.flatnonzero(faces.person == person)
        if len(pictures) > templates:
            chosen = rng.permutation(pictures)[:templates]
            held_out[chosen] = False
            means.append(vectors[chosen].mean(axis=0))
            gallery.append(person)
    mean = np.stack(means)  # (G, D)
    norms = np.linalg.norm(mean, axis=1)
    members = encounters(faces.person, held_out, rng)
    scores, shot_norms = running(faces.seen(members), mean / norms[:, None])
    return Cohort(
        scores=scores,
        shot_norms=shot_norms,
        probes=faces.person[members[:, 0]],
        gallery=np.array(gallery, np.intp),
        norms=norms,
        held_out=np.asarray(held_out[members].all(axis=1), np.bool_),
        templates=templates,
    )


def encounters(labels: Labels, held_out: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return (N, LAST): pictures of one person in the order seen, one encounter that begins with each picture.

    The others are drawn from the person's pictures that are no templates, if there are enough. People with fewer than
    LAST pictures have none.
    """
    members = []
    for person in np.unique(labels):
        own = np.flatnonzero(labels == person)
        rest = own[held_out[own]]
        for first in own if len(own) >= LAST else ():
            pool = rest if held_out[first] and len(rest) >= LAST else own
            others = rng.permutation(pool[pool != first])[: LAST - 1]
            members.append(np.concatenate([[first], others]))
    return np.stack(members)


def running(shots: NDArray[np.float32], directions: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scores (J, N, G) and norms (J, N) of the running means of encounters (N, J, D) against people (G, D)."""
    counts = np.arange(1, shots.shape[1] + 1, dtype=np.float32)
    means = np.moveaxis(np.cumsum(shots, axis=1, dtype=np.float32) / counts[:, None], 1, 0)  # (J, N, D)
    norms = np.linalg.norm(means, axis=2)
    return (means / norms[:, :, None]) @ directions.T, norms


def table(calibration: Calibration) -> list[dict[str, float]]:
    """Return one flat record for each number of templates and rate."""
    return [
        {
            "templates": row.templates,
            "norm": row.norm,
            "fmr": level.fmr,
            **{f"threshold_{shots}": t for shots, t in zip(SHOT_COUNTS, level.thresholds, strict=True)},
            "errors": level.errors,
            "upper": level.upper,
            "upper_binomial": level.upper_binomial,
            "tar": level.tar,
        }
        for row in calibration.rows
        for level in row.levels
    ]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT, help="folder of the aligned face crops")
    parser.add_argument("--model", default="lightcnn9", help="a model of edge/models")
    arguments = parser.parse_args()
    calibrate(arguments.data, arguments.model)


if __name__ == "__main__":
    main()
