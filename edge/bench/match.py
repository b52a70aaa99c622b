"""`edge-bench match`: one probe against galleries of 10 to 1,000,000 templates, on one thread.

There are two galleries of each size: 12 templates a person, as the product enrols, and one template a person. The
second is slower: the matcher keeps one row a person, so its time grows with the people, and beyond the caches with the
memory traffic. Each probe is also compared with the cohort, in constant time: the time with 10 templates shows it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bench import progress, worker
from edge.bench.timing import interleaved, memory_mb, spread, time_one
from edge.identity.matcher import Matcher
from edge.models.manifest import load_manifest
from edge.processes.gallery import load_calibration, load_cohort

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
TEMPLATES_PER_PERSON = (12, 1)
_COPIES = 4  # of the template matrix, needed for a moment while a matcher is built
_SEED = 20


@dataclass(frozen=True, slots=True)
class RandomGallery:
    """Unit vectors in random directions: the time of a match does not depend on the values."""

    templates: NDArray[np.float32]  # (N, D) float32, unit rows
    owner: NDArray[np.intp]  # (N,)
    ids: tuple[str, ...]
    ignored: NDArray[np.bool_]  # (P,)
    rotation: NDArray[np.float32]  # (D, D) float32, orthogonal: a store's gallery rotates each probe too
    statistics: NDArray[np.float32] | None = None  # (P, 2); a store's gallery has them

    def rotate(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map embeddings into the space of the templates."""
        return vectors @ self.rotation


def random_gallery(templates: int, per_person: int, dimension: int) -> RandomGallery:
    """Return a gallery of `templates` templates, the last person's possibly fewer than `per_person`."""
    rng = np.random.default_rng(_SEED)
    vectors = rng.standard_normal((templates, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.arange(templates) // per_person
    people = int(owner[-1]) + 1
    rotation, _ = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    return RandomGallery(
        vectors, owner, tuple(f"p{i}" for i in range(people)), np.zeros(people, np.bool_), rotation.astype(np.float32)
    )


def measure(model: str, *, sizes: tuple[int, ...] = SIZES, rounds: int = 50) -> dict[str, Any]:
    """Return the figures of all sizes, each from a process of its own with libraries on one thread."""
    rows = []
    with progress.bar("galleries", len(sizes) * len(TEMPLATES_PER_PERSON)) as advance:
        for per_person in TEMPLATES_PER_PERSON:
            for templates in sizes:
                rows.append(
                    worker.call(
                        __name__, "one_size", model=model, templates=templates, per_person=per_person, rounds=rounds
                    )
                )
                advance()
    return {"model": model, "threads": 1, **_headlines(rows), "rows": rows}


def one_size(model: str, templates: int, per_person: int, rounds: int) -> dict[str, Any]:
    """Return the figures of one gallery, for the worker; a gallery beyond the memory is reported as such."""
    entry = load_manifest().embedder(model)
    row: dict[str, Any] = {"templates": templates, "templates_per_person": per_person}
    needed_mb, free_mb = _COPIES * templates * entry.dimension * 4 / 2**20, available_mb()
    if needed_mb > free_mb:
        return {**row, "said": f"not measured: {needed_mb:.0f} MB needed, {free_mb:.0f} MB free"}
    point, cohort = load_calibration(entry).at(1e-3), load_cohort(entry)
    gallery = random_gallery(templates, per_person, entry.dimension)
    gallery = replace(gallery, statistics=np.tile(np.array(cohort.usual, np.float32), (len(gallery.ids), 1)))
    made: list[Matcher] = []
    load_s = time_one(lambda: made.append(Matcher(gallery, point, cohort, 0.05)))
    probe = gallery.templates[templates // 2] @ gallery.rotation.T
    probe /= np.linalg.norm(probe)
    times = interleaved({"match": lambda: made[0].match(probe)}, rounds)["match"]
    peak_mb = memory_mb()[1]
    people = len(gallery.ids)
    return {
        **row,
        "people": people,
        "load_ms": round(load_s * 1e3, 2),
        **spread(times).as_dict(),
        "peak_rss_mb": peak_mb,
    }


def available_mb() -> float:
    """Return the free memory, MB."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20


def _headlines(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures at 100,000 templates, a common size for comparisons, under names of their own."""
    named = {12: "match_100k_templates_ms", 1: "match_100k_people_ms"}
    found = {row["templates_per_person"]: row.get("p50_ms") for row in rows if row["templates"] == 100_000}
    return {name: found[per_person] for per_person, name in named.items() if per_person in found}


def table(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    return list(report["rows"])
