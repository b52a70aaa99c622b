"""`edge-bench model`: latency of each model on each back end, and its sustained rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from edge.bench import progress, worker
from edge.bench.timing import interleaved, memory_mb, spread, time_one
from edge.config import Config
from edge.errors import DependencyError, EdgeError
from edge.models import golden
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest
from edge.records import Frame
from edge.vision.embedder import Embedder, load_embedder, open_embedder

BACKENDS = ("onnxruntime", "litert")
_END_S = 5.0  # a sustained run compares its first and last seconds


def measure(name: str, *, rounds: int = 100, sustain_s: float = 60.0) -> dict[str, Any]:
    """Return every figure of one embedder and of the detector; raises EdgeError."""
    entry = load_manifest().embedder(name)
    report: dict[str, Any] = {"model": name, "id": entry.id}
    report["rows"] = _rows(entry, rounds)
    report["sustained"] = sustained(name, sustain_s) if sustain_s > 0 else None
    return report


def sustained(name: str, seconds: float) -> dict[str, Any]:
    """Embed without pause on all processors, which shows heat; return the rates of the first and last seconds."""
    embedder = open_embedder(name, "onnxruntime", os.cpu_count() or 1)
    crop = golden.crops(embedder.contract)[0]
    run, begin_s = _embedding(embedder, crop), time.perf_counter()
    ends_s: list[float] = []
    with progress.bar(f"sustained for {seconds:.0f} s", max(1, int(seconds))) as advance:
        while not ends_s or ends_s[-1] < seconds:
            run()
            ends_s.append(time.perf_counter() - begin_s)
            if len(ends_s) > 1 and int(ends_s[-1]) > int(ends_s[-2]):
                advance()
    ends, window_s = np.array(ends_s), min(_END_S, seconds / 2)
    first = float((ends <= window_s).sum() / window_s)
    last = float((ends > ends[-1] - window_s).sum() / window_s)
    figures = {"embeddings_per_s_first": first, "embeddings_per_s_last": last, "last_over_first": last / first}
    return {"seconds": seconds, "threads": os.cpu_count() or 1, **{k: round(v, 3) for k, v in figures.items()}}


def in_own_process(kind: str, name: str, backend: str, threads: int) -> dict[str, float]:
    """Load one model and run it once, where nothing else is loaded; for the worker."""
    before_mb = memory_mb()[1]
    start = time.perf_counter()
    run = _subject(kind, name, backend, threads)
    load_ms = (time.perf_counter() - start) * 1e3
    first_ms = time_one(run) * 1e3
    peak_mb = memory_mb()[1]
    figures = {"load_ms": load_ms, "first_ms": first_ms, "peak_rss_mb": peak_mb, "own_rss_mb": peak_mb - before_mb}
    return {key: round(value, 2) for key, value in figures.items()}


def _rows(entry: EmbedderEntry, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each model, back end and thread count; rows of one thread count are measured side by side."""
    rows = []
    counts = sorted({1, os.cpu_count() or 1})
    with progress.bar("models and back ends", len(counts) * (1 + len(BACKENDS)) + rounds * len(counts)) as advance:
        for threads in counts:
            chosen = [("detector", "yunet", "onnxruntime")]
            chosen += [("embedder", entry.name, backend) for backend in BACKENDS if backend in entry.files]
            subjects, heads = {}, {}
            for kind, name, backend in chosen:
                head: dict[str, Any] = {"model": name, "backend": backend, "threads": threads}
                try:
                    subjects[backend + name] = _subject(kind, name, backend, threads)
                    head |= worker.call(
                        __name__, "in_own_process", kind=kind, name=name, backend=backend, threads=threads
                    )
                except DependencyError as e:
                    rows.append({**head, "said": f"{e.what}: {e.remedy}"})
                    continue
                if kind == "embedder":
                    head["golden_cosine"] = _golden_cosine(entry, backend, threads)
                heads[backend + name] = head
                advance()
            times = interleaved(subjects, rounds, after_round=advance)
            rows += [{**head, **spread(times[key]).as_dict()} for key, head in heads.items()]
    return rows


def _subject(kind: str, name: str, backend: str, threads: int) -> Callable[[], object]:
    if kind == "embedder":
        embedder = load_embedder(load_manifest().embedder(name), backend, threads, MANIFEST.parent)
        return _embedding(embedder, golden.crops(embedder.contract)[0])
    from edge.processes.assembly import build_detector  # noqa: PLC0415  # only here, and it loads much

    config = Config()
    config = msgspec.structs.replace(config, recognition=msgspec.structs.replace(config.recognition, threads=threads))
    detector, frame = build_detector(config), Frame(np.full((480, 640, 3), 127, np.uint8), 0.0, 0)
    return lambda: detector.detect(frame)


def _embedding(embedder: Embedder, crop: Any) -> Callable[[], object]:
    return lambda: embedder.embed(crop)


def _golden_cosine(entry: EmbedderEntry, backend: str, threads: int) -> float | str:
    embedder = load_embedder(entry, backend, threads, MANIFEST.parent)
    content = entry.golden.locate(MANIFEST.parent).read_bytes()
    try:
        return round(golden.check(entry, backend, content, embedder.embed), 5)
    except EdgeError as e:
        return e.what


def table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    return list(report["rows"])
