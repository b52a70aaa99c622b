"""Clopper–Pearson bounds of an error rate."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95  # two-sided


def clopper_pearson(errors: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the lower and upper bound of a rate after `errors` of `trials`, two-sided; (0, 1) without a trial.

    The exact interval of Clopper and Pearson, 1934. Raises ValueError where errors are more than trials or below 0.
    """
    if not 0 <= errors <= trials:
        raise ValueError(f"{errors} errors of {trials} trials")
    tail = (1 - confidence) / 2
    lower = 0.0 if errors == 0 else _solve(lambda p: 1 - _at_most(errors - 1, trials, p), tail, rising=True)
    upper = 1.0 if errors == trials else _solve(lambda p: _at_most(errors, trials, p), tail, rising=False)
    return lower, upper


def _at_most(errors: int, trials: int, rate: float) -> float:
    """Return the probability of at most `errors` of `trials`."""
    if rate <= 0.0:
        return 1.0
    if rate >= 1.0:
        return 1.0 if errors >= trials else 0.0
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(rate) + (trials - k) * math.log1p(-rate)
        for k in range(errors + 1)
    )  # fmt: skip
    return min(1.0, sum(map(math.exp, logs)))


def _solve(chance: Callable[[float], float], wanted: float, *, rising: bool) -> float:
    """Return the rate at which a monotonic probability is `wanted`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if (chance(middle) < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2
