"""Measure whether an attacker with two decrypted stores can link the templates of the same person.

Linkability D_sys: Gomez-Barrero, Galbally, Rathgeb, Busch, "General Framework to Evaluate Unlinkability in Biometric
Template Protection Systems", IEEE TIFS 2018. With the densities p = p(s|mated) and q = p(s|other) of a score s, and
equal priors, D(s) = max(0, 2·LR / (1 + LR) − 1) with LR = p / q, which equals max(0, (p − q) / (p + q)). D_sys is the
mean of D over mated scores: 0 is unlinkable, 1 is fully linkable. Histograms estimate the densities and give a small
positive value even without linkability. D_sys of shuffled pairs is therefore reported as a baseline.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.identity.keys import StoreKey
from edge.identity.store import Gallery, Store
from edge.models.manifest import MANIFEST, load_manifest
from edge.records import AlignedFace
from edge.vision.embedder import load_embedder
from tools.lab import data
from tools.rig import Missing

CLAIM = "Templates of the same people on two devices cannot be linked by comparing them, and match as well as before."

MODEL = "5f" * 32
MOST = 0.01
MOST_SHORT = 0.1  # with 10 pairs of devices the baseline is 0.035 ± 0.008 (120 draws); without rotation D_sys is 0.6
_BINS = 20
_EACH = 6  # templates a person and device
_RENEWED = 1000  # templates whose renewal is timed
_RENEWAL_S = 1.0

Vectors = NDArray[np.float32]  # (N, D), unit rows
Scores = NDArray[np.float64]


def prove(*, short: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures; raises AssertionError where templates can be linked, or match otherwise than before."""
    count, pairs = (6, 10) if short else (150, 40)
    say(f"embedding {2 * _EACH * count} faces of {count} people")
    people = _people(count)
    ours, theirs = people[:, :_EACH], people[:, _EACH:]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="edge-unlink-") as name:
        one, other = (_store(Path(name) / f"{i}.edge", i, part) for i, part in enumerate((ours, theirs)))
        mated, strangers = _Pool(), _Pool()
        say(f"{pairs} pairs of devices")
        for _ in range(pairs):
            one.renew()
            other.renew()
            _compare(one.gallery().templates, other.gallery().templates, rng, mated, strangers)
        plain_mated, plain_strangers = _Pool(), _Pool()
        _compare(ours.reshape(-1, ours.shape[2]), theirs.reshape(-1, ours.shape[2]), rng, plain_mated, plain_strangers)
        moved = _match_as_before(one.gallery(), ours, theirs)
        renewal_s = _renewal(Path(name) / "large.edge", people, repeats=1 if short else 5)
    linked = linkability(mated.all, strangers.all)
    shuffled = linkability(*_shuffled(mated.all, strangers.all, rng))
    plain = linkability(plain_mated.all, plain_strangers.all)
    assert linked <= (MOST_SHORT if short else MOST), f"D_sys is {linked:.4f}"
    assert short or renewal_s <= _RENEWAL_S, f"renewal takes {renewal_s:.2f} s"
    return {
        "people": count,
        "templates_a_person_and_device": _EACH,
        "pairs_of_devices": pairs,
        "mated_scores": len(mated.all),
        "d_sys": round(linked, 4),
        "d_sys_of_shuffled_pairs": round(shuffled, 4),
        "d_sys_without_rotation": round(plain, 4),
        "largest_change_of_a_score": float(f"{moved:.1e}"),
        "renewal_of_1000_templates_s": round(renewal_s, 3),
        **_by_shape(people, rng),
    }


class _Pool:
    """Scores of many comparisons."""

    def __init__(self) -> None:
        self._parts: list[Scores] = []

    def add(self, scores: Scores) -> None:
        self._parts.append(scores.ravel())

    @property
    def all(self) -> Scores:
        return np.concatenate(self._parts)


def linkability(mated: Scores, strangers: Scores, bins: int = _BINS) -> float:
    """Return D_sys of two samples of scores, 0..1."""
    edges = np.quantile(np.concatenate([mated, strangers]), np.linspace(0, 1, bins + 1))
    edges[0], edges[-1] = -np.inf, np.inf
    p, q = (np.histogram(scores, np.unique(edges))[0] / len(scores) for scores in (mated, strangers))
    total = p + q
    local = np.divide(np.maximum(p - q, 0.0), total, out=np.zeros_like(total), where=total > 0)
    return float((p * local).sum())


