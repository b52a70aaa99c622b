"""Impostor cohort → threshold at a stated false match rate (FMR), with the bound that the cohort can vouch for.

FMR is the chance that one comparison of a stranger's face with one enrolled person reaches that person's threshold. A
gallery of N people is N comparisons: `fmr_for_gallery` turns the rate wanted for a whole gallery into this one.

How high impostors score depends on the templates. The score is the mean cosine to a person's templates, that is the
product with their mean m, so it scales with ‖m‖: 1 for one picture, 0.5 for twelve unlike ones, close to 1 again for
twelve frames of one video. Thresholds are therefore calibrated for k = 1, 2, 4, 8 and 12 pictures drawn at random, each
with the typical ‖m‖ at this k, and a person's threshold is interpolated at that person's ‖m‖: twelve templates that
look the same are worth hardly more than one. ADR 0004 has the measurement.

The bound counts people, not comparisons. 800,000 comparisons of 200 people share their faces, and a binomial bound that
takes them for independent is far too narrow. Here whole people are drawn anew, each with one weight in both roles,
probe and gallery: the bootstrap of a two-way array (Owen 2007), of a graph's vertices (Snijders and Borgatti 1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError, ModelError

TEMPLATE_COUNTS = (1, 2, 4, 8, 12)
RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 5e-5)
MIN_ERRORS = 30  # fewer false matches than this say too little about a rate: Doddington's rule of 30 (2000)
CERTAIN = 0.1  # the band `certain` asks for this share of the FMR
CONFIDENCE = 0.95  # of the one-sided upper bounds
_MIN_PEOPLE = 20
_RESAMPLES = 2000
_STEPS_PER_UNIT = 10_000  # thresholds are rounded up to this grid: never laxer than computed
_REMEDY = "make one with: python -m tools.lab.calibrate --model NAME"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the records of a calibration file."""


class Level(_Record, frozen=True):
    """What one threshold lets through."""

    fmr: float  # the rate asked for; that of the cohort at `threshold` is errors / comparisons, never more
    threshold: float  # a match is a score ≥ this
    errors: int
    upper: float  # upper confidence bound of the FMR, people resampled
    upper_binomial: float  # Clopper–Pearson, as if comparisons were independent: too optimistic, for comparison only
    tar: float  # share of genuine comparisons that match: what the threshold costs


class Row(_Record, frozen=True):
    """The thresholds for one number of templates."""

    templates: int
    norm: float  # median Euclidean norm of the mean of so many templates of one person
    people: int
    comparisons: int
    levels: tuple[Level, ...]  # falling FMR


