"""The threshold table of a model: the score that a stranger's encounter reaches with a stated false match rate (FMR).

FMR is the probability that a stranger's encounter matches one enrolled person. `rate_for_gallery` gives the probability
of a match with any of N people. An encounter is decided on the running mean of its embeddings, from the third to the
eighth by default, and the first match counts: the rate includes all these decisions. It does not include decisions on
fewer or on more embeddings: see `covers`.

The score is the normalised cosine (`cohort`) between the mean of an encounter's embeddings and the mean of a person's
templates. A mean of more pictures holds less noise, so similar strangers reach higher scores. The norm of a mean shows
how much independent evidence it holds: 1 for one picture, 0.65 for eight different ones, close to 1 again for eight
frames of one moment. The table therefore has thresholds for 1 to 12 templates and for 1 to 8 shots, each with its
typical norm. Thresholds are interpolated at the present norms: twelve templates that look the same count hardly more
than one. ADR 0004 has the measurement, `tools/lab/thresholds.py` makes the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError, ModelError
from edge.identity.cohort import Cohort

CERTAIN = 0.1  # FMR of the band `certain` as a share of the stated FMR
_HIGHEST = 4.0  # of a normalised score: it exceeds 1 where a face differs much from the whole cohort
EXPECTED_ERRORS = 10  # a rate is tested on a group whose comparisons would hold at least this many false matches at it
REMEDY = "make one with: python -m tools.lab.calibrate --model NAME"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the records of a calibration file."""


class Level(_Record, frozen=True):
    """The thresholds of one rate, with their measured errors."""

    fmr: float  # the stated rate; the measured rate, errors / comparisons, is at most this
    thresholds: tuple[float, ...]  # for each number of shots, not falling; a match is a score ≥ this
    errors: int
    upper: float  # upper confidence bound of the FMR, people resampled
    upper_binomial: float  # Clopper–Pearson, as if comparisons were independent: too optimistic, for comparison only
    tar: float  # true accept rate: share of genuine encounters that match


class Row(_Record, frozen=True):
    """The thresholds for one number of templates."""

    templates: int
    norm: float  # median Euclidean norm of the mean of this number of templates of one person
    people: int
    comparisons: int
    levels: tuple[Level, ...]  # falling FMR


class GroupLevel(_Record, frozen=True):
    """False matches within one group at the thresholds of one rate."""

    fmr: float  # the stated rate
    errors: int
    measured: float  # errors / comparisons
    upper: float  # upper confidence bound of the rate, people resampled


class Group(_Record, frozen=True):
    """One group of people, each compared with all others of the group: one picture enrolled, one seen."""

    name: str
    people: int  # not in the cohort
    comparisons: int
    levels: tuple[GroupLevel, ...]  # falling FMR