@lru_cache(maxsize=1)
def _people(count: int) -> NDArray[np.float32]:
    """Return (P, 12, D) embeddings of validation people by the shipped model."""
    if not (data.DEFAULT / "index.csv").is_file():
        raise Missing("the face crops of ../shared/data are not there")
    identity, by_person = data.identities(data.DEFAULT), dict[int, list[str]]()
    for key in data.keys(data.DEFAULT, "val"):
        by_person.setdefault(identity[key], []).append(key)
    chosen = [keys[: 2 * _EACH] for keys in by_person.values() if len(keys) >= 2 * _EACH][:count]
    assert len(chosen) == count, f"{len(chosen)} people have {2 * _EACH} pictures"
    entry = load_manifest(MANIFEST).embedder("lightcnn9")
    embedder = load_embedder(entry, "onnxruntime", 1, MANIFEST.parent)
    wanted = [key for keys in chosen for key in keys]
    table = {key: embedder.embed(AlignedFace(crop)).vector for key, crop in data.crops(data.DEFAULT, "val", wanted)}
    return np.stack([np.stack([table[key] for key in keys]) for keys in chosen])


def _store(path: Path, number: int, people: NDArray[np.float32]) -> Store:
    store = Store.create(path, StoreKey(bytes([number]) * 32), MODEL, people.shape[2])
    for i, vectors in enumerate(people):
        store.add(f"person {i}", vectors)
    return store


def _compare(one: Vectors, other: Vectors, rng: np.random.Generator, mated: _Pool, strangers: _Pool) -> None:
    """Add the cosines of all templates of one person on two devices, and as many cosines of two persons."""
    count = len(one) // _EACH
    scores = (one.astype(np.float64) @ other.T).reshape(count, _EACH, count, _EACH)
    same = np.arange(count)
    mated.add(scores[same, :, same, :])
    strangers.add(scores[same, :, (same + rng.integers(1, count)) % count, :])


def _shuffled(mated: Scores, strangers: Scores, rng: np.random.Generator) -> tuple[Scores, Scores]:
    both = rng.permutation(np.concatenate([mated, strangers]))
    return both[: len(mated)], both[len(mated) :]


def _match_as_before(gallery: Gallery, enrolled: NDArray[np.float32], probes: NDArray[np.float32]) -> float:
    """Return the largest change of any score between probes and templates; raises AssertionError above rounding."""
    flat = probes.reshape(-1, probes.shape[2])
    before = flat @ enrolled.reshape(-1, probes.shape[2]).T
    moved = float(np.abs(gallery.rotate(flat) @ gallery.templates.T - before).max())
    assert moved < 1e-5, f"rotation moves a score by {moved}"
    return moved


def _renewal(path: Path, people: NDArray[np.float32], repeats: int) -> float:
    """Return the median time to renew a store of 1,000 templates, s."""
    flat = people.reshape(-1, people.shape[2])
    rows = flat[np.arange(_RENEWED) % len(flat)].reshape(-1, 10, people.shape[2])
    store, times = _store(path, 7, rows), []
    for _ in range(repeats):
        began_s = time.perf_counter()
        store.renew()
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)


def _by_shape(people: NDArray[np.float32], rng: np.random.Generator) -> dict[str, float]:
    """Return the linkability by the angles between one person's templates, which a rotation does not change.

    The score of two template sets is the distance of the eigenvalues of their cosine matrices. It is not part of the
    claim.
    """

    def shape(vectors: NDArray[np.float32]) -> Scores:
        wide = vectors.astype(np.float64)
        return np.asarray(np.linalg.eigvalsh(wide @ wide.transpose(0, 2, 1)), np.float64)

    ours, theirs = shape(people[:, :_EACH]), shape(people[:, _EACH:])
    others = (np.arange(len(ours)) + rng.integers(1, len(ours))) % len(ours)

    def d_sys_of(second: Scores) -> float:
        mated, strangers = (-np.linalg.norm(ours - rows, axis=1) for rows in (second, second[others]))
        return round(linkability(mated, strangers, bins=4), 2)

    return {"d_sys_by_shape_other_photos": d_sys_of(theirs), "d_sys_by_shape_same_photos": d_sys_of(ours)}
