"""Impostor cohort → threshold at a stated false match rate (FMR), with the bound that the cohort can vouch for.

The cohort is made of strangers' encounters, which are decided as the runtime decides: on each running mean, with the
thresholds at its norm. Thresholds are lowered until just the stated share of encounters matches somebody else.

The bound counts people, not comparisons. 800,000 comparisons of 200 people share their faces, and a binomial bound that
takes them for independent is far too narrow. Here whole people are drawn anew, each with one weight in both roles,
probe and gallery: the bootstrap of a two-way array (Owen 2007), of a graph's vertices (Snijders and Borgatti 1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.identity.calibration import REMEDY, Calibration, Level, Row, shares_of

TEMPLATE_COUNTS = (1, 2, 4, 8, 12)
SHOT_COUNTS = (1, 2, 3, 4, 6, 8)  # embeddings of one encounter
RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # of 5e-5 the bound was twenty times the rate: 200 people cannot vouch for it
MIN_ERRORS = 30  # fewer false matches than this say too little about a rate: Doddington's rule of 30 (2000)
CONFIDENCE = 0.95  # of the one-sided upper bounds
_MIN_PEOPLE = 20
_RESAMPLES = 2000
_BISECTIONS = 14
_NORM_STEP = 1e-3
_STEPS_PER_UNIT = 10_000  # thresholds are rounded up to this grid: never laxer than computed


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """How an encounter is decided: on which running means, and where their thresholds lie."""

    shot_norms: NDArray[np.float32]  # (S,) falling
    first: int
    last: int

    def means(self, of: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a cohort has of the means that decide, (J, …) of (all means, …)."""
        return of[self.first - 1 : self.last]


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Scores of encounters against people with k templates each. Equal labels are one person, all else is impostors."""

    scores: NDArray[np.float32]  # (J, N, G) score of the mean of the first 1 … J embeddings against each person
    shot_norms: NDArray[np.float32]  # (J, N) norms of these means
    probes: NDArray[np.intp]  # (N,) label of the person of each encounter
    gallery: NDArray[np.intp]  # (G,) label of each gallery person
    norms: NDArray[np.float32]  # (G,) norm of each mean template
    held_out: NDArray[np.bool_]  # (N,) whether no picture of it is a template; only these count as genuine
    templates: int  # k

    @property
    def impostor(self) -> NDArray[np.bool_]:
        """(N, G): whether encounter and gallery person are different people."""
        return np.not_equal.outer(self.probes, self.gallery)


def calibrate(
    cohorts: Sequence[Cohort],
    *,
    model: str,
    cohort: str,
    rng: np.random.Generator,
    decided: tuple[int, int] = (3, 8),
    rates: Sequence[float] = RATES,
) -> Calibration:
    """Compute the table from one cohort for each number of templates; rates with too few errors are left out.

    `decided`: the first and the last running mean that decides. Raises ModelError where no rate is supported.
    """
    fewest = min(int(c.impostor.sum()) for c in cohorts)
    supported = sorted((r for r in rates if r * fewest >= MIN_ERRORS), reverse=True)
    people = len(np.unique(np.concatenate([c.probes for c in cohorts])))
    if not supported or people < _MIN_PEOPLE:
        raise ModelError(f"a cohort of {people} people, {fewest} comparisons is too small", REMEDY)
    cohorts = sorted(cohorts, key=lambda c: c.templates)
    shot_norms = [_rounded(np.median([np.median(c.shot_norms[s - 1]) for c in cohorts])) for s in SHOT_COUNTS]
    rule = _Rule(np.array(shot_norms, np.float32), *decided)
    rows: list[Row] = []
    for one in cohorts:
        rows.append(_row(one, rule, supported, rows[-1] if rows else None, rng))
    return Calibration(
        model=model,
        cohort=cohort,
        confidence=CONFIDENCE,
        decided_from=decided[0],
        decided_to=decided[1],
        shot_norms=tuple(shot_norms),
        rows=tuple(rows),
    )


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


def threshold_at(falling: NDArray[np.float32], allowed: int) -> float:
    """Return the lowest threshold on the grid that at most so many of these impostor scores, highest first, reach."""
    highest_refused = falling[allowed]
    step = math.floor(float(highest_refused) * _STEPS_PER_UNIT) + 1
    while np.float32(step / _STEPS_PER_UNIT) <= highest_refused:  # scores are float32, and so is the comparison
        step += 1
    return step / _STEPS_PER_UNIT


def _row(cohort: Cohort, rule: _Rule, rates: Sequence[float], fewer: Row | None, rng: np.random.Generator) -> Row:
    """Return the thresholds for one number of templates; nowhere lower than those for `fewer`."""
    impostor = cohort.impostor
    labels, index = np.unique(np.concatenate([cohort.probes, cohort.gallery]), return_inverse=True)
    probes, gallery = np.split(index, [len(cohort.probes)])
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), _RESAMPLES).astype(np.float64)

    def count(n: NDArray[np.intp], g: NDArray[np.intp]) -> NDArray[np.float64]:  # (L, L): probe person × gallery person
        cells = np.bincount(probes[n] * len(labels) + gallery[g], minlength=len(labels) ** 2)
        return cells.reshape(len(labels), len(labels)).astype(np.float64)

    comparisons = count(*np.nonzero(impostor))
    strangers = _Tail(cohort, rule, impostor, 2 * rates[0])
    genuine = _Decided(cohort, rule, *np.nonzero(~impostor & cohort.held_out[:, None]))
    levels: list[Level] = []
    for i, rate in enumerate(rates):
        # Not below the thresholds of a larger rate, nor those of fewer templates: noise would else make a table that is
        # laxer where it was asked to be stricter.
        least = np.full(len(rule.shot_norms), -1, np.float32)
        for stricter_than in ([levels[-1]] if levels else []) + ([fewer.levels[i]] if fewer else []):
            least = np.maximum(least, np.array(stricter_than.thresholds, np.float32))
        thresholds = strangers.thresholds(rate, least)
        n, g = strangers.decided.matched(thresholds)
        level = Level(
            fmr=rate,
            thresholds=tuple(round(float(t), 4) for t in thresholds),
            errors=len(n),
            upper=_rounded(clustered_upper(count(n, g), comparisons, weights)),
            upper_binomial=_rounded(binomial_upper(len(n), int(comparisons.sum()))),
            tar=_rounded(len(genuine.matched(thresholds)[0]) / max(len(genuine.n), 1)),
        )
        levels.append(level)
    norm = float(np.median(cohort.norms))
    if fewer is not None:
        norm = min(norm, fewer.norm - _NORM_STEP)  # it falls, but the median of a few other people may not show it
    return Row(
        templates=cohort.templates,
        norm=_rounded(norm),
        people=len(cohort.gallery),
        comparisons=int(comparisons.sum()),
        levels=tuple(levels),
    )


class _Decided:
    """Some pairs (encounter n, person g) of a cohort, and which of them a set of thresholds matches at any mean."""

    def __init__(self, cohort: Cohort, rule: _Rule, n: NDArray[np.intp], g: NDArray[np.intp]) -> None:
        self.n, self.g = n, g
        self._scores = rule.means(cohort.scores)[:, n, g]  # (J, M)
        self._shares = np.stack([shares_of(norms, rule.shot_norms) for norms in rule.means(cohort.shot_norms)])

    def matched(self, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the pairs whose score reaches the threshold at any of the means."""
        hit = (self._scores >= (self._shares @ thresholds)[:, self.n]).any(axis=0)
        return self.n[hit], self.g[hit]


