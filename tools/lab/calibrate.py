"""Thresholds of one model, by group: python -m tools.lab.calibrate --data DIR --model NAME.

The command embeds the validation crops and their mirror images with the runtime's embedder, gray or in colour as the
model reads them. It forms encounters from the embeddings and decides each encounter against every other person, with 1,
2, 4, 8 and 12 templates. It repeats this within each group of people, with one template and one picture. It writes
tables and counts to `edge/models/NAME-calibration.json`, no score and no embedding. LFW is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.identity.calibration import Calibration
from edge.identity.cohort import Cohort
from edge.models.manifest import MANIFEST, load_manifest
from edge.processes.gallery import load_cohort
from tools.lab import data
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Shipped, Subject
from tools.lab.evaluate import stacked
from tools.lab.figures import Labels
from tools.lab.grouped import FEWEST, people, prepare, trials
from tools.lab.kinds import GRAY, Kind, kind_of
from tools.lab.populations import groups
from tools.lab.thresholds import SHOT_COUNTS, TEMPLATE_COUNTS, Trials
from tools.lab.thresholds import calibrate as compute
from tools.lab.visits import FIRST, LAST, Faces, running

_SEED = 20_240_229


def calibrate(data_dir: Path, model_name: str, manifest: Path = MANIFEST) -> dict[str, Any]:
    """Write `<model_name>-calibration.json` beside the manifest, from the crops under `data_dir`."""
    started_s = time.monotonic()
    entry = load_manifest(manifest).embedder(model_name)
    kind = kind_of(entry)
    network, cohort = Shipped(entry, "onnxruntime", manifest.parent), load_cohort(entry, manifest.parent)
    _, faces = embedded(network, data_dir, kind=kind)
    by_group = strangers(network, kind, data_dir, cohort)
    embedded_s = time.monotonic()
    rng = np.random.default_rng(_SEED)
    calibration = compute(
        [draw(faces, k, rng, cohort) for k in TEMPLATE_COUNTS],
        model=entry.id,
        cohort=cohort.digest,
        faces=kind.faces,
        groups=by_group,
        decided=(FIRST, LAST),
        rng=rng,
    )
    (manifest.parent / f"{model_name}-calibration.json").write_bytes(calibration.encode())
    return {
        "model": model_name,
        "faces": len(faces.person),
        "people": len(np.unique(faces.person)),
        "groups": len(by_group),
        "embed_s": round(embedded_s - started_s, 1),
        "calibrate_s": round(time.monotonic() - embedded_s, 1),
        "table": table(calibration),
    }


def cosine_thresholds(network: Shipped, folder: Path) -> Calibration:
    """Return thresholds for cosines without normalisation, from the validation people alone, for comparison."""
    kind = kind_of(network.entry)
    _, faces = embedded(network, folder, kind=kind)
    rng = np.random.default_rng(_SEED)
    drawn = [draw(faces, k, rng) for k in TEMPLATE_COUNTS]
    return compute(drawn, model=network.entry.id, cohort="", faces=kind.faces, decided=(FIRST, LAST), rng=rng)


def strangers(network: Subject, kind: Kind, folder: Path, cohort: Cohort) -> dict[str, Trials]:
    """Return group → trials within it, for every group with enough people in the calibration part."""
    chosen = groups(kind.populations(folder), "calibration")
    prepare(network, folder, chosen)
    found = {}
    for population in chosen:
        group = people(network, folder, population)
        if group.count >= FEWEST:
            found[group.name] = trials(group, cohort)
    return found


def embedded(network: Subject, folder: Path, cache: Path | None = CACHE, kind: Kind = GRAY) -> tuple[list[str], Faces]:
    """Return keys and embeddings of all validation crops, in file order."""
    keys, person = kind.validation(folder)
    plain, mirrored = (
        stacked(embed_split(network, folder, kind.validation_split, keys, mirrored=way, cache=cache), keys)
        for way in (False, True)
    )
    return keys, Faces(plain, mirrored, person)


def draw(faces: Faces, templates: int, rng: np.random.Generator, cohort: Cohort | None = None) -> Trials:
    """Draw `templates` templates of each person with more pictures; score all encounters against these people."""
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
    scores, shot_norms = running(faces.seen(members), mean / norms[:, None], cohort)
    return Trials(
        scores=scores,
        shot_norms=shot_norms,
        probes=faces.person[members[:, 0]],
        gallery=np.array(gallery, np.intp),
        norms=norms,
        held_out=np.asarray(held_out[members].all(axis=1), np.bool_),
        templates=templates,
    )


def encounters(labels: Labels, held_out: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return encounters (N, LAST): each row holds indices of one person's pictures in the order seen.

    One encounter begins with each picture. Its other pictures are drawn from the person's pictures that are no
    templates, where these suffice. People with fewer than LAST pictures have no encounter.
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


def table(calibration: Calibration) -> list[dict[str, float]]:
    """Return one flat record per number of templates and rate."""
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
    print(json.dumps(calibrate(arguments.data, arguments.model)))


if __name__ == "__main__":
    main()
