"""Cleaning of labelled faces by detector confidence, distance to the class centre, and class size; proposals of merges.

Labels of web collections have three kinds of errors: the crop shows no face, the crop shows another person, and one
person has two labels. Each step is a function of arrays that returns a mask of kept crops; `clean` applies them in
order. Merges are only proposed: a human decides whether two labels are one person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.lab import data
from tools.lab.evaluate import val_people
from tools.lab.figures import Labels, Vectors
from tools.lab.finder import Finder

CONFIDENCE = 0.75  # lowest detector confidence; the usual value in the literature
FARTHEST = 0.5  # highest cosine distance to the class centre; the usual value in the literature
FEWEST = 3  # lowest number of pictures of a class
# Highest cosine distance of two class centres for a proposed merge. On the labelled crops, the centres of two halves of
# one person's pictures are at most 0.18 apart for 95 % of people. Of 33,000 pairs of people with 8 pictures, two pairs
# are less than 0.3 apart.
NEAREST = 0.3
HELD_OUT = 0.6  # highest cosine to a held-out person's centre; LFW's people were excluded by the same limit
_ROUNDS = 10  # limit of iterations; centres are stable after two or three

Mask = NDArray[np.bool_]  # (N,) which crops are kept


@dataclass(frozen=True, slots=True)
class Merge:
    """Two identities that may be one person."""

    first: int
    second: int
    distance: float  # cosine distance of their centres


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """The kept crops, and the reasons of the dropped ones."""

    kept: Mask
    reason: NDArray[np.str_]  # (N,) empty for kept crops
    merges: tuple[Merge, ...]  # nearest first

    def report(self) -> dict[str, Any]:
        """Return counts and the proposed merges, ready for JSON."""
        why = Counter(str(reason) for reason in self.reason if reason)
        merges = [{"identities": [m.first, m.second], "distance": round(m.distance, 3)} for m in self.merges]
        return {"crops": len(self.kept), "kept": int(self.kept.sum()), "dropped": dict(why), "propose_to_merge": merges}


def confident(confidence: NDArray[np.float32], least: float = CONFIDENCE) -> Mask:
    """Return the mask of crops with at least this detector confidence."""
    return np.asarray(confidence >= least, np.bool_)


def near_centre(vectors: Vectors, identity: Labels, farthest: float = FARTHEST) -> Mask:
    """Return the mask of crops within a cosine distance of their class centre.

    Crops of other people shift a centre. The centre is therefore recomputed from the kept crops until the mask is
    stable. A class of one crop has that crop as its centre.
    """
    kept = np.ones(len(vectors), bool)
    for _ in range(_ROUNDS):
        labels, centre = centres(vectors[kept], identity[kept])
        place = np.minimum(np.searchsorted(labels, identity), len(labels) - 1)
        near: Mask = 1 - np.einsum("nd,nd->n", vectors, centre[place]) <= farthest
        near &= labels[place] == identity  # a class without kept crops has no centre
        if not near.any() or (near == kept).all():
            return near
        kept = near
    return kept


def enough(identity: Labels, kept: Mask, fewest: int = FEWEST) -> Mask:
    """Return the mask of crops whose class has at least `fewest` kept crops."""
    labels, counts = np.unique(identity[kept], return_counts=True)
    return np.asarray(np.isin(identity, labels[counts >= fewest]), np.bool_)


def merges(vectors: Vectors, identity: Labels, nearest: float = NEAREST) -> tuple[Merge, ...]:
    """Return the pairs of identities whose centres are at most `nearest` apart, the closest pair first."""
    labels, centre = centres(vectors, identity)
    distance = 1 - centre @ centre.T
    first, second = np.nonzero(np.triu(distance <= nearest, 1))
    found = [Merge(int(labels[a]), int(labels[b]), float(distance[a, b])) for a, b in zip(first, second, strict=True)]
    return tuple(sorted(found, key=lambda merge: merge.distance))


def strangers(vectors: Vectors, held_out: Vectors, identity: Labels, nearest: float = HELD_OUT) -> Mask:
    """Return the mask of crops (N, D) that resemble no person of the `held_out` crops (M, D) with `identity` (M,).

    Training on people of the evaluation makes its figures too good. Labels cannot exclude these people: most training
    crops have no label, and one person may have two.
    """
    _, centre = centres(held_out, identity)
    return np.asarray((vectors @ centre.T).max(axis=1) <= nearest, np.bool_)


def unlike_validation(folder: Path, teacher: Vectors) -> Mask:
    """Return the mask of crops, with the teacher's embeddings (N, D), that resemble no validation person."""
    keys, person = val_people(folder)
    return strangers(teacher, data.teacher(folder, keys), person)


def clean(vectors: Vectors, identity: Labels, confidence: NDArray[np.float32] | None = None) -> Cleaned:
    """Apply every step in order; a dropped crop gets the reason of the first step that drops it.

    `vectors` (N, D) unit rows of a network better than the one to be trained, `identity` (N,), `confidence` (N,) 0..1,
    None where it was not measured.
    """
    reason = np.full(len(identity), "", "<U32")
    if confidence is not None:
        reason[~confident(confidence)] = "no sure face"
    left = np.flatnonzero(reason == "")
    reason[left[~near_centre(vectors[left], identity[left])]] = "far from the class centre"
    reason[(reason == "") & ~enough(identity, reason == "")] = "class too small"
    kept = reason == ""
    return Cleaned(kept, reason, merges(vectors[kept], identity[kept]) if kept.any() else ())


def centres(vectors: Vectors, identity: Labels) -> tuple[Labels, Vectors]:
    """Return the sorted labels (K,) and the normalised mean vector of each, (K, D)."""
    labels, place = np.unique(identity, return_inverse=True)
    sums = np.zeros((len(labels), vectors.shape[1]), np.float32)
    np.add.at(sums, place, vectors)
    return labels, sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-12))


def clean_split(folder: Path, split: str, *, measured: bool = True) -> tuple[list[str], Cleaned]:
    """Clean the labelled crops of a split with the teacher's embeddings; `measured`: run the detector on each."""
    identity = data.identities(folder)
    keys = [key for key in data.keys(folder, split) if key in identity]
    labels = np.array([identity[key] for key in keys], np.intp)
    confidence = None
    if measured:
        finder = Finder()
        confidence = np.array([finder.confidence(crop) for _, crop in data.stored(folder, split, keys)], np.float32)
    return keys, clean(data.teacher(folder, keys), labels, confidence)
