"""1:N matching, open set: the normalised cosine to a person's mean template, a threshold, a margin to the second.

A person with unit templates t₁ … t_k is the direction of their mean m. A probe x is the mean of the embeddings of one
encounter. The score is cos(x, m), normalised by what is usual for x and for m among a cohort of nobody (`cohort`). The
norms of the two means say how much they know, and the threshold follows both (`calibration`). All directions lie in one
matrix: a match is one product with the cohort and one with that matrix, whatever the number of templates. A score is
worth how far it is above the person's threshold, so a person with one template competes with one of twelve.

A probe is a person when the score reaches that person's threshold and is worth more than the second person's by the
margin. Higher is stricter, for both. Nothing here does I/O, and nothing is remembered between probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError, StoreError
from edge.identity.memory import private_array
from edge.records import Band, Embedding, Match

_NORM_TOLERANCE = 1e-3  # float32 unit vectors are nearer to 1 than this
_SMALLEST_NORM = np.float32(1e-6)


class Gallery(Protocol):
    """The enrolled people. A person is an index into `ids`; each has one template or more."""

    @property
    def templates(self) -> NDArray[np.float32]:
        """(N, D) float32, unit rows, in the space that `rotate` leads to."""

    @property
    def owner(self) -> NDArray[np.intp]:
        """(N,) the person of each template."""

    @property
    def ids(self) -> Sequence[str]:
        """P opaque ids."""

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """(P,) whether the person must neither match nor be reported."""

    @property
    def statistics(self) -> NDArray[np.float32] | None:
        """(P, 2) of the people's mean templates, from the cohort in use; None: the matcher computes them."""

    def rotate(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry embeddings into the space of the templates; linear, keeps inner products."""


class Normalisation(Protocol):
    """What is usual for a face (`cohort.Cohort`)."""

    def statistics(self, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2) of (N, D) unit rows."""

    def turned(self, rotate: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Normalisation:
        """Return the same in the space that `rotate` leads to: rotated templates have the statistics of plain ones."""

    def normalised(
        self, cosines: NDArray[np.float32], probe: NDArray[np.float32], templates: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(P,) scores of (P,) cosines, given the statistics (2,) of the probe and (P, 2) of the templates."""


class Thresholds(Protocol):
    """What score a person needs (`calibration.OperatingPoint`)."""

    @property
    def model(self) -> str:
        """SHA-256 of the model whose scores these are."""

    def of_people(self, norms: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(likely, certain) of people whose mean templates have these norms, each (S, P); certain ≥ likely."""

    def shares(self, probe_norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, S): weights that turn these into the thresholds for probes of these norms."""


class Matcher:
    """Find the nearest person of a gallery.

    `margin` is how much more the best score must be worth than the second person's, on the scale of a cosine. An
    ignored person competes like any other: who wins is flagged `ignored`. Where others are closer to the best than the
    margin, the face is somebody known, and the others are the match's `rivals`:

    - an ignored one of them reaches that person's threshold: the match is that person, flagged, for it may be theirs;
    - their templates are alike (one person enrolled twice, twins): the match is the nearest, in the band `likely`;
    - otherwise the match has rivals and no person: it is not clear who of them it is.

    Raises StoreError where the gallery is malformed.
    """

    def __init__(self, gallery: Gallery, thresholds: Thresholds, usual: Normalisation, margin: float) -> None:
        if not margin >= 0:
            raise ValueError(f"margin {margin}: must be 0 or more")
        self._directions, self._norms = _mean_templates(gallery)  # (P, D) float32 unit rows, (P,)
        self._thresholds, self._likely = thresholds, thresholds.of_people(self._norms)[0]  # (S, P)
        self._ids, self._ignored, self._rotate = tuple(gallery.ids), gallery.ignored, gallery.rotate
        self._margin, self._usual = float(margin), usual
        known = gallery.statistics
        self._statistics = (
            usual.turned(gallery.rotate).statistics(self._directions) if known is None else known
        )  # (P, 2)

    def match(self, probe: NDArray[np.float32]) -> Match:
        """Return the nearest person and whether it is near enough; with nobody enrolled every face is unknown.

        `probe` is (D,) float32: a unit embedding, or the mean of several of one face. Raises ModelError where it is
        of another length, not finite, zero, or longer than a mean of unit vectors can be.
        """
        norm = self._checked_norm(probe)
        if not self._ids:
            return Match(None, None, score=-1.0, threshold=float("inf"), margin=float("inf"))
        scores, likely = self._scores(probe, norm)
        worth = scores - likely  # (P,)
        best = int(np.argmax(worth))
        winner, rivals = (best, self._rivals(worth, best)) if worth[best] >= 0 else (None, ())
        if rivals:
            silent = [person for person in (best, *rivals) if self._ignored[person] and worth[person] >= 0]
            if silent:
                winner = silent[0]
            elif not self._are_alike(best, rivals):
                winner = None
        shown = best if winner is None else winner
        band = None if winner is None else self._band(float(scores[winner]), winner, norm)
        return Match(
            person=None if winner is None else self._ids[winner],
            band="likely" if band is not None and rivals else band,
            score=float(scores[shown]),
            threshold=float(likely[shown]),
            margin=_lead(worth, best),
            ignored=winner is not None and bool(self._ignored[winner]),
            rivals=tuple(self._ids[i] for i in (best, *rivals) if rivals and i != winner),
        )

    def _rivals(self, worth: NDArray[np.float32], best: int) -> tuple[int, ...]:
        """Return the people who are closer to the best than the margin, nearest first."""
        near = np.flatnonzero((worth[best] - worth < self._margin) & (np.arange(len(worth)) != best))
        return tuple(int(i) for i in near[np.argsort(-worth[near], kind="stable")])

    def _are_alike(self, person: int, others: Sequence[int]) -> bool:
        """Whether a visit of one person would be taken for each of the others: enrolled twice, twins, look-alikes."""
        cosines = self._directions[list(others)] @ self._directions[person]
        scores = self._usual.normalised(cosines, self._statistics[person], self._statistics[list(others)])
        (needed,) = self._thresholds.shares(self._norms[person : person + 1]) @ self._likely[:, list(others)]
        return bool((scores >= needed).all())

    def alike(self, embeddings: Sequence[Embedding]) -> list[tuple[str, float]]:
        """Return (id, score) of all people whose threshold the mean of these embeddings reaches, nearest first.

        For enrolment: whom would the new person be taken for? Raises ModelError for embeddings of another model.
        """
        for embedding in embeddings:
            if embedding.model != self._thresholds.model:
                raise ModelError(
                    f"an embedding of model {embedding.model[:12]}…, the gallery is of {self._thresholds.model[:12]}…",
                    "embed with the model that [recognition] names",
                )
        probe = np.stack([e.vector for e in embeddings]).mean(axis=0)
        norm = self._checked_norm(probe)
        if not self._ids:
            return []
        scores, likely = self._scores(probe, norm)
        near = np.flatnonzero(scores >= likely)
        return [(self._ids[i], float(scores[i])) for i in near[np.argsort(-scores[near], kind="stable")]]

    def _scores(self, probe: NDArray[np.float32], norm: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return everybody's score for the probe, and the threshold that it must reach, each (P,)."""
        direction = probe / np.float32(norm)
        cosines = self._directions @ self._rotate(direction)
        scores = self._usual.normalised(cosines, self._usual.statistics(direction[None])[0], self._statistics)
        return scores, (self._thresholds.shares(np.array([norm], np.float32)) @ self._likely)[0]

    def _band(self, score: float, person: int, norm: float) -> Band:
        _, certain = self._thresholds.of_people(self._norms[person : person + 1])
        (limit,) = self._thresholds.shares(np.array([norm], np.float32)) @ certain
        return "certain" if score >= limit[0] else "likely"

    def _checked_norm(self, probe: NDArray[np.float32]) -> float:
        if probe.ndim != 1 or (self._ids and probe.shape != self._directions.shape[1:]):
            raise ModelError(
                f"a probe of shape {probe.shape}, the gallery has ({self._directions.shape[1]},)",
                "embed with the model that the store was made for",
            )
        norm = float(np.linalg.norm(probe))
        if not 0 < norm <= 1 + _NORM_TOLERANCE:  # so written, NaN and infinity are refused too
            raise ModelError(
                f"a probe of norm {norm:g}: not the mean of unit embeddings",
                "check the embedder with 'edge-daemon doctor'",
            )
        return norm


def _mean_templates(gallery: Gallery) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the direction of each person's mean template, (P, D) float32 unit rows in C order, and its norm, (P,)."""
    templates, owner, people = gallery.templates, gallery.owner, len(gallery.ids)
    remedy = "put the store back from a backup, or enrol again"
    if templates.ndim != 2 or owner.shape != templates.shape[:1] or gallery.ignored.shape != (people,):
        raise StoreError("the gallery's arrays do not fit together", remedy)
    if not (np.abs(_norms(templates) - 1) <= _NORM_TOLERANCE).all():
        raise StoreError("the gallery holds templates that are not unit vectors", remedy)
    if len(owner) and not 0 <= owner.min() <= owner.max() < people:
        raise StoreError("the gallery holds templates of nobody", remedy)
    counts = np.bincount(owner, minlength=people)
    if not counts.all():
        raise StoreError(f"{gallery.ids[int(counts.argmin())]} has no template", remedy)
    if not people:
        return np.ascontiguousarray(templates, np.float32), np.empty(0, np.float32)
    if (owner[1:] < owner[:-1]).any():  # a store's gallery is in order already: no copy of it is made
        order = np.argsort(owner, kind="stable")
        owner, templates = owner[order], templates[order]
    means = private_array((people, templates.shape[1]), np.float32)
    np.add.reduceat(templates, np.cumsum(counts) - counts, axis=0, out=means)
    means /= counts[:, None].astype(np.float32)
    norms = _norms(means)
    means /= np.maximum(norms, _SMALLEST_NORM)[:, None]  # templates that cancel out point nowhere, and match nobody
    return means, norms


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean norms of (N, D) rows, without a second array of their size."""
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)), np.float32)


def _lead(worth: NDArray[np.float32], best: int) -> float:
    """Return how much more the best score is worth than the second person's; infinite where there is no second."""
    others = np.delete(worth, best)
    return float(worth[best] - others.max()) if len(others) else float("inf")
