"""Cleaning of labelled faces, as the field does it: confidence, distance to the class centre, size, and merging.

Labels of web collections are wrong in three ways: the crop is no face, it is somebody else's face, and one person goes
by two names. Each step is a function of arrays and says what it would keep; `clean` puts them in order. Merging is only
proposed: whether two names are one person is for a human to say.
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

CONFIDENCE = 0.75  # of the detector, at least: the field's figure
FARTHEST = 0.5  # cosine distance to the class centre: the field's figure
FEWEST = 3  # pictures of a class, at least
# Cosine distance of two centres, at most, to propose that they are one person. On the labelled crops, two halves of one
# person's pictures lie within 0.18 for 95 of 100 people; of 33,000 pairs of people with 8 pictures, two lie within 0.3.
NEAREST = 0.3
HELD_OUT = 0.6  # cosine to a held-out person's centre, at most: the limit by which LFW's people were taken out
_ROUNDS = 10  # a centre moves when its strangers go; it rests after two or three

Mask = NDArray[np.bool_]  # (N,) which crops are kept


@dataclass(frozen=True, slots=True)
class Merge:
    """Two identities that look like one."""

    first: int
    second: int
    distance: float  # cosine distance of their centres


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """What is left, and why the rest is not."""

    kept: Mask
    reason: NDArray[np.str_]  # (N,) empty for what is kept
    merges: tuple[Merge, ...]  # nearest first

    def report(self) -> dict[str, Any]:
        """Return counts, and the merges that are proposed."""
        why = Counter(str(reason) for reason in self.reason if reason)
        merges = [{"identities": [m.first, m.second], "distance": round(m.distance, 3)} for m in self.merges]
        return {"crops": len(self.kept), "kept": int(self.kept.sum()), "dropped": dict(why), "propose_to_merge": merges}


def confident(confidence: NDArray[np.float32], least: float = CONFIDENCE) -> Mask:
    """Return the crops of which the detector is sure."""
    return np.asarray(confidence >= least, np.bool_)


def near_centre(vectors: Vectors, identity: Labels, farthest: float = FARTHEST) -> Mask:
    """Return the crops within a cosine distance of their class centre.

    The centre is that of the crops kept so far, found again until nothing changes: strangers pull it to themselves
    until they are out. A crop that is alone is its own centre.
    """
    kept = np.ones(len(vectors), bool)
    for _ in range(_ROUNDS):
        labels, centre = centres(vectors[kept], identity[kept])
        place = np.minimum(np.searchsorted(labels, identity), len(labels) - 1)
        near: Mask = 1 - np.einsum("nd,nd->n", vectors, centre[place]) <= farthest
        near &= labels[place] == identity  # a class that has lost every crop has no centre
        if not near.any() or (near == kept).all():
            return near
        kept = near
    return kept


def enough(identity: Labels, kept: Mask, fewest: int = FEWEST) -> Mask:
    """Return the crops whose class has enough kept ones."""
    labels, counts = np.unique(identity[kept], return_counts=True)
    return np.asarray(np.isin(identity, labels[counts >= fewest]), np.bool_)


def merges(vectors: Vectors, identity: Labels, nearest: float = NEAREST) -> tuple[Merge, ...]:
    """Return the pairs of identities whose centres are so close that they may be one person, nearest first."""
    labels, centre = centres(vectors, identity)
    distance = 1 - centre @ centre.T
    first, second = np.nonzero(np.triu(distance <= nearest, 1))
    found = [Merge(int(labels[a]), int(labels[b]), float(distance[a, b])) for a, b in zip(first, second, strict=True)]
    return tuple(sorted(found, key=lambda merge: merge.distance))


def strangers(vectors: Vectors, held_out: Vectors, identity: Labels, nearest: float = HELD_OUT) -> Mask:
    """Return the crops (N, D) that resemble no held-out person, (M, D) with their `identity` (M,).

    Training on anybody by whom it is judged makes the judgement too good; labels do not tell, because most training
    crops have none and one person may go by two names.
    """
    _, centre = centres(held_out, identity)
    return np.asarray((vectors @ centre.T).max(axis=1) <= nearest, np.bool_)


def unlike_validation(folder: Path, teacher: Vectors) -> Mask:
    """Return the crops, by the teacher's embeddings (N, D) of them, that are like no validation person."""
    keys, person = val_people(folder)
    return strangers(teacher, data.teacher(folder, keys), person)


def clean(vectors: Vectors, identity: Labels, confidence: NDArray[np.float32] | None = None) -> Cleaned:
    """Apply every step in order: a crop is dropped for the first reason that it gives.

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
    """Return the labels (K,), sorted, and the unit mean of each one's vectors (K, D)."""
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
