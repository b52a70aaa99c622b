"""Make the cohort of a model, synthetic embeddings that normalise scores: python -m tools.lab cohort.

A member is the normalised mean of two people's embeddings. Both people are of one cell (`populations`). The member
resembles the people of that cell, and is no real person's embedding. The impostor scores of a group depend on the
group, so every cell has members. Their number per cell is found in a few rounds: a group whose strangers match more
often than strangers among the validation people gets more members, the others get fewer
(docs/adr/0016-normalised-scores.md). Nobody in the cohort takes part in calibration or measurement. The numbers are
found on the people of the calibration part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.identity import cohort
from edge.identity.cohort import Cohort
from edge.models.manifest import MANIFEST, EmbedderEntry, ModelFile
from tools.lab import finish
from tools.lab.embeddings import CACHE
from tools.lab.engines import Shipped, Subject
from tools.lab.figures import Vectors, unit
from tools.lab.grouped import FEWEST, People, embedded, people, prepare, validation
from tools.lab.kinds import Kind, kind_of
from tools.lab.populations import CELEBRITIES, Population, groups, groups_of

NEAREST = 100  # K: the number of nearest members that normalise a score
_FIRST, _LEAST, _MOST = 67, 7, 1000  # members of a cell: initial number, lowest, highest
_CELEBRITIES = 600  # members of the reference cell, constant
_ROUNDS, _STEP = 8, 0.5  # a round multiplies a group's members by the ratio of rates to this power
_RATES = (3e-3, 1e-3)  # false match rates at which groups are balanced
_SMOOTHING = 0.2  # share of a rate, added to both rates of a ratio: few comparisons may show no error
_FEWEST = 30  # lowest number of people of a cell with members
_SEED = 20_240_317

Counts = dict[str, int]  # cell → members


@dataclass(frozen=True, slots=True, eq=False)
class Strangers:
    """People of a group, with the normalised mean embedding of a picture and its mirror image."""

    directions: Vectors  # (N, D)
    pairs: NDArray[np.bool_]  # (N, N) whether the two are different people
    same: NDArray[np.bool_]  # (N, N) whether the two are pictures of one person


def make(network: Shipped, folder: Path, cache: Path | None = CACHE) -> tuple[Cohort, Counts]:
    """Return the cohort of a model from the crops under `folder`; the same input gives the same cohort."""
    pool, strangers = prepared(network, kind_of(network.entry), folder, cache)
    counts = balanced(pool, strangers)
    return cohort.made(network.entry.id, _joined(pool, counts), NEAREST), counts


def prepared(
    network: Subject, kind: Kind, folder: Path, cache: Path | None = CACHE
) -> tuple[dict[str, Vectors], dict[str, Strangers]]:
    """Return cell → candidate members (_MOST, D), and group → its people, for the balance."""
    rng = np.random.default_rng(_SEED)
    everybody = kind.populations(folder)
    cells = [cell for cell in (p.of("cohort") for p in everybody) if _people(cell) >= _FEWEST]
    measured = groups(everybody, "calibration")
    prepare(network, folder, cells, mirrored=False, cache=cache)
    prepare(network, folder, measured, cache=cache)
    pool = {cell.name: _members(network, folder, cell, rng, cache) for cell in cells}
    strangers = {g.name: _strangers(g) for g in (people(network, folder, m, cache) for m in measured)}
    strangers = {name: s for name, s in strangers.items() if len(s.directions) >= FEWEST}
    strangers[CELEBRITIES] = _strangers(people(network, folder, validation(kind, folder, 3), cache), every=True)
    return pool, strangers


def balanced(pool: Mapping[str, Vectors], strangers: Mapping[str, Strangers], nearest: int = NEAREST) -> Counts:
    """Return the members per cell that bring the groups' false match rates nearest to the validation people's rate."""
    counts = {cell: float(_CELEBRITIES if cell == CELEBRITIES else _FIRST) for cell in pool}
    groups_with = {cell: [g for g in strangers if g in (*groups_of(cell), cell)] for cell in pool}
    cosines = {
        name: {cell: s.directions @ members.T for cell, members in pool.items()} for name, s in strangers.items()
    }
    for _ in range(_ROUNDS):
        excess = _excess(strangers, cosines, counts, nearest)
        for cell, with_it in groups_with.items():
            if with_it and cell != CELEBRITIES:
                grown = counts[cell] * np.exp(_STEP * np.mean([excess[name] for name in with_it]))
                counts[cell] = float(np.clip(grown, _LEAST, _MOST))
    return {cell: int(count) for cell, count in counts.items()}


def _excess(
    strangers: Mapping[str, Strangers],
    cosines: Mapping[str, Mapping[str, NDArray[np.float32]]],
    counts: Mapping[str, float],
    nearest: int,
) -> dict[str, float]:
    """Return group → ln(its false match rate / the validation people's), mean over `_RATES`."""
    scores = {}
    for name, s in strangers.items():
        of_all = np.concatenate([c[:, : int(counts[cell])] for cell, c in cosines[name].items()], axis=1)
        mean, deviation = cohort.highest(of_all, nearest).T
        directed = (s.directions @ s.directions.T - mean[:, None]) / deviation[:, None]
        scores[name] = (directed + directed.T)[s.pairs]
    found = dict.fromkeys(scores, 0.0)
    for rate in _RATES:
        threshold = np.quantile(scores[CELEBRITIES], 1 - rate)
        for name, x in scores.items():
            counted = float((x >= threshold).mean()) / rate
            found[name] += float(np.log((counted + _SMOOTHING) / (1 + _SMOOTHING))) / len(_RATES)
    return found


def bind(made: Cohort, entry: EmbedderEntry, manifest: Path = MANIFEST) -> EmbedderEntry:
    """Write the cohort beside the manifest, and its hash into the model's entry; returns that entry."""
    content = cohort.encode(made)
    file = ModelFile(path=f"{entry.name}-cohort.npz", sha256=hashlib.sha256(content).hexdigest())
    (manifest.parent / file.path).write_bytes(content)
    bound = msgspec.structs.replace(entry, cohort=file)
    finish.replace(bound, manifest.parent)
    return bound


def report(made: Cohort, counts: Counts) -> dict[str, Any]:
    """Return the cohort's figures, ready for JSON."""
    return {
        "model": made.model,
        "members": len(made.vectors),
        "nearest": made.nearest,
        "usual": [round(x, 4) for x in made.usual],
        "bytes": len(cohort.encode(made)),
        "members_of_each_cell": counts,
    }


def _strangers(group: People, *, every: bool = False) -> Strangers:
    """Return a group's people, with the first picture of each, or with `every` picture."""
    first = np.unique(group.faces.person, return_index=True)[1]
    chosen = np.arange(len(group.faces.person)) if every else first
    judged, person = group.judged[chosen], group.faces.person[chosen]
    different = np.not_equal.outer(person, person) & (judged @ judged.T < group.doubtful)
    same = np.equal.outer(person, person) & ~np.eye(len(person), dtype=np.bool_)
    return Strangers(group.faces.templates[chosen], np.asarray(different, np.bool_), np.asarray(same, np.bool_))


def _people(group: Population) -> int:
    return len({picture.person for picture in group.pictures})


def _joined(pool: Mapping[str, Vectors], counts: Counts) -> Vectors:
    return np.concatenate([members[: counts[cell]] for cell, members in pool.items()])


def _members(network: Subject, folder: Path, cell: Population, rng: np.random.Generator, cache: Path | None) -> Vectors:
    """Return normalised means of two people's embeddings, (_MOST, D); consecutive members are of different pairs."""
    first = {picture.person: picture for picture in cell.pictures}
    faces = embedded(network, folder, list(first.values()), mirrored=False, cache=cache)
    order = np.concatenate([rng.permutation(len(faces)) for _ in range(-(-_MOST // len(faces)) + 1)])[: _MOST + 1]
    one, other = order[:-1], order[1:]
    other = np.where(one == other, (other + 1) % len(faces), other)
    return unit(faces[one] + faces[other])
