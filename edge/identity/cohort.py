"""Cohort normalisation of scores: a cosine relative to the cosines that this face and this template usually reach.

A face that looks like many others reaches a high cosine with strangers; a distinctive one does not. The cosine of
strangers depends on age, origin and picture, so one threshold on the cosine gives groups of people different false
match rates. The cohort gives the reference: for a direction x, μ(x) and σ(x) are the mean and the standard deviation of
its K highest cosines with the cohort. The normalised score of a probe p and a template t with cosine c is

    s = μ₀ + σ₀ · ½ [ (c − μ(p)) / σ(p) + (c − μ(t)) / σ(t) ]

This is adaptive symmetric score normalisation ("AS-norm", Matějka et al., "Analysis of Score Normalization in
Multilingual Speaker Recognition", Interspeech 2017) on the scale of a cosine: μ₀ and σ₀ are the medians over the cohort
itself. The scale changes no decision. With it, thresholds and the margin keep the unit of a cosine.

No member of a cohort is a real person: each is the direction of the mean of two people's embeddings. The cohort is
public data of one model. It lies beside the model as `NAME-cohort.npz`, made by `python -m tools.lab cohort`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError

REMEDY = "make one with: python -m tools.lab cohort --model NAME"
_STEPS = 127  # int8 levels of the largest component of a member
_LEAST_DEVIATION = 1e-3  # keeps the quotient finite; faces have 0.02 and more
_BLOCK_FLOATS = 1 << 22  # cosines computed at a time: 16 MB, whatever the number of directions
_FIELDS = {"model", "nearest", "usual", "vectors"}


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Embeddings of no real person, against which scores are normalised."""

    model: str  # SHA-256 that names the embedding
    vectors: NDArray[np.float32]  # (C, D) float32, unit rows
    nearest: int  # K: number of highest cosines in the statistics
    usual: tuple[float, float]  # (μ₀, σ₀): medians of the statistics of the cohort's own members
    digest: str = field(default="")  # SHA-256 of the file; calibrations and stored statistics are bound to it

    def statistics(self, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 2) float32: mean and standard deviation of the K highest cosines of (N, D) unit rows."""
        found = np.empty((len(directions), 2), np.float32)
        step = max(1, _BLOCK_FLOATS // len(self.vectors))
        for start in range(0, len(directions), step):
            cosines = directions[start : start + step] @ self.vectors.T
            found[start : start + step] = highest(cosines, self.nearest)
        return found

    def rotated(self, rotate: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Cohort:
        """Return the cohort in the space after `rotate`, so that no template must be rotated back."""
        return replace(self, vectors=rotate(self.vectors))

    def normalised(
        self,
        cosines: NDArray[np.float32],
        probe: NDArray[np.float32],
        templates: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return the normalised scores, (…, P) float32.

        `cosines` is (…, P), `probe` the statistics (…, 2) of the probes, `templates` those of the P templates, (P, 2).
        """
        by_probe = (cosines - probe[..., None, 0]) / probe[..., None, 1]
        by_template = (cosines - templates[:, 0]) / templates[:, 1]
        usual, deviation = self.usual
        return np.asarray(usual + np.float32(deviation / 2) * (by_probe + by_template), np.float32)


def highest(cosines: NDArray[np.float32], nearest: int) -> NDArray[np.float32]:
    """Return (N, 2) float32: mean and standard deviation of the `nearest` highest of each row, (N, C)."""
    kept = np.partition(cosines, cosines.shape[1] - nearest, axis=1)[:, -nearest:] if len(cosines) else cosines
    deviation = np.maximum(kept.std(axis=1, dtype=np.float32), np.float32(_LEAST_DEVIATION))
    return np.stack([kept.mean(axis=1, dtype=np.float32), deviation], axis=1)


def made(model: str, vectors: NDArray[np.float32], nearest: int) -> Cohort:
    """Return the cohort of these (C, D) unit rows, rounded to int8 as in its file."""
    return parse(_encoded(model, vectors, nearest), model, vectors.shape[1])


def encode(cohort: Cohort) -> bytes:
    """Return the content of the cohort's file; equal cohorts give equal bytes."""
    return _encoded(cohort.model, cohort.vectors, cohort.nearest)


def parse(content: bytes, model: str, dimension: int) -> Cohort:
    """Read a cohort file for the model in use; raises ModelError where it is malformed or of another model."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            fields = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
        raise ModelError(f"not a cohort file: {e}", REMEDY) from None
    if fields.keys() != _FIELDS:
        raise ModelError(f"not a cohort file: it holds {', '.join(sorted(fields)) or 'nothing'}", REMEDY)
    if (theirs := str(fields["model"])) != model:
        raise ModelError(
            f"the cohort is for model {theirs[:12]}…, in use is {model[:12]}…",
            "a cohort is valid for one model only: " + REMEDY,
        )
    if fault := _fault(fields, dimension):
        raise ModelError(f"the cohort of model {model[:12]}… is damaged: {fault}", REMEDY)
    usual, deviation = (float(x) for x in fields["usual"])
    return Cohort(
        model=model,
        vectors=_unit(fields["vectors"]),
        nearest=int(fields["nearest"]),
        usual=(usual, deviation),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _encoded(model: str, vectors: NDArray[np.float32], nearest: int) -> bytes:
    levels = np.rint(vectors / np.abs(vectors).max(axis=1, keepdims=True) * _STEPS).astype(np.int8)
    members = _unit(levels)
    cosines = members @ members.T
    np.fill_diagonal(cosines, -1.0)  # no member is compared with itself
    usual = np.median(highest(cosines, nearest), axis=0).astype(np.float32)
    file = io.BytesIO()
    np.savez(file, model=np.array(model), nearest=np.array(nearest), usual=usual, vectors=levels)
    return file.getvalue()


def _unit(levels: NDArray[np.int8]) -> NDArray[np.float32]:
    rows = levels.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _fault(fields: dict[str, NDArray[np.generic]], dimension: int) -> str | None:
    """Return what is wrong with the arrays of a cohort file, None where nothing is."""
    vectors, nearest, usual = fields["vectors"], fields["nearest"], fields["usual"]
    if vectors.dtype != np.int8 or vectors.ndim != 2 or vectors.shape[1] != dimension:
        return f"vectors of shape {vectors.shape} and type {vectors.dtype} instead of (C, {dimension}) int8"
    if not vectors.any(axis=1).all():
        return "a member has no direction"
    if nearest.shape or nearest.dtype.kind != "i" or not 2 <= int(nearest) < len(vectors):
        return f"statistics of the {nearest} nearest of {len(vectors)} members"
    if usual.shape != (2,) or usual.dtype != np.float32 or not np.isfinite(usual).all() or not usual[1] > 0:
        return "its scale is not a finite mean and a positive deviation"
    return None
