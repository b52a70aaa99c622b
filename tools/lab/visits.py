"""Simulate templates and encounters from single pictures, and score encounters against templates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.config import RecognitionConfig
from edge.identity.cohort import Cohort
from tools.lab.figures import Labels, Vectors, unit

FIRST, LAST = RecognitionConfig().min_embeddings, RecognitionConfig().max_embeddings  # running means that decide


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Embeddings of pictures and of their mirror images."""

    plain: Vectors  # (N, D) float32, unit rows
    mirrored: Vectors  # (N, D)
    person: Labels  # (N,) person of each picture

    @property
    def templates(self) -> Vectors:
        """Templates (N, D), unit rows, as an enrolment makes them: the mean of a picture and its mirror image."""
        return unit(self.plain + self.mirrored)

    def seen(self, members: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return (E, J, D) embeddings of encounters, (E, J) indices of pictures; every second picture is mirrored."""
        every_second = (np.arange(members.shape[1]) % 2 == 1)[None, :, None]
        return np.where(every_second, self.mirrored[members], self.plain[members])

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Faces:
        """Return a selection of the pictures."""
        return Faces(self.plain[chosen], self.mirrored[chosen], self.person[chosen])


def running(
    shots: NDArray[np.float32], directions: Vectors, cohort: Cohort | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scores (J, N, G) and norms (J, N) of the running means of encounters (N, J, D) against people (G, D).

    Scores are normalised by the cohort; without one they are cosines.
    """
    counts = np.arange(1, shots.shape[1] + 1, dtype=np.float32)
    means = np.moveaxis(np.cumsum(shots, axis=1, dtype=np.float32) / counts[:, None], 1, 0)  # (J, N, D)
    norms = np.linalg.norm(means, axis=2)
    means /= norms[:, :, None]
    scores = means @ directions.T
    if cohort is not None:
        templates = cohort.statistics(directions)
        for i, seen in enumerate(means):
            scores[i] = cohort.normalised(scores[i], cohort.statistics(seen), templates)
    return np.asarray(scores, np.float32), np.asarray(norms, np.float32)
