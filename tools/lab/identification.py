"""Identification: closed-set and open-set search among people with several templates each.

The protocol follows the body-worn-camera studies. A person is enrolled with 12 templates, drawn at random in `DRAWS`
repetitions. All other pictures of the person are probes. A probe's score is its mean cosine to the templates. The
device uses the cosine to the mean template instead: these figures are called `matched`, and the open-set search uses
only them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.lab.figures import Labels, Vectors

TEMPLATES = 12
RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-3)
DRAWS = 10  # repetitions with other templates and another enrolled half


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Scores of probes against everybody enrolled."""

    scores: NDArray[np.float32]  # (P, G) similarity to the person's templates
    gallery: Labels  # (G,)
    probes: Labels  # (P,) person of each probe, enrolled or not

    @property
    def mated(self) -> NDArray[np.bool_]:
        """(P,) whether the probe's person is enrolled."""
        return np.isin(self.probes, self.gallery)


def search(
    vectors: Vectors, person: Labels, enrolled: Labels, templates: int, rng: np.random.Generator
) -> tuple[Search, Search]:
    """Enrol the `enrolled` people with `templates` random pictures each; all other pictures are probes.

    Returns the search by mean cosine, and the search by cosine to the mean template.
    """
    means, rest = [], np.ones(len(person), bool)
    for who in enrolled:
        chosen = rng.permutation(np.flatnonzero(person == who))[:templates]
        rest[chosen] = False
        means.append(vectors[chosen].mean(axis=0))
    mean = np.stack(means)
    similarity = vectors[rest] @ mean.T
    cosine = similarity / np.linalg.norm(mean, axis=1)
    return Search(similarity, enrolled, person[rest]), Search(cosine, enrolled, person[rest])


def people_with(person: Labels, pictures: int) -> Labels:
    """Return the people with at least this many pictures."""
    labels, counts = np.unique(person, return_counts=True)
    return labels[counts >= pictures]


def closed_set(vectors: Vectors, person: Labels, at_least: int = TEMPLATES + 1) -> dict[str, float]:
    """Return the share of probes whose person is among the first 1, 5, 10, where all people are enrolled.

    `rank1_matched` ranks by cosine to the mean template, as the device does. People with fewer than `at_least` pictures
    are left out.
    """
    enrolled = people_with(person, at_least)
    inside = np.isin(person, enrolled)
    rng, rates, probes = np.random.default_rng(0), [], 0
    for _ in range(DRAWS):
        found, matched = search(vectors[inside], person[inside], enrolled, TEMPLATES, rng)
        ranks, probes = ranks_of_mates(found), len(found.probes)
        first = (ranks_of_mates(matched) == 0).mean()
        rates.append([*(float((ranks < r).mean()) for r in RANKS), float(first)])
    return {
        **{f"rank{r}": _rounded(np.mean(rates, axis=0)[i]) for i, r in enumerate(RANKS)},
        "rank1_matched": _rounded(np.mean(rates, axis=0)[-1]),
        "rank1_std": _rounded(np.std(rates, axis=0)[0]),
        "people": len(enrolled),
        "probes": probes,
    }


def open_set(
    vectors: Vectors, person: Labels, at_least: int = TEMPLATES + 1, fpirs: Sequence[float] = FPIRS
) -> dict[str, float]:
    """Return the true positive identification rate (TPIR) at each false positive identification rate (FPIR).

    Scores are cosines to the mean template, as on the device. Each repetition enrols a random half of the people with
    `at_least` pictures; all others are strangers. A hit ranks the right person first, above the threshold that the
    stated share of strangers' searches passes.
    """
    known = people_with(person, at_least)
    rng, rates, strangers = np.random.default_rng(0), [], 0
    for _ in range(DRAWS):
        enrolled = np.sort(rng.permutation(known)[: len(known) // 2])
        _, found = search(vectors, person, enrolled, TEMPLATES, rng)
        rates.append([hit_rate(found, fpir) for fpir in fpirs])
        strangers = int((~found.mated).sum())
    mean, spread = np.mean(rates, axis=0), np.std(rates, axis=0)
    return {
        **{f"tpir_at_fpir_{name(f)}": _rounded(mean[i]) for i, f in enumerate(fpirs)},
        **{f"tpir_at_fpir_{name(f)}_std": _rounded(spread[i]) for i, f in enumerate(fpirs)},
        "enrolled": len(known) // 2,
        "strangers_searches": strangers,
    }


def ranks_of_mates(found: Search) -> NDArray[np.intp]:
    """Return (M,) the number of people that score at least as high as the right one, per probe with enrolled person."""
    mated = found.mated
    scores, column = found.scores[mated], np.searchsorted(found.gallery, found.probes[mated])
    right = scores[np.arange(len(scores)), column]
    return np.asarray((scores >= right[:, None]).sum(axis=1) - 1)


def hit_rate(found: Search, fpir: float) -> float:
    """Return the share of mated searches that find the right person above the threshold for `fpir`."""
    mated, best = found.mated, found.scores.max(axis=1)
    strangers = np.sort(best[~mated])[::-1]
    threshold = strangers[int(fpir * len(strangers))]
    first = ranks_of_mates(found) == 0
    return float((first & (best[mated] > threshold)).mean())


def name(rate: float) -> str:
    """Return a rate as text, as in the names of the figures: 1e-3."""
    return f"{rate:.0e}".replace("e-0", "e-")


def _rounded(x: float) -> float:
    return round(float(x), 4)
