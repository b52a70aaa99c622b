"""1:N matching, open set: the normalised cosine to a person's mean template, a threshold, a margin to the second.

A person with unit templates t₁ … t_k is represented by the direction of their mean m. A probe x is the mean of the
embeddings of one encounter. The score is cos(x, m), normalised by the scores of x and of m against a cohort (`cohort`).
The norm of a mean shows how much independent evidence it holds, and the threshold follows both norms (`calibration`).
All directions lie in one matrix: a match is one product with the cohort and one with this matrix, for any number of
templates. People are compared by their lead, the score less the person's threshold: a person with one template then
competes with a person with twelve.

A probe is a person when the score reaches that person's threshold and its lead exceeds the second person's by the
margin. Higher is stricter, for both. Nothing here does I/O, and no state is kept between probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError, StoreError
from edge.identity.memory import private_array
from edge.records import Band, Embedding, Match

_NORM_TOLERANCE = 1e-3  # the norms of float32 unit vectors are closer to 1
_SMALLEST_NORM = np.float32(1e-6)


class Gallery(Protocol):
    """The enrolled people. A person is an index into `ids`; each has one template or more."""

    @property
    def templates(self) -> NDArray[np.float32]:
        """(N, D) float32, unit rows, in the space after `rotate`."""

    @property
    def owner(self) -> NDArray[np.intp]:
        """(N,) the person of each template."""

    @property
    def ids(self) -> Sequence[str]:
        """P opaque ids."""

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """(P,) whether encounters of the person are never reported."""

    @property
    def statistics(self) -> NDArray[np.float32] | None:
        """(P, 2) of the people's mean templates, from the cohort in use; None: the matcher computes them."""

    def rotate(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map embeddings into the space of the templates; linear, keeps inner products."""


class Normalisation(Protocol):
    """Statistics of a face's scores against a cohort (`cohort.Cohort`)."""

    def statistics(self, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2) of (N, D) unit rows."""

    def rotated(self, rotate: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Normalisation:
        """Return the same in the space after `rotate`: rotated templates have the statistics of plain ones."""

    def normalised(
        self, cosines: NDArray[np.float32], probe: NDArray[np.float32], templates: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(P,) scores of (P,) cosines, given the statistics (2,) of the probe and (P, 2) of the templates."""


class Thresholds(Protocol):
    """The score that a person needs (`calibration.OperatingPoint`)."""

    @property
    def model(self) -> str:
        """SHA-256 that names the embedding."""

    def of_people(self, norms: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(likely, certain) of people whose mean templates have these norms, each (S, P); certain ≥ likely."""

    def shares(self, probe_norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, S): weights that combine these into the thresholds for probes of these norms."""


class Matcher:
    """Finds the nearest person of a gallery.

    `margin` is the least difference between the leads of the best and the second person, on the scale of a cosine. An
    ignored person competes like any other, and a match with one is flagged `ignored`. People whose lead is within the
    margin of the best are the match's `rivals`. The face is then one of these people:

    - an ignored one of them reaches that person's threshold: the match is that person, flagged, since it may be theirs;
    - their templates are similar (one person enrolled twice, twins): the match is the nearest, in the band `likely`;
    - otherwise the match has rivals and no person, since it is not clear which of them it is.

    Raises StoreError where the gallery is malformed.
    """

    def __init__(self, gallery: Gallery, thresholds: Thresholds, cohort: Normalisation, margin: float) -> None:
        if not margin >= 0:
            raise ValueError(f"margin {margin}: must be 0 or more")
        self._directions, self._norms = _mean_templates(gallery)  # (P, D) float32 unit rows, (P,)
        self._thresholds, self._likely = thresholds, thresholds.of_people(self._norms)[0]  # (S, P)
        self._ids, self._ignored, self._rotate = tuple(gallery.ids), gallery.ignored, gallery.rotate
        self._margin, self._cohort = float(margin), cohort
        statistics = gallery.statistics
        if statistics is None:
            statistics = cohort.rotated(gallery.rotate).statistics(self._directions)
        self._statistics = statistics  # (P, 2)

    def match(self, probe: NDArray[np.float32]) -> Match:
        """Return the nearest person and whether the score suffices; with nobody enrolled every face is unknown.

        `probe` is (D,) float32: a unit embedding, or the mean of several of one face. Raises ModelError where it is
        of another length, not finite, zero, or longer than a mean of unit vectors can be.
        """
        norm = self._checked_norm(probe)
        if not self._ids:
            return Match(None, None, score=-1.0, threshold=float("inf"), margin=float("inf"))
        scores, likely = self._scores(probe, norm)
        leads = scores - likely  # (P,)
        best = int(np.argmax(leads))
        winner, rivals = (best, self._rivals(leads, best)) if leads[best] >= 0 else (None, ())
        if rivals:
            ignored = [person for person in (best, *rivals) if self._ignored[person] and leads[person] >= 0]
            if ignored:
                winner = ignored[0]
            elif not self._are_similar(best, rivals):
                winner = None
        shown = best if winner is None else winner
        band = None if winner is None else self._band(float(scores[winner]), winner, norm)
        return Match(
            person=None if winner is None else self._ids[winner],
            band="likely" if band is not None and rivals else band,
            score=float(scores[shown]),
            threshold=float(likely[shown]),
            margin=_margin(leads, best),
            ignored=winner is not None and bool(self._ignored[winner]),
            rivals=tuple(self._ids[i] for i in (best, *rivals) if rivals and i != winner),
        )

    def _rivals(self, leads: NDArray[np.float32], best: int) -> tuple[int, ...]:
        """Return the people whose lead is within the margin of the best, nearest first."""
        near = np.flatnonzero((leads[best] - leads < self._margin) & (np.arange(len(leads)) != best))
        return tuple(int(i) for i in near[np.argsort(-leads[near], kind="stable")])

    def _are_similar(self, person: int, others: Sequence[int]) -> bool:
        """Whether the person's mean template matches each of the others: enrolled twice, twins, look-alikes."""
        cosines = self._directions[list(others)] @ self._directions[person]
        scores = self._cohort.normalised(cosines, self._statistics[person], self._statistics[list(others)])
        (needed,) = self._thresholds.shares(self._norms[person : person + 1]) @ self._likely[:, list(others)]
        return bool((scores >= needed).all())

    def similar_people(self, embeddings: Sequence[Embedding]) -> list[tuple[str, float]]:
        """Return (id, score) of all people whose threshold the mean of these embeddings reaches, nearest first.

        Enrolment shows with it whom a new person would match. Raises ModelError for embeddings of another model.
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
        """Return the score of each person for the probe, and the threshold that it must reach, each (P,)."""
        direction = probe / np.float32(norm)
        cosines = self._directions @ self._rotate(direction)
        scores = self._cohort.normalised(cosines, self._cohort.statistics(direction[None])[0], self._statistics)
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
        if not 0 < norm <= 1 + _NORM_TOLERANCE:  # this comparison refuses NaN and infinity too
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
    if (owner[1:] < owner[:-1]).any():  # a store's gallery is in order already and needs no copy
        order = np.argsort(owner, kind="stable")
        owner, templates = owner[order], templates[order]
    means = private_array((people, templates.shape[1]), np.float32)
    np.add.reduceat(templates, np.cumsum(counts) - counts, axis=0, out=means)
    means /= counts[:, None].astype(np.float32)
    norms = _norms(means)
    means /= np.maximum(norms, _SMALLEST_NORM)[:, None]  # templates that cancel out have no direction and match nobody
    return means, norms


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean norms of (N, D) rows, without a second array of their size."""
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)), np.float32)


def _margin(leads: NDArray[np.float32], best: int) -> float:
    """Return the difference between the best and the second lead; infinite where there is no second person."""
    others = np.delete(leads, best)
    return float(leads[best] - others.max()) if len(others) else float("inf")
