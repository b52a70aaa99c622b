"""Compute thresholds at a stated false match rate (FMR) from strangers' encounters, and an upper bound of the rate.

Encounters are decided as the runtime does: each running mean is compared with the threshold at its norm. The thresholds
are the lowest at which the stated share of strangers' encounters matches. Then all are raised by the same amount until
no group of people has a higher rate than the stated one.

The upper bound uses people, not comparisons, as the sample. 800,000 comparisons of 200 people are dependent, so a
binomial bound is far too narrow. The bootstrap resamples people; each has the same weight as probe and in the gallery.
It is the bootstrap of a two-way array (Owen 2007) and of a graph's vertices (Snijders and Borgatti 1999).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.identity.calibration import EXPECTED_ERRORS, REMEDY, Calibration, Group, GroupLevel, Level, Row, shares_of

TEMPLATE_COUNTS = (1, 2, 4, 8, 12)
SHOT_COUNTS = (1, 2, 3, 4, 6, 8)  # numbers of embeddings with a threshold each
RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # at 5e-5 the bound of 200 people is twenty times the rate
MIN_ERRORS = 30  # lowest number of false matches for a rate: Doddington's rule of 30 (2000)
CONFIDENCE = 0.95  # of the one-sided upper bounds
_MIN_PEOPLE = 20
_RESAMPLES = 2000
_BISECTIONS = 14
_NORM_STEP = 1e-3
_STEPS_PER_UNIT = 10_000  # thresholds are rounded up to this grid, to be no laxer than computed


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """The decision rule of an encounter: the deciding running means, and the norms of the thresholds."""

    shot_norms: NDArray[np.float32]  # (S,) falling
    first: int
    last: int

    def means(self, of: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows of the deciding means, (J, …) of (all means, …)."""
        return of[self.first - 1 : self.last]

    def matches(self, trials: Trials, thresholds: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return (N, G): whether an encounter reaches the thresholds, (S,), at any deciding mean."""
        shares = np.stack([shares_of(norms, self.shot_norms) for norms in self.means(trials.shot_norms)])
        hit = self.means(trials.scores) >= (shares @ thresholds)[:, :, None]
        return np.asarray(hit.any(axis=0), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Scores of encounters against people with k templates each. Equal labels mean one person, others are impostors."""

    scores: NDArray[np.float32]  # (J, N, G) score of the mean of the first 1 … J embeddings against each person
    shot_norms: NDArray[np.float32]  # (J, N) norms of these means
    probes: NDArray[np.intp]  # (N,) label of the person of each encounter
    gallery: NDArray[np.intp]  # (G,) label of each gallery person
    norms: NDArray[np.float32]  # (G,) norm of each mean template
    held_out: NDArray[np.bool_]  # (N,) whether none of its pictures is a template; only these count as genuine
    templates: int  # k
    doubtful: NDArray[np.bool_] | None = None  # (N, G) pairs that may show one person under two labels: not counted

    @property
    def impostor(self) -> NDArray[np.bool_]:
        """(N, G): whether encounter and gallery person are different people."""
        different: NDArray[np.bool_] = np.not_equal.outer(self.probes, self.gallery)
        return different if self.doubtful is None else different & ~self.doubtful

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """(N, G): whether the encounter shows the gallery person, in pictures that are no templates."""
        return np.asarray(np.equal.outer(self.probes, self.gallery) & self.held_out[:, None], np.bool_)

    @property
    def people(self) -> int:
        """Return the number of people."""
        return len(np.union1d(self.probes, self.gallery))


def calibrate(
    trials: Sequence[Trials],
    *,
    model: str,
    cohort: str,
    faces: str,
    rng: np.random.Generator,
    groups: Mapping[str, Trials] | None = None,
    decided: tuple[int, int] = (3, 8),
    rates: Sequence[float] = RATES,
) -> Calibration:
    """Compute the table from trials, one per number of templates; rates with too few errors are left out.

    `groups`: trials within groups of people, one template each; thresholds are raised until no group exceeds the stated
    rate. `decided`: the first and last deciding mean. Raises ModelError where no rate has enough errors.
    """
    fewest = min(int(t.impostor.sum()) for t in trials)
    supported = sorted((r for r in rates if r * fewest >= MIN_ERRORS), reverse=True)
    people = len(np.unique(np.concatenate([t.probes for t in trials])))
    if not supported or people < _MIN_PEOPLE:
        raise ModelError(f"{people} people in {fewest} comparisons are too few", REMEDY)
    trials = sorted(trials, key=lambda t: t.templates)
    shot_norms = [_rounded(np.median([np.median(t.shot_norms[s - 1]) for t in trials])) for s in SHOT_COUNTS]
    rule = Rule(np.array(shot_norms, np.float32), *decided)
    table = _table(trials, rule, supported)  # (R, rates, S)
    strangers = {name: _of_one_row(t, rule, t.impostor) for name, t in (groups or {}).items()}
    steps = [[_needed(s, table[0, i], rate) for s in strangers.values()] for i, rate in enumerate(supported)]
    table += np.array([max([0.0, *step]) for step in steps], np.float32)[None, :, None]
    table = np.maximum.accumulate(table, axis=1)  # a smaller rate has no lower threshold
    norms: list[float] = []
    for one in trials:  # norms fall with the number of templates; the median of other people may not show it
        norms.append(min([float(np.median(one.norms)), *(n - _NORM_STEP for n in norms[-1:])]))
    return Calibration(
        model=model,
        cohort=cohort,
        faces=faces,
        confidence=CONFIDENCE,
        decided_from=decided[0],
        decided_to=decided[1],
        shot_norms=tuple(shot_norms),
        rows=tuple(
            _row(t, rule, supported, thresholds, norm, rng)
            for t, thresholds, norm in zip(trials, table, norms, strict=True)
        ),
        groups=tuple(
            Group(name=name, people=t.people, comparisons=int(t.impostor.sum()), levels=measured)
            for name, t in (groups or {}).items()
            for measured in [tuple(group_level(t, rule, rate, table[0, i], rng) for i, rate in enumerate(supported))]
        ),
    )


def _table(trials: Sequence[Trials], rule: Rule, rates: Sequence[float]) -> NDArray[np.float32]:
    """Return thresholds (R, rates, S), each at least as high as for a larger rate and for fewer templates.

    Without this rule, noise could give a stricter rate a lower threshold.
    """
    table = np.full((len(trials), len(rates), len(rule.shot_norms)), -1, np.float32)
    for r, one in enumerate(trials):
        tail = _Tail(one, rule, one.impostor, 2 * rates[0])
        for i, rate in enumerate(rates):
            least = np.maximum(table[r, i - 1] if i else table[r, i], table[r - 1, i] if r else table[r, i])
            table[r, i] = tail.thresholds(rate, least)
    return table


def _needed(strangers: Decided, thresholds: NDArray[np.float32], rate: float) -> float:
    """Return the amount by which the thresholds must rise so that at most a share `rate` of these strangers match.

    It is zero where that share is only a few comparisons; otherwise one pair of similar people would set the threshold
    for everybody.
    """
    if rate * len(strangers.n) < EXPECTED_ERRORS:
        return 0.0
    excess = np.sort(strangers.excess(thresholds))[::-1]
    return max(0.0, threshold_at(excess, int(rate * len(excess))))


def _of_one_row(trials: Trials, rule: Rule, pairs: NDArray[np.bool_]) -> Decided:
    return Decided(trials, rule, *np.nonzero(pairs))


def group_level(
    trials: Trials, rule: Rule, rate: float, thresholds: NDArray[np.float32], rng: np.random.Generator
) -> GroupLevel:
    """Return the false matches of one group at these thresholds, (S,), with the bootstrap bound of the rate."""
    errors, comparisons, upper = measured(trials, rule, thresholds, rng)
    return GroupLevel(fmr=rate, errors=errors, measured=_rounded(errors / comparisons), upper=_rounded(upper))


def measured(
    trials: Trials,
    rule: Rule,
    thresholds: NDArray[np.float32],
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
) -> tuple[int, int, float]:
    """Return false matches, comparisons, and the one-sided upper bound of the rate by the bootstrap over people."""
    n, g = Decided(trials, rule, *np.nonzero(trials.impostor)).matched(thresholds)
    labels, index = np.unique(np.concatenate([trials.probes, trials.gallery]), return_inverse=True)
    probes, gallery = np.split(index, [len(trials.probes)])

    def count(n: NDArray[np.intp], g: NDArray[np.intp]) -> NDArray[np.float64]:  # (L, L): probe person × gallery person
        cells = np.bincount(probes[n] * len(labels) + gallery[g], minlength=len(labels) ** 2)
        return cells.reshape(len(labels), len(labels)).astype(np.float64)

    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), _RESAMPLES).astype(np.float64)
    comparisons = count(*np.nonzero(trials.impostor))
    return len(n), int(comparisons.sum()), clustered_upper(count(n, g), comparisons, weights, confidence)