class Calibration(_Record, frozen=True):
    """The threshold table of one model, as stored beside it."""

    model: str  # SHA-256 that names the embedding
    cohort: str  # SHA-256 of the cohort file that normalises the scores
    faces: str  # the faces of the table, and how they were drawn
    confidence: float
    decided_from: int  # an encounter is decided on running means of this number of embeddings
    decided_to: int  # to this number, included
    shot_norms: tuple[float, ...]  # median norm of the mean of 1, 2, 3, 4, 6, 8 embeddings of one person, falling
    rows: tuple[Row, ...]  # rising number of templates
    groups: tuple[Group, ...] = ()  # the rates were tested on these

    def __post_init__(self) -> None:
        if fault := next(_faults(self.rows, self.shot_norms), None) or next(self._group_faults(), None):
            raise ModelError(f"calibration of model {self.model[:12]}…: {fault}", REMEDY)

    def _group_faults(self) -> Iterator[str]:
        """Yield the groups that were not measured at the rates of the table, and those that exceed one."""
        rates = [level.fmr for level in self.rows[0].levels]
        for group in self.groups:
            if [level.fmr for level in group.levels] != rates:
                yield f"{group.name}: its rates are not those of the table"
            elif not all(0 <= level.measured <= 1 and 0 < level.upper <= 1 for level in group.levels):
                yield f"{group.name}: a rate is out of range"
            elif any(v.measured > v.fmr and v.fmr * group.comparisons >= EXPECTED_ERRORS for v in group.levels):
                yield f"{group.name}: its false match rate exceeds the stated one"

    @property
    def smallest_fmr(self) -> float:
        """The smallest rate that the number of comparisons supports."""
        return self.rows[0].levels[-1].fmr

    @property
    def largest_fmr(self) -> float:
        """The largest rate of the table."""
        return self.rows[0].levels[0].fmr

    def covers(self, min_embeddings: int, max_embeddings: int) -> bool:
        """Whether the rates hold for encounters decided on this range of embeddings, both numbers included."""
        return self.decided_from <= min_embeddings <= max_embeddings <= self.decided_to

    def at(self, fmr: float) -> OperatingPoint:
        """Return the thresholds at a false match rate, interpolated on log FMR; raises ConfigError outside the table.

        `certain` is calibrated at a tenth of the rate, or at the smallest supported rate where a tenth is below it.
        """
        if not self.smallest_fmr <= fmr <= self.largest_fmr:
            raise ConfigError(
                f"false match rate {fmr:g}: the impostor cohort supports {self.smallest_fmr:g} to {self.largest_fmr:g}",
                f"set [recognition] fmr = {self.smallest_fmr:g} or more, or calibrate on more people",
            )
        certain_fmr = max(fmr * CERTAIN, self.smallest_fmr)
        return OperatingPoint(
            model=self.model,
            fmr=fmr,
            certain_fmr=certain_fmr,
            upper_fmr=max([_upper(r.levels, fmr) for r in self.rows] + [_upper(g.levels, fmr) for g in self.groups]),
            norms=np.array([row.norm for row in self.rows], np.float32),
            shot_norms=np.array(self.shot_norms, np.float32),
            likely=np.stack([_interpolate(row, fmr) for row in self.rows]),
            certain=np.stack([_interpolate(row, certain_fmr) for row in self.rows]),
            recognised=np.array([_recognised(row, fmr) for row in self.rows], np.float32),
            templates=tuple(row.templates for row in self.rows),
        )

    def encode(self) -> bytes:
        """Return the calibration as JSON, indented and with a final newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


@dataclass(frozen=True, slots=True, eq=False)
class OperatingPoint:
    """The thresholds of one false match rate, by the norms of a person's mean template and of an encounter's mean."""

    model: str
    fmr: float
    certain_fmr: float
    upper_fmr: float  # upper confidence bound of the FMR, the largest over the numbers of templates and the groups
    norms: NDArray[np.float32]  # (R,) of mean templates, falling
    shot_norms: NDArray[np.float32]  # (S,) of mean embeddings, falling
    likely: NDArray[np.float32]  # (R, S) thresholds at `fmr`, not falling along either axis
    certain: NDArray[np.float32]  # (R, S) thresholds at `certain_fmr`, each at least that of `likely`
    recognised: NDArray[np.float32]  # (R,) share of the genuine encounters that match
    templates: tuple[int, ...]  # (R,) of different pictures, rising

    def recognises(self, norm: float) -> float:
        """Return the share of a person's visits that match, from the norm of the person's mean template.

        A visit of different pictures, of the people whom the table was made from: `Level.tar`.
        """
        return float(shares_of(np.array([norm], np.float32), self.norms)[0] @ self.recognised)

    def of_people(self, norms: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (likely, certain) of people whose mean templates have these norms, each (S, P) float32.

        `shares(probe norms) @ likely` are their thresholds for these probes.
        """
        near = shares_of(norms, self.norms)
        return self.likely.T @ near.T, self.certain.T @ near.T

    def shares(self, probe_norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, S) float32, rows of sum 1: the weight of each number of shots for probes of these norms."""
        return shares_of(probe_norms, self.shot_norms)

    def same_face(self, one: NDArray[np.float32], other: NDArray[np.float32], cohort: Cohort) -> bool:
        """Whether two means of unit embeddings, (D,) each, reach the threshold of an encounter against a person."""
        both = np.stack([one, other])
        norms = np.asarray(np.linalg.norm(both, axis=1), np.float32)
        if not norms.all():
            return False
        likely, _ = self.of_people(norms)  # (S, 2): each as the person, with the other as the encounter
        needed = (self.shares(norms[::-1]) * likely.T).sum(axis=1).max()
        return likeness(one, other, cohort) >= float(needed)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32], cohort: Cohort) -> float:
    """Return the normalised score of two means of unit embeddings, (D,) each, neither of them zero."""
    both = np.stack([one, other])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    statistics = cohort.statistics(both)
    return float(cohort.normalised(both[:1] @ both[1], statistics[0], statistics[1:])[0])


def parse(data: bytes, model: str, cohort: str | None = None) -> Calibration:
    """Read a calibration file for the model in use; raises ModelError where it is malformed or of another model.

    `cohort`: SHA-256 of the cohort file in use; None where the thresholds are not applied to scores.
    """
    try:
        calibration = msgspec.json.decode(data, type=Calibration)
    except msgspec.DecodeError as e:
        raise ModelError(f"not a calibration file: {e}", REMEDY) from None
    if calibration.model != model:
        raise ModelError(
            f"the calibration is for model {calibration.model[:12]}…, in use is {model[:12]}…",
            "thresholds are valid for one model only: " + REMEDY,
        )
    if cohort is not None and calibration.cohort != cohort:
        raise ModelError(
            f"the calibration is for scores normalised by cohort {calibration.cohort[:12]}…, in use is {cohort[:12]}…",
            "thresholds are valid for one cohort only: " + REMEDY,
        )
    return calibration


def rate_for_gallery(fmr: float, people: int) -> float:
    """Return the probability that a stranger's encounter matches any of N `people`.

    It is 1 − (1 − FMR)^N for independent comparisons. For dependent ones the true rate is lower.
    """
    return -math.expm1(people * math.log1p(-fmr))


def shares_of(x: NDArray[np.float32], grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, S) weights, rows of sum 1: linear interpolation of each x on a falling grid, constant beyond it."""
    grid = grid[::-1]
    at = np.clip(np.searchsorted(grid, x), 1, max(len(grid) - 1, 1)) - 1  # the interval's lower end
    shares = np.zeros((len(x), len(grid)), np.float32)
    if len(grid) == 1:
        return shares + 1
    upper = np.clip((x - grid[at]) / (grid[at + 1] - grid[at]), 0, 1)
    shares[np.arange(len(x)), at] = 1 - upper
    shares[np.arange(len(x)), at + 1] = upper
    return shares[:, ::-1]


