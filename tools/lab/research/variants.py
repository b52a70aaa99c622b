"""Compare cohorts by number of members, nearest members and balance: python -m tools.lab variants.

Each variant scores single pictures (mean of picture and mirror image) of the calibration's people. Its threshold holds
the false match rate in the worst group. The table shows the share of the validation people's genuine pairs that reach
the threshold, and the spread of the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.identity.cohort import highest
from tools.lab.cohort import NEAREST, Counts, Strangers, balanced, prepared
from tools.lab.embeddings import CACHE
from tools.lab.engines import Shipped
from tools.lab.figures import Vectors
from tools.lab.kinds import kind_of
from tools.lab.populations import CELEBRITIES
from tools.lab.report import markdown, percent

RATES = (1e-2, 1e-3)
_MEMBERS, _NEAREST = (25, 100), (30, 150, 300)

Scores = NDArray[np.float32]  # (N, N)


def compare(network: Shipped, folder: Path, cache: Path | None = CACHE) -> list[dict[str, Any]]:
    """Return one record per variant."""
    pool, strangers = prepared(network, kind_of(network.entry), folder, cache)
    rows = [_row("cosine", strangers, lambda s: s.directions @ s.directions.T)]
    with_all = balanced(pool, strangers)
    sizes: dict[str, Counts] = {f"{n} of each cell": dict.fromkeys(pool, n) for n in _MEMBERS}
    without = {cell: 0 if cell == CELEBRITIES else 100 for cell in pool}
    sizes |= {"100, without celebrities": without, "balanced": with_all}
    for name, counts in sizes.items():
        members = np.concatenate([own[: counts[cell]] for cell, own in pool.items()])
        rows += [_row(f"{name}, K = {k}", strangers, _normalised(members, k, spread=True)) for k in _NEAREST]
    members = np.concatenate([own[: with_all[cell]] for cell, own in pool.items()])
    rows.append(_row(f"balanced, K = {NEAREST}, mean alone", strangers, _normalised(members, NEAREST, spread=False)))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the records as Markdown."""
    head = ["Variant", *(f"pairs recognised at {rate:g} in the worst group" for rate in RATES)]
    head += [f"third lowest group over the worst, at {rate:g}" for rate in RATES]
    shares = [[percent(row[f"recognised_{rate:g}"]) for rate in RATES] for row in rows]
    apart = [[f"{row[f'low_over_worst_{rate:g}']:.2f}" for rate in RATES] for row in rows]
    return markdown(head, [[r["variant"], *s, *a] for r, s, a in zip(rows, shares, apart, strict=True)])


def _normalised(members: Vectors, nearest: int, *, spread: bool) -> Callable[[Strangers], Scores]:
    def score(s: Strangers) -> Scores:
        mean, deviation = highest(s.directions @ members.T, nearest).T
        directed = s.directions @ s.directions.T - mean[:, None]
        if spread:
            directed /= deviation[:, None]
        return np.asarray((directed + directed.T) / 2, np.float32)

    return score


def _row(variant: str, strangers: Mapping[str, Strangers], score: Callable[[Strangers], Scores]) -> dict[str, Any]:
    scores = {name: score(s) for name, s in strangers.items()}
    genuine = scores[CELEBRITIES][strangers[CELEBRITIES].same]
    found: dict[str, Any] = {"variant": variant}
    for rate in RATES:
        impostors = [scores[name][s.pairs] for name, s in strangers.items()]
        threshold = max(float(np.quantile(x, 1 - rate)) for x in impostors)
        found[f"recognised_{rate:g}"] = round(float((genuine >= threshold).mean()), 4)
        found[f"low_over_worst_{rate:g}"] = round(
            sorted(float((x >= threshold).mean()) for x in impostors)[2] / rate, 3
        )
    return found