def binomial_upper(errors: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the Clopper–Pearson upper bound: the rate at which `errors` or fewer have probability 1 − confidence."""
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
    """Return the lowest threshold on the grid that at most `allowed` impostor scores (falling order) reach."""
    highest_refused = falling[allowed]
    step = math.floor(float(highest_refused) * _STEPS_PER_UNIT) + 1
    while np.float32(step / _STEPS_PER_UNIT) <= highest_refused:  # compare in float32, the type of the scores
        step += 1
    return step / _STEPS_PER_UNIT


def _row(  # noqa: PLR0917  # the parts of one row
    trials: Trials,
    rule: Rule,
    rates: Sequence[float],
    thresholds: NDArray[np.float32],
    norm: float,
    rng: np.random.Generator,
) -> Row:
    """Return the row of one number of templates: thresholds (rates, S), and their error counts."""
    genuine = Decided(trials, rule, *np.nonzero(trials.genuine))
    levels = []
    for rate, limits in zip(rates, thresholds, strict=True):
        errors, comparisons, upper = measured(trials, rule, limits, rng)
        levels.append(
            Level(
                fmr=rate,
                thresholds=tuple(round(float(t), 4) for t in limits),
                errors=errors,
                upper=_rounded(upper),
                upper_binomial=_rounded(binomial_upper(errors, comparisons)),
                tar=_rounded(len(genuine.matched(limits)[0]) / max(len(genuine.n), 1)),
            )
        )
    return Row(
        templates=trials.templates,
        norm=_rounded(norm),
        people=len(trials.gallery),
        comparisons=int(trials.impostor.sum()),
        levels=tuple(levels),
    )


class Decided:
    """A subset of pairs (encounter n, person g) of trials, for repeated decisions with other thresholds."""

    def __init__(self, trials: Trials, rule: Rule, n: NDArray[np.intp], g: NDArray[np.intp]) -> None:
        self.n, self.g = n, g
        self._scores = rule.means(trials.scores)[:, n, g]  # (J, M)
        self._shares = np.stack([shares_of(norms, rule.shot_norms) for norms in rule.means(trials.shot_norms)])

    def matched(self, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the pairs whose score reaches the threshold at any of the means."""
        hit = (self._scores >= (self._shares @ thresholds)[:, self.n]).any(axis=0)
        return self.n[hit], self.g[hit]

    def excess(self, thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (M,): the largest difference between score and threshold over the means of each pair."""
        return np.asarray((self._scores - (self._shares @ thresholds)[:, self.n]).max(axis=0), np.float32)


class _Tail:
    """The highest impostor scores of trials, from which thresholds are found."""

    def __init__(self, trials: Trials, rule: Rule, impostor: NDArray[np.bool_], share: float) -> None:
        self._comparisons = int(impostor.sum())
        kept = min(int(share * self._comparisons) + 1, self._comparisons)
        tails = [np.sort(np.partition(trials.scores[s - 1][impostor], -kept)[-kept:])[::-1] for s in SHOT_COUNTS]
        self._tails = np.stack(tails)  # (S, kept) falling
        high = impostor & (rule.means(trials.scores).max(axis=0) >= self._tails.min())
        self.decided = Decided(trials, rule, *np.nonzero(high))

    def thresholds(self, fmr: float, least: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (S,) thresholds, not below `least`, that at most a share `fmr` of strangers' encounters reaches.

        All running means have the same false match rate. Bisection finds the rate at which the encounters' decisions
        reach `fmr`.
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
    """Return the upper bound of errors / comparisons by a bootstrap over people.

    `errors` and `comparisons` are (L, L) counts, probe person × gallery person. `weights` (B, L): how often each of B
    resamples draws each person. The bound assumes a log-normal rate over the resamples; of the bounds compared on
    simulated cohorts its coverage was nearest to `confidence` (docs/adr/0004-threshold.md).
    """
    drawn_errors, drawn = (((weights @ table) * weights).sum(axis=1) for table in (errors, comparisons))
    log_rates = np.log(np.maximum(drawn_errors, 0.5) / np.maximum(drawn, 1.0))  # zero errors count as one half
    rate = max(float(errors.sum()), 0.5) / float(comparisons.sum())
    return min(1.0, rate * math.exp(NormalDist().inv_cdf(confidence) * float(log_rates.std())))


def _rounded(x: float | np.floating) -> float:
    return float(f"{x:.4g}")