class Calibration(_Record, frozen=True):
    """The threshold table of one model, as stored beside it."""

    model: str  # SHA-256 of the model file that made the embeddings
    cohort: str  # which faces, drawn how
    confidence: float
    rows: tuple[Row, ...]  # rising number of templates

    def __post_init__(self) -> None:
        if fault := _fault(self.rows):
            raise ModelError(f"calibration of model {self.model[:12]}…: {fault}", _REMEDY)

    @property
    def smallest_fmr(self) -> float:
        """The smallest rate that the cohort is large enough for."""
        return self.rows[0].levels[-1].fmr

    @property
    def largest_fmr(self) -> float:
        """The largest rate of the table."""
        return self.rows[0].levels[0].fmr

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
        rows = self.rows[::-1]  # rising norm
        return OperatingPoint(
            model=self.model,
            fmr=fmr,
            certain_fmr=certain_fmr,
            upper_fmr=max(_interpolate(row, fmr)[1] for row in rows),
            norms=np.array([row.norm for row in rows], np.float32),
            likely=np.maximum.accumulate(np.array([_interpolate(row, fmr)[0] for row in rows], np.float32)),
            certain=np.maximum.accumulate(np.array([_interpolate(row, certain_fmr)[0] for row in rows], np.float32)),
        )

    def encode(self) -> bytes:
        """Return the calibration as JSON, indented and with a final newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


@dataclass(frozen=True, slots=True, eq=False)
class OperatingPoint:
    """The thresholds of one false match rate, as a function of the norm of a person's mean template."""

    model: str
    fmr: float
    certain_fmr: float
    upper_fmr: float  # upper confidence bound of the FMR, the largest over the numbers of templates
    norms: NDArray[np.float32]  # (R,) rising
    likely: NDArray[np.float32]  # (R,) thresholds at `fmr`
    certain: NDArray[np.float32]  # (R,) thresholds at `certain_fmr`, nowhere lower

    def thresholds(self, norms: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (likely, certain) for people whose mean templates have these norms, each (P,) float32."""
        likely, certain = (np.interp(norms, self.norms, at) for at in (self.likely, self.certain))
        return likely.astype(np.float32), certain.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Scores of faces against people with k templates each. Equal labels are the same person, all else is impostors."""

    scores: NDArray[np.float32]  # (N, G) score of each probe against each gallery person
    probes: NDArray[np.intp]  # (N,) label of the person on each probe
    gallery: NDArray[np.intp]  # (G,) label of each gallery person
    norms: NDArray[np.float32]  # (G,) norm of each mean template
    held_out: NDArray[np.bool_]  # (N,) whether the probe is nobody's template; only these count as genuine
    templates: int  # k

    @property
    def impostor(self) -> NDArray[np.bool_]:
        """(N, G): whether probe and gallery person are different people."""
        return np.not_equal.outer(self.probes, self.gallery)


def calibrate(
    cohorts: Sequence[Cohort], *, model: str, cohort: str, rng: np.random.Generator, rates: Sequence[float] = RATES
) -> Calibration:
    """Compute the table from one cohort for each number of templates; rates with too few errors are left out.

    Raises ModelError where no rate is supported.
    """
    fewest = min(int(c.impostor.sum()) for c in cohorts)
    supported = sorted((r for r in rates if r * fewest >= MIN_ERRORS), reverse=True)
    people = len(np.unique(np.concatenate([c.probes for c in cohorts])))
    if not supported or people < _MIN_PEOPLE:
        raise ModelError(f"a cohort of {people} people, {fewest} comparisons is too small", _REMEDY)
    rows = [_row(c, supported, rng) for c in sorted(cohorts, key=lambda c: c.templates)]
    return Calibration(model=model, cohort=cohort, confidence=CONFIDENCE, rows=tuple(rows))


def parse(data: bytes, model: str) -> Calibration:
    """Read a calibration file for the model in use; raises ModelError where it is malformed or another model's."""
    try:
        calibration = msgspec.json.decode(data, type=Calibration)
    except msgspec.DecodeError as e:
        raise ModelError(f"not a calibration file: {e}", _REMEDY) from None
    if calibration.model != model:
        raise ModelError(
            f"the calibration is for model {calibration.model[:12]}…, in use is {model[:12]}…",
            "thresholds of one model mean nothing for another: " + _REMEDY,
        )
    return calibration


def fmr_for_gallery(false_alarm_rate: float, people: int) -> float:
    """Return the FMR a comparison at which a stranger matches anyone of N `people` with this probability.

    The inverse of 1 − (1 − FMR)^N, comparisons taken as independent; where they are not, the true rate is lower.
    """
    if not 0 < false_alarm_rate < 1 or people < 1:
        raise ConfigError(
            f"a rate of {false_alarm_rate} for {people} people", "the rate lies between 0 and 1, people are 1 or more"
        )
    return -math.expm1(math.log1p(-false_alarm_rate) / people)


def binomial_upper(errors: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the Clopper–Pearson upper bound of a rate: where `errors` or fewer has probability 1 − confidence."""
    if errors >= trials:
        return 1.0
    i = np.arange(errors + 1, dtype=np.float64)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((trials - i[1:] + 1) / i[1:]))])
    low, high = errors / trials, 1.0
    while high - low > 1e-7 * high:
        p = (low + high) / 2
        tail = np.logaddexp.reduce(log_choose + i * math.log(p) + (trials - i) * math.log1p(-p))
        low, high = (p, high) if tail > math.log1p(-confidence) else (low, p)
    return float(high)


def threshold_at(scores: NDArray[np.float32], fmr: float) -> float:
    """Return the lowest threshold on the grid that at most a share `fmr` of these impostor `scores` reaches."""
    allowed = int(fmr * len(scores))
    highest_refused = np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed]
    step = math.floor(float(highest_refused) * _STEPS_PER_UNIT) + 1
    while np.float32(step / _STEPS_PER_UNIT) <= highest_refused:  # scores are float32, and so is the comparison
        step += 1
    return step / _STEPS_PER_UNIT


def _row(cohort: Cohort, rates: Sequence[float], rng: np.random.Generator) -> Row:
    impostor = cohort.impostor
    labels, index = np.unique(np.concatenate([cohort.probes, cohort.gallery]), return_inverse=True)
    probes, gallery = np.split(index, [len(cohort.probes)])
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), _RESAMPLES).astype(np.float64)

    def count(hits: NDArray[np.bool_]) -> NDArray[np.float64]:  # (L, L): probe person × gallery person
        n, g = np.nonzero(hits)
        cells = np.bincount(probes[n] * len(labels) + gallery[g], minlength=len(labels) ** 2)
        return cells.reshape(len(labels), len(labels)).astype(np.float64)

    comparisons = count(impostor)
    genuine = cohort.scores[~impostor & cohort.held_out[:, None]]
    levels = []
    for rate in rates:
        threshold = threshold_at(cohort.scores[impostor], rate)
        errors = count(impostor & (cohort.scores >= threshold))
        level = Level(
            fmr=rate,
            threshold=threshold,
            errors=int(errors.sum()),
            upper=_rounded(clustered_upper(errors, comparisons, weights)),
            upper_binomial=_rounded(binomial_upper(int(errors.sum()), int(comparisons.sum()))),
            tar=_rounded(float((genuine >= threshold).mean()) if len(genuine) else 0.0),
        )
        levels.append(level)
    return Row(
        templates=cohort.templates,
        norm=_rounded(float(np.median(cohort.norms))),
        people=len(cohort.gallery),
        comparisons=int(comparisons.sum()),
        levels=tuple(levels),
    )


def clustered_upper(
    errors: NDArray[np.float64],
    comparisons: NDArray[np.float64],
    weights: NDArray[np.float64],
    confidence: float = CONFIDENCE,
) -> float:
    """Return the upper bound of errors / comparisons when people, not comparisons, are the sample.

    `errors` and `comparisons` are (L, L) counts, probe person × gallery person; `weights` are (B, L): how often each of
    B resamples draws each person. The rate is taken as log-normal over the resamples: of the bounds compared on
    simulated cohorts it came nearest to its promise (ADR 0004).
    """
    drawn_errors, drawn = (((weights @ table) * weights).sum(axis=1) for table in (errors, comparisons))
    log_rates = np.log(np.maximum(drawn_errors, 0.5) / np.maximum(drawn, 1.0))  # half an error stands for none
    rate = max(float(errors.sum()), 0.5) / float(comparisons.sum())
    return min(1.0, rate * math.exp(NormalDist().inv_cdf(confidence) * float(log_rates.std())))


def _fault(rows: Sequence[Row]) -> str:
    """Return what is wrong with a table, or an empty text: its interpolation must be stricter wherever asked to be."""
    if not rows or not rows[0].levels:
        return "the table is empty"
    norms, rates = [row.norm for row in rows], [level.fmr for level in rows[0].levels]
    if any(a <= b for a, b in pairwise(norms)) or not all(0 < norm <= 1.001 for norm in norms):
        return "norms must fall as templates are added"
    for row in rows:
        if [level.fmr for level in row.levels] != rates or any(a <= b for a, b in pairwise(rates)):
            return f"{row.templates} templates: rates must fall, and be the same in each row"
        if any(a.threshold > b.threshold for a, b in pairwise(row.levels)):
            return f"{row.templates} templates: a smaller false match rate must not lower the threshold"
        if not all(0 < level.fmr < 1 and 0 < level.upper <= 1 and abs(level.threshold) <= 1 for level in row.levels):
            return f"{row.templates} templates: a rate or threshold is out of range"
    return ""


def _interpolate(row: Row, fmr: float) -> tuple[float, float]:
    """Return (threshold, upper bound of the FMR) at a rate inside the table, linear in log FMR."""
    levels = row.levels[::-1]  # rising FMR
    log_rates = [math.log(level.fmr) for level in levels]
    threshold = np.interp(math.log(fmr), log_rates, [level.threshold for level in levels])
    log_upper = np.interp(math.log(fmr), log_rates, [math.log(level.upper) for level in levels])
    return float(threshold), math.exp(float(log_upper))


def _rounded(x: float) -> float:
    return float(f"{x:.4g}")
