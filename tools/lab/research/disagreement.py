"""Measure how often enrolment detects pictures of two people, and how often it wrongly suspects two people.

Sets of pictures are drawn from the validation people, with templates as the runtime makes them. As at enrolment, single
deviating pictures are refused first (`agreeing`), then the rest is tested for two groups (`halves`). A set counts as
detected where either step reports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.identity.enrolment import agreeing, halves
from edge.models.manifest import MANIFEST, load_manifest
from tools.lab.calibrate import embedded
from tools.lab.engines import Shipped
from tools.lab.figures import Vectors
from tools.lab.report import markdown, percent
from tools.lab.visits import Faces

PICTURES = (2, 4, 6, 8, 12)
_DRAWS = 400  # sets per row
_SEED = 20_260_131


def measure(model: str, folder: Path) -> dict[str, Any]:
    """Return the counts for an embedder of the manifest, on the crops under `folder`."""
    _, faces = embedded(Shipped(load_manifest().embedder(model), "onnxruntime", MANIFEST.parent), folder)
    rng = np.random.default_rng(_SEED)
    return {"model": model, "draws": _DRAWS, "rows": [counted(faces, n, _DRAWS, rng) for n in PICTURES]}


def counted(faces: Faces, pictures: int, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the detected shares of sets of `pictures`: of one person, and of two people in equal parts."""
    own = [np.flatnonzero(faces.person == person) for person in np.unique(faces.person)]
    own = [members for members in own if len(members) >= pictures]
    one, two = [], []
    for _ in range(draws):
        first, second = (own[i] for i in rng.choice(len(own), 2, replace=False))
        one.append(said(faces.templates[rng.choice(first, pictures, replace=False)]))
        half = [rng.choice(members, pictures // 2, replace=False) for members in (first, second)]
        two.append(said(faces.templates[np.concatenate(half)]))
    return {
        "pictures": pictures,
        "people": len(own),
        "halves_of_one": one.count("halves") / draws,
        "halves_of_two": two.count("halves") / draws,
        "some_refused_of_one": one.count("refused") / draws,
        "some_refused_of_two": two.count("refused") / draws,
    }


def said(vectors: Vectors) -> str:
    """Return the result for a set of (M, D) templates: "halves", "refused" for single pictures, or ""."""
    same = agreeing(vectors)
    if halves(vectors[same]) is not None:
        return "halves"
    return "refused" if len(same) < len(vectors) else ""


def table(figures: dict[str, Any]) -> str:
    """Return the counts as a Markdown table."""
    heads = ["pictures", "of one person: halves", "of two: halves", "of one: single ones", "of two: single ones"]
    keys = ("halves_of_one", "halves_of_two", "some_refused_of_one", "some_refused_of_two")
    rows = [[str(row["pictures"]), *(percent(row[key]) for key in keys)] for row in figures["rows"]]
    return markdown(heads, rows)
