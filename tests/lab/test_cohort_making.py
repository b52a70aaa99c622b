from __future__ import annotations

import numpy as np

from tools.lab.cohort import Strangers, _excess, balanced
from tools.lab.figures import Vectors, unit
from tools.lab.populations import CELEBRITIES
from tools.lab.research import variants

D = 32


def alike(seed: int, count: int, share: float) -> Vectors:
    """Return directions with a common component of these shares."""
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(int(share * 1000)).normal(size=D)
    return unit((np.sqrt(1 - share) * rng.normal(size=(count, D)) + np.sqrt(share) * common).astype(np.float32))


def strangers(seed: int, share: float, pictures: int = 1) -> Strangers:
    rows = np.repeat(alike(seed, 150, share), pictures, axis=0)
    rows = unit(rows + 0.1 * np.random.default_rng(seed).normal(size=rows.shape).astype(np.float32))
    person = np.repeat(np.arange(150), pictures)
    same = np.equal.outer(person, person)
    return Strangers(rows, ~same, same & ~np.eye(len(rows), dtype=bool))


def test_balancing_brings_the_groups_nearer_to_the_validation_people() -> None:
    pool = {name: alike(seed, 1000, share) for seed, (name, share) in enumerate(SHARES.items())}
    cosines = {name: {cell: s.directions @ m.T for cell, m in pool.items()} for name, s in GROUPS.items()}
    counts = balanced(pool, GROUPS, nearest=50)
    assert counts == balanced(pool, GROUPS, nearest=50)
    assert counts[CELEBRITIES] == 600  # the reference group
    first, last = (_excess(GROUPS, cosines, c, 50) for c in ({**dict.fromkeys(pool, 67.0), CELEBRITIES: 600.0}, counts))
    for name in ("look the same", "differ"):
        assert (counts[name] > 67) == (first[name] > 0)  # more members where strangers match more often
        assert 7 <= counts[name] <= 1000
    assert sum(map(abs, last.values())) < sum(map(abs, first.values()))


def test_the_table_of_variants_has_the_recognised_pairs_of_each_cohort() -> None:
    cosine = variants._row("cosine", GROUPS, lambda s: s.directions @ s.directions.T)
    members = np.concatenate([alike(9, 300, share) for share in SHARES.values()])
    normalised = variants._row("cohort", GROUPS, variants._normalised(members, 50, spread=True))
    assert normalised["recognised_0.001"] > cosine["recognised_0.001"]
    assert variants.table([cosine, normalised]).splitlines()[2].startswith("| cosine | ")


SHARES = {CELEBRITIES: 0.1, "look the same": 0.6, "differ": 0.02}
GROUPS = {
    name: strangers(i, share, pictures=2 if name == CELEBRITIES else 1)
    for i, (name, share) in enumerate(SHARES.items(), 20)
}
