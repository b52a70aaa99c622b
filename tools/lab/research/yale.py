"""Enrol people in frontal light and recognise them in light from the side, on a set like Extended Yale B.

The set may not be redistributed; users who have it can run `python -m tools.lab yale FOLDER`. The layout has one folder
per person and one picture per light: `yaleB01/yaleB01_P00A+035E-20.pgm` is pose 00, azimuth +35°, elevation −20°. All
other files are left out. Camera and head do not move while the light changes. The face is therefore detected once, in
frontal light, and all pictures of the person are aligned by these landmarks. Detection errors in shadows do not affect
the figures.

Subsets by the angle between light and camera, as in Georghiades, Belhumeur and Kriegman (2001): up to 12°, 25°, 50°,
77° and beyond; 7, 12, 12, 14 and 19 of the 64 lights. Two lights at 51.1° count as the third subset's there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.models.manifest import FaceContract, load_manifest
from edge.records import Frame
from edge.vision.align import Aligner
from tools.lab.data import Crop, DataError
from tools.lab.engines import Embed, subject
from tools.lab.figures import Vectors
from tools.lab.finder import Finder
from tools.lab.identification import Search, ranks_of_mates
from tools.lab.report import markdown, percent

LIMITS_DEG = (12.0, 25.0, 52.0, 77.0, 180.0)
_NAME = re.compile(r"^.+_P00A([+-]\d{3})E([+-]\d{2})\.(?:pgm|png|jpg)$")
_REMEDY = "see the layout at the top of tools/lab/research/yale.py"


@dataclass(frozen=True, slots=True)
class Lit:
    """One picture: person and direction of the light."""

    person: str
    path: Path
    azimuth_deg: int
    elevation_deg: int

    @property
    def angle_deg(self) -> float:
        """Return the angle between the light's direction and the camera's axis."""
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        return round(float(np.degrees(np.arccos(np.cos(azimuth) * np.cos(elevation)))), 6)

    @property
    def subset(self) -> int:
        """Return the subset, 1 (frontal) to 5 (beyond 77°)."""
        return int(np.searchsorted(LIMITS_DEG, self.angle_deg)) + 1


def read(folder: Path) -> list[Lit]:
    """Return every picture of pose 00, by person and name; raises DataError where there is none."""
    found = []
    for path in sorted(folder.glob("*/*")):
        name = _NAME.match(path.name)
        if name is not None:
            found.append(Lit(path.parent.name, path, int(name[1]), int(name[2])))
    if not found:
        raise DataError(f"{folder}: no pictures like yaleB01/yaleB01_P00A+000E+00.pgm", _REMEDY)
    return found


def crops(pictures: list[Lit], contract: FaceContract) -> list[Crop]:
    """Return the aligned faces, each person's by the landmarks found in the frontal light; raises DataError."""
    finder, align = Finder(0.6), Aligner(contract.size_px, contract.template, contract.channels)
    faces = {}
    for picture in pictures:
        if picture.azimuth_deg == picture.elevation_deg == 0:
            face = finder.find(_gray(picture.path))
            if face is None:
                raise DataError(f"{picture.path}: no face is found", "it must show the whole head, 60 px and more")
            faces[picture.person] = face
    missing = sorted({picture.person for picture in pictures} - faces.keys())
    if missing:
        raise DataError(f"no picture in frontal light (A+000E+00) of {', '.join(missing)}", _REMEDY)
    return [align.align(_frame(picture.path), faces[picture.person]).pixels for picture in pictures]


def evaluate(pictures: list[Lit], vectors: Vectors) -> dict[str, Any]:
    """Return rank 1 for each subset. Subset 1 is enrolled; the score is the mean cosine to its pictures.

    A probe of subset 1 is left out of its own person's templates.
    """
    person, subset = np.array([p.person for p in pictures]), np.array([p.subset for p in pictures])
    labels, who = np.unique(person, return_inverse=True)
    gallery = np.arange(len(labels))
    enrolled = subset == 1
    sums = np.stack([vectors[enrolled & (who == g)].sum(axis=0) for g in gallery])
    counts = np.array([(enrolled & (who == g)).sum() for g in gallery])
    scores = vectors @ (sums / counts[:, None]).T
    own = np.flatnonzero(enrolled & (counts[who] > 1))
    judged = ~enrolled | (counts[who] > 1)  # a person's only frontal picture cannot be a probe
    scores[own, who[own]] = np.einsum("nd,nd->n", vectors[own], sums[who[own]] - vectors[own]) / (counts[who[own]] - 1)
    right = ranks_of_mates(Search(scores, gallery, who)) == 0
    rates = {f"rank1_subset{s}": _share(right[judged & (subset == s)]) for s in np.unique(subset[judged]).tolist()}
    return {"people": len(labels), "pictures": len(pictures), **rates}


def measure(folder: Path, model: Path) -> dict[str, Any]:
    """Return the figures of a model of the manifest's LightCNN-9 geometry on a folder."""
    pictures, embed = read(folder), subject(model).open()
    contract = load_manifest().embedder("lightcnn9").contract
    return {"model": subject(model).digest, **evaluate(pictures, embedded(embed, crops(pictures, contract)))}


def embedded(embed: Embed, faces: list[Crop]) -> Vectors:
    """Return the embeddings of aligned faces, (N, D)."""
    return np.stack([embed(face) for face in faces])


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    names = [f"up to {limit:g}°" for limit in LIMITS_DEG[:-1]] + ["beyond"]
    rows = [[f"{i + 1}: {name}", percent(figures.get(f"rank1_subset{i + 1}"))] for i, name in enumerate(names)]
    return markdown(["Light from", f"rank 1 of {figures['people']} people"], rows)


def _share(hits: NDArray[np.bool_]) -> float:
    return round(float(hits.mean()), 4)


def _gray(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: not an image", "fetch it again")
    return np.asarray(image, np.uint8)


def _frame(path: Path) -> Frame:
    return Frame(np.asarray(cv2.cvtColor(_gray(path), cv2.COLOR_GRAY2BGR), np.uint8), 0.0, 0)
