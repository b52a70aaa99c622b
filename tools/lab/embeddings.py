"""Embeddings of the face crops, computed in several processes and cached by the hash of the model."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from edge.errors import ModelError
from edge.records import AlignedFace
from tools.lab import data
from tools.lab.engines import Subject
from tools.lab.figures import Vectors

CACHE = Path.home() / ".cache/edge-face-lab"
_CHUNK = 500  # crops per task: about ten tasks per process, so that both processes end at about the same time

Table = dict[str, Vectors]  # key → (D,) float32, norm 1


def embed_split(
    subject: Subject,
    folder: Path,
    split: str,
    wanted: Sequence[str],
    *,
    mirrored: bool = False,
    cache: Path | None = CACHE,
    workers: int = 2,
) -> Table:
    """Return key → embedding of the `wanted` crops of one split; missing embeddings are computed and cached.

    `mirrored`: embed the mirror images of the crops. Results are cached as they are computed, so an interrupted
    measurement continues.
    """
    path = None if cache is None else cache / f"{_name(subject, folder, split)}{'-mirrored' * mirrored}.npz"
    known = {} if path is None else read(path)
    missing = [key for key in wanted if key not in known]
    started_s = time.monotonic()
    for table in _compute(subject, folder, split, missing, mirrored=mirrored, workers=workers):
        known |= table
        if path is not None:
            write(path, known)
    if missing:
        took_s = time.monotonic() - started_s
        print(f"{split}: {len(missing)} crops embedded in {took_s:.0f} s by {subject.digest[:12]}…", file=sys.stderr)
    return {key: known[key] for key in wanted}


def _compute(
    subject: Subject, folder: Path, split: str, keys: Sequence[str], *, mirrored: bool, workers: int
) -> Iterator[Table]:
    chunks = [keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)]
    if workers == 1 or len(chunks) <= 1:
        yield from (_embed(subject, folder, split, chunk, mirrored) for chunk in chunks)
        return
    spawn = multiprocessing.get_context("spawn")  # an engine's threads do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for job in as_completed([pool.submit(_embed, subject, folder, split, chunk, mirrored) for chunk in chunks]):
            yield job.result()


def _embed(subject: Subject, folder: Path, split: str, keys: Sequence[str], mirrored: bool) -> Table:
    embed = subject.open()
    crops = data.crops(folder, split, keys)
    return {key: embed(AlignedFace(crop).mirrored.pixels if mirrored else crop) for key, crop in crops}


def _name(subject: Subject, folder: Path, split: str) -> str:
    """Return the cache name, which depends on the model and on the files of the split."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in data.tars(folder, split)]
    return f"{subject.digest[:16]}-{split}-{hashlib.sha256(repr(files).encode()).hexdigest()[:8]}"


def read(path: Path) -> Table:
    """Return the embeddings of a cache file, empty where there is no file; raises ModelError for an invalid file."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as f, np.load(f) as archive:
            return dict(zip(archive["keys"].tolist(), archive["vectors"], strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise ModelError(f"{path}: not a cache of embeddings: {e}", "delete it, it will be made again") from e


def write(path: Path, table: Table) -> None:
    """Write embeddings to a cache file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as f:
        np.savez(f, keys=np.array(list(table)), vectors=np.stack(list(table.values())))
    os.replace(f.name, path)  # noqa: PTH105  # the name is a str