class _Tail:
    """The highest impostor scores of a cohort, by which thresholds are found."""

    def __init__(self, cohort: Cohort, rule: _Rule, impostor: NDArray[np.bool_], share: float) -> None:
        self._comparisons = int(impostor.sum())
        kept = min(int(share * self._comparisons) + 1, self._comparisons)
        tails = [np.sort(np.partition(cohort.scores[s - 1][impostor], -kept)[-kept:])[::-1] for s in SHOT_COUNTS]
        self._tails = np.stack(tails)  # (S, kept) falling
        high = impostor & (rule.means(cohort.scores).max(axis=0) >= self._tails.min())
        self.decided = _Decided(cohort, rule, *np.nonzero(high))

    def thresholds(self, fmr: float, least: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (S,) thresholds, not below `least`, that at most a share `fmr` of strangers' encounters reaches.

        Each running mean gets the same share of the chances; how large, the encounters' own decisions tell.
        """
        low, high = math.log(fmr) - 5.0, math.log(fmr)
        best = self._at(math.exp(low), least)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tried = self._at(math.exp(middle), least)
            if len(self.decided.matched(tried)[0]) <= fmr * self._comparisons:
                low, best = middle, tried
            else:
                high = middle
        return best

    def _at(self, share: float, least: NDArray[np.float32]) -> NDArray[np.float32]:
        allowed = int(share * self._comparisons)
        found = np.array([threshold_at(tail, allowed) for tail in self._tails], np.float32)
        return np.maximum.accumulate(np.maximum(found, least))


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


def _rounded(x: float | np.floating) -> float:
    return float(f"{x:.4g}")
