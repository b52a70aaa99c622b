"""Compare strangers within a group as the device does: one enrolled picture, one visit.

Most sets have one picture per person. A visit is therefore simulated by one picture and its mirror image in turns; the
running means of three to eight looks decide. A template is the mean of a picture and its mirror image. Visit and
template are of different people. The measured rate is that of a stranger who does not move. The looks of a moving
stranger differ and hold more evidence; docs/adr/0016-normalised-scores.md shows how the rate changes with them.

Pairs that may show one person under two labels are excluded by the teacher's cosine. For different people it is below
about 0.55 (children under ten: 0.7), for one person above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.identity.cohort import Cohort
from tools.lab.embeddings import CACHE, embed_split
from tools.lab.engines import Subject
from tools.lab.figures import Vectors
from tools.lab.judge import judged
from tools.lab.kinds import Kind
from tools.lab.populations import Picture, Population
from tools.lab.thresholds import Trials
from tools.lab.visits import LAST, Faces, running

VALIDATION = "CelebA, validation"
FEWEST = 100  # lowest number of people of a group with a claimed rate
DOUBTFUL, DOUBTFUL_CHILDREN = 0.55, 0.7  # teacher cosine above which two crops may show one person


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """The people of a group, embedded."""

    name: str
    faces: Faces
    judged: Vectors  # (N, D) the teacher's embeddings
    doubtful: float  # teacher cosine

    @property
    def count(self) -> int:
        """Return the number of people."""
        return len(np.unique(self.faces.person))


def embedded(
    network: Subject, folder: Path, pictures: Sequence[Picture], *, mirrored: bool, cache: Path | None = CACHE
) -> Vectors:
    """Return the embeddings of these pictures of one split, (N, D)."""
    (split,) = {picture.split for picture in pictures}
    keys = [picture.key for picture in pictures]
    table = embed_split(network, folder, split, keys, mirrored=mirrored, cache=cache)
    return np.stack([table[key] for key in keys])


def prepare(
    network: Subject, folder: Path, groups: Sequence[Population], *, mirrored: bool = True, cache: Path | None = CACHE
) -> None:
    """Fill the cache with the embeddings of all pictures of the groups, in several processes."""
    for split in sorted({picture.split for group in groups for picture in group.pictures}):
        keys = list(dict.fromkeys(p.key for group in groups for p in group.pictures if p.split == split))
        for way in (False, True) if mirrored else (False,):
            embed_split(network, folder, split, keys, mirrored=way, cache=cache)


def people(network: Subject, folder: Path, group: Population, cache: Path | None = CACHE) -> People:
    """Return a group with the embeddings of model and teacher."""
    plain, mirrored = (embedded(network, folder, group.pictures, mirrored=way, cache=cache) for way in (False, True))
    labels = {person: i for i, person in enumerate(dict.fromkeys(p.person for p in group.pictures))}
    person = np.array([labels[p.person] for p in group.pictures], np.intp)
    keys = [picture.key for picture in group.pictures]
    return People(
        group.name,
        Faces(plain, mirrored, person),
        judged(folder, group.pictures[0].split, keys, cache),
        DOUBTFUL_CHILDREN if group.children else DOUBTFUL,
    )


def validation(kind: Kind, folder: Path, most: int) -> Population:
    """Return the validation people with at most `most` pictures each."""
    keys, person = kind.validation(folder)
    chosen: dict[int, list[Picture]] = {}
    for key, who in zip(keys, person.tolist(), strict=True):
        chosen.setdefault(who, []).append(Picture(kind.validation_split, key, str(who)))
    return Population(VALIDATION, tuple(p for own in chosen.values() for p in own[:most]), children=False)


def trials(group: People, cohort: Cohort | None) -> Trials:
    """Return trials: the one-picture visit of every person against the one-picture template of every person."""
    faces = group.faces
    first = np.unique(faces.person, return_index=True)[1]  # each person is enrolled with the first picture
    members = np.repeat(np.arange(len(faces.person))[:, None], LAST, axis=1)
    templates = faces.templates[first]
    scores, shot_norms = running(faces.seen(members), templates, cohort)
    enrolled: NDArray[np.bool_] = np.isin(np.arange(len(faces.person)), first)
    return Trials(
        scores=scores,
        shot_norms=shot_norms,
        probes=faces.person,
        gallery=faces.person[first],
        norms=np.ones(len(first), np.float32),
        held_out=~enrolled,
        templates=1,
        doubtful=np.asarray(group.judged @ group.judged[first].T >= group.doubtful, np.bool_),
    )
