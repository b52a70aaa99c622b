"""Measure the false match rate (FMR) of the runtime's sequential rule on encounters of strangers.

The runtime compares the running mean of an encounter's embeddings with everybody enrolled, from the third to the eighth
embedding, and reports the first match. The stated FMR is that of all six comparisons together. The command counts
encounters in which any of the six means reaches the threshold. For comparison it counts those in which the first
picture alone reaches it, and the recognised encounters of enrolled people.

Two kinds of encounters are the extremes of real ones: `unlike` has different pictures of one person; `burst` repeats
one picture with small changes of position, light and blur. The thresholds are the shipped ones, which were calibrated
on the same validation people. Templates are drawn from the first half of a person's pictures, encounters from the
second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.identity.calibration import OperatingPoint
from edge.identity.cohort import Cohort
from edge.processes.gallery import load_calibration, load_cohort
from edge.records import AlignedFace
from tools.lab import data
from tools.lab.calibrate import embedded
from tools.lab.embeddings import CACHE
from tools.lab.engines import Embed, listed, subject
from tools.lab.figures import Labels, Vectors
from tools.lab.report import markdown
from tools.lab.research.augment import contrast, defocus, gamma, low_light, placed, side_light
from tools.lab.thresholds import clustered_upper
from tools.lab.visits import FIRST, LAST, Faces, running

FMRS = (1e-3, 1e-4)
TEMPLATES = (1, 4, 12)
_BURSTS = 4  # per person
_RESAMPLES = 500
_SEED = 20_240_301


@dataclass(frozen=True, slots=True, eq=False)
class Encounters:
    """Encounters: `vectors` (E, LAST, D) unit rows in the order seen, `person` (E,) of each."""

    vectors: NDArray[np.float32]
    person: Labels


def measure(model: Path, folder: Path, cache: Path | None = CACHE) -> dict[str, Any]:
    """Return one record per kind of encounter, number of templates and stated rate."""
    network = subject(model)
    keys, faces = embedded(network, folder, cache)
    entry = listed(model)
    if entry is None:
        raise ModelError(f"{model}: no manifest beside it lists this file", "name a model of edge/models")
    cohort, shipped = load_cohort(entry, model.parent), load_calibration(entry, model.parent)
    rng = np.random.default_rng(_SEED)
    enrolling, seen = halves(faces.person, rng)
    templates, others = faces.of(enrolling), faces.of(seen)
    kinds = {
        "unlike": unlike(others, rng),
        "burst": bursts(network.open(), folder, [keys[i] for i in seen], others.person, rng),
    }
    rows: list[dict[str, Any]] = []
    for k in TEMPLATES:
        gallery, means = enrol(templates.templates, templates.person, k, rng)
        rows += [
            {"encounters": kind, "templates": k, **rates(encounters, gallery, means, shipped.at(fmr), cohort)}
            for kind, encounters in kinds.items()
            for fmr in FMRS
        ]
    return {"model": network.digest, "first": FIRST, "last": LAST, "rows": rows}


def halves(person: Labels, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the pictures for templates and for encounters: a half of each person's pictures each."""
    order = rng.permutation(len(person))
    order = order[np.argsort(person[order], kind="stable")]
    labels, starts = np.unique(person[order], return_index=True)
    place = np.arange(len(person)) - starts[np.searchsorted(labels, person[order])]  # within the person's pictures
    return order[place % 2 == 0], order[place % 2 == 1]


def enrol(vectors: Vectors, person: Labels, templates: int, rng: np.random.Generator) -> tuple[Labels, Vectors]:
    """Return the people with enough pictures, and the mean of their randomly drawn templates: (G,), (G, D)."""
    labels, counts = np.unique(person, return_counts=True)
    gallery = labels[counts >= templates]
    chosen = [rng.permutation(np.flatnonzero(person == who))[:templates] for who in gallery]
    return gallery, np.stack([vectors[c].mean(axis=0) for c in chosen])


def unlike(faces: Faces, rng: np.random.Generator) -> Encounters:
    """Return all encounters of LAST different pictures each."""
    groups = []
    for who in np.unique(faces.person):
        pictures = rng.permutation(np.flatnonzero(faces.person == who))
        groups += [pictures[i : i + LAST] for i in range(0, len(pictures) - LAST + 1, LAST)]
    members = np.stack(groups)
    return Encounters(faces.seen(members), faces.person[members[:, 0]])