def _faults(rows: Sequence[Row], shot_norms: Sequence[float]) -> Iterator[str]:
    """Yield what is wrong with a table: thresholds must rise with templates and shots, and fall with the FMR."""
    levels = [level for row in rows for level in row.levels]
    if not levels:
        yield "the table is empty"
        return
    for norms in ([row.norm for row in rows], shot_norms):
        if any(a <= b for a, b in pairwise(norms)) or not all(0 < norm <= 1.001 for norm in norms):
            yield "norms must fall as pictures are added"
    rates = [level.fmr for level in rows[0].levels]
    if any([level.fmr for level in row.levels] != rates for row in rows) or any(a <= b for a, b in pairwise(rates)):
        yield "rates must fall, and be the same in each row"
        return
    if any(len(level.thresholds) != len(shot_norms) for level in levels):
        yield f"each level needs {len(shot_norms)} thresholds"
        return
    table = np.array([[level.thresholds for level in row.levels] for row in rows])  # (R, rates, S)
    if not (np.abs(table) <= _HIGHEST).all() or not all(0 < level.fmr < 1 and 0 < level.upper <= 1 for level in levels):
        yield "a rate or threshold is out of range"
    for axis, name in enumerate(("more templates", "a smaller false match rate", "more shots")):
        if (np.diff(table, axis=axis) < 0).any():
            yield f"{name} must not lower a threshold"


def _interpolate(row: Row, fmr: float) -> NDArray[np.float32]:
    """Return the (S,) thresholds at a rate inside the table, linear in log FMR."""
    levels = row.levels[::-1]  # rising FMR
    log_rates = [math.log(level.fmr) for level in levels]
    by_shots = zip(*(level.thresholds for level in levels), strict=True)
    return np.array([np.interp(math.log(fmr), log_rates, column) for column in by_shots], np.float32)


def _recognised(row: Row, fmr: float) -> float:
    """Return the share of genuine encounters that match at a rate inside the table, linear in log FMR."""
    rising = row.levels[::-1]
    return float(np.interp(math.log(fmr), [math.log(level.fmr) for level in rising], [level.tar for level in rising]))


def _upper(levels: Sequence[Level] | Sequence[GroupLevel], fmr: float) -> float:
    """Return the upper bound of the FMR at a rate inside the table, linear in the logarithms of both."""
    rising = levels[::-1]
    log_rates, log_upper = [math.log(level.fmr) for level in rising], [math.log(level.upper) for level in rising]
    return math.exp(float(np.interp(math.log(fmr), log_rates, log_upper)))