def bursts(embed: Embed, folder: Path, keys: list[str], person: Labels, rng: np.random.Generator) -> Encounters:
    """Return encounters of one picture each, seen LAST times."""
    chosen = np.concatenate([rng.permutation(np.flatnonzero(person == who))[:_BURSTS] for who in np.unique(person)])
    stored = dict(data.stored(folder, "val", [keys[i] for i in chosen]))
    seen = [[embed(_turned(glimpse(stored[keys[i]], rng), shot)) for shot in range(LAST)] for i in chosen]
    return Encounters(np.array(seen, np.float32), person[chosen])


def _turned(crop: data.Crop, shot: int) -> data.Crop:
    """Return the crop, mirrored in every second look."""
    return AlignedFace(crop).mirrored.pixels if shot % 2 else crop


def glimpse(stored: NDArray[np.uint8], rng: np.random.Generator) -> data.Crop:
    """Return (128, 128) uint8: a crop with small random changes of position, light and blur."""
    shift = (rng.uniform(-3, 3), rng.uniform(-3, 3))
    x = placed(stored, rng.uniform(-0.06, 0.06), 1 + rng.uniform(-0.05, 0.05), shift, flip=False)
    x = side_light(x, rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3))
    x = contrast(gamma(x, rng.uniform(0.85, 1.15)), rng.uniform(0.9, 1.1), rng.uniform(-0.05, 0.05))
    x = low_light(defocus(x, rng.uniform(0.3, 1.2)), rng.uniform(0.2, 1.0), 0.02, rng)
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)


def rates(
    encounters: Encounters, gallery: Labels, means: Vectors, point: OperatingPoint, cohort: Cohort | None
) -> dict[str, float]:
    """Return the match rates of pairs (encounter, enrolled person), for strangers and for the enrolled person.

    Strangers: at the first picture, and at any deciding mean. Enrolled people: at any deciding mean.
    """
    norms = np.linalg.norm(means, axis=1)
    scores, shot_norms = running(encounters.vectors, means / norms[:, None], cohort)  # (LAST, E, G), (LAST, E)
    likely, _ = point.of_people(norms)
    hits = np.stack([s >= point.shares(n) @ likely for s, n in zip(scores, shot_norms, strict=True)])
    impostor: NDArray[np.bool_] = np.not_equal.outer(encounters.person, gallery)
    every: NDArray[np.bool_] = np.asarray(hits[FIRST - 1 :].any(axis=0))
    return {
        "fmr": point.fmr,
        "comparisons": int(impostor.sum()),
        "first_picture": _rounded(hits[0][impostor].mean()),
        "any_mean": _rounded(every[impostor].mean()),
        "any_mean_upper": _rounded(_upper(every & impostor, impostor, encounters.person, gallery)),
        "recognised": _rounded(every[~impostor].mean()) if not impostor.all() else 0.0,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the records as Markdown."""
    head = ["Encounter", "templates", "stated FMR", "first picture", f"any mean of {FIRST} to {LAST}", "its upper 95 %"]
    head.append("recognised")
    rows = [
        [row["encounters"], str(row["templates"])]
        + [_spelled(row[name]) for name in ("fmr", "first_picture", "any_mean", "any_mean_upper")]
        + [f"{row['recognised']:.1%}"]
        for row in figures["rows"]
    ]
    return markdown(head, rows)


def _upper(errors: NDArray[np.bool_], tried: NDArray[np.bool_], probe: Labels, gallery: Labels) -> float:
    """Return the upper bound of the rate by the bootstrap over people."""
    labels = np.union1d(probe, gallery)
    row, column = np.searchsorted(labels, probe), np.searchsorted(labels, gallery)
    counts = []
    for hits in (errors, tried):
        cells = np.zeros((len(labels), len(labels)))
        np.add.at(cells, (row[:, None], column[None, :]), hits)
        counts.append(cells)
    rng = np.random.default_rng(_SEED)
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), _RESAMPLES).astype(np.float64)
    return clustered_upper(counts[0], counts[1], weights)


def _spelled(x: float) -> str:
    return f"{x:.1e}".replace("e-0", "e-")


def _rounded(x: float) -> float:
    return float(f"{float(x):.3g}")
