"""`edge-bench model`: latency of each model on each back end, and how far int8 is from float32 and from the machine.

Forms of one network are compared in interleaved runs through the product's own embedder, so each sees the same session
options, the same preprocessing and the same noise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edge.bench import engine, forms, progress, worker
from edge.bench.timing import interleaved, memory_mb, ratio, spread, time_one
from edge.config import Config
from edge.errors import DependencyError, EdgeError
from edge.models import golden
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest, load_verified
from edge.models.onnxfile import Graph, read, write
from edge.records import Frame
from edge.vision.embedder import Embedder, OnnxRuntime, load_embedder, open_embedder

BACKENDS = ("onnxruntime", "litert")
_SHIPPED, _PLAIN, _FLOAT, _FLOAT_SAME = "int8", "int8 plain QDQ", "fp32", "fp32 of the int8 graph"
_END_S = 5.0  # of a sustained run: its first and last seconds are compared


def measure(name: str, *, rounds: int = 100, sustain_s: float = 60.0) -> dict[str, Any]:
    """Return every figure of one embedder and of the detector; raises EdgeError."""
    entry = load_manifest().embedder(name)
    report: dict[str, Any] = {"model": name, "id": entry.id}
    report |= _compare_forms(entry, rounds)
    report["rows"] = _rows(entry, rounds)
    report["sustained"] = sustained(name, sustain_s) if sustain_s > 0 else None
    return report


def _compare_forms(entry: EmbedderEntry, rounds: int) -> dict[str, Any]:
    """Time the shipped file, its other forms and bare int8 products in turn, on one thread."""
    made = make_forms(entry)
    embedders = {form: Embedder(entry, OnnxRuntime(write(graph), 1)) for form, graph in made.items()}
    embedders = {_SHIPPED: load_embedder(entry, "onnxruntime", 1, MANIFEST.parent), **embedders}
    crop = golden.crops(entry.contract)[0]
    products = engine.integer_products()
    subjects: dict[str, Callable[[], object]] = {f: _embedding(e, crop) for f, e in embedders.items()}
    subjects |= {name: run for name, (_, run) in products.items()}
    with progress.bar("forms of the model", rounds) as advance:
        times = interleaved(subjects, rounds, after_round=advance)
    per_gmac = {name: float(np.median(times[name])) / gmac for name, (gmac, _) in products.items()}  # s
    best = min(per_gmac, key=per_gmac.__getitem__)
    limit_s = gmacs(made[_FLOAT], entry) * per_gmac[best]
    reference = {f: [e.embed(c).vector for c in golden.crops(entry.contract)] for f, e in embedders.items()}
    return {
        "int8_speedup_over_fp32": round(ratio(times[_FLOAT], times[_SHIPPED]), 3),
        "int8_speedup_over_fp32_of_the_same_graph": round(ratio(times[_FLOAT_SAME], times[_SHIPPED]), 3),
        "mfm_speedup_over_qdq": round(ratio(times[_PLAIN], times[_SHIPPED]), 3),
        "ratio_to_int8_peak": round(float(np.median(times[_SHIPPED])) / limit_s, 3),
        "int8_peak": {"product": best, "gmac_per_s": round(1 / per_gmac[best], 1), "limit_ms": round(limit_s * 1e3, 3)},
        "gmac": round(gmacs(made[_FLOAT], entry), 4),
        "forms": {
            form: {**spread(times[form]).as_dict(), "least_cosine_to_fp32": _least_cosine(vectors, reference[_FLOAT])}
            for form, vectors in reference.items()
        },
    }


def make_forms(entry: EmbedderEntry) -> dict[str, Graph]:
    """Return the other forms of the shipped network, made from its own weights; raises ModelError."""
    same = forms.float_form(read(load_verified(entry, "onnxruntime")))
    plain = forms.plain_form(same)
    return {_PLAIN: forms.quantized(plain, _ranges(plain, entry)), _FLOAT: plain, _FLOAT_SAME: same}


def gmacs(plain: Graph, entry: EmbedderEntry) -> float:
    """Return the multiply-accumulates of one embedding, in billions, from the sizes of its convolutions."""
    convolutions = [node for node in plain.nodes if node.op == "Conv"]
    outputs = _activations(plain, [node.outputs[0] for node in convolutions], entry, golden.crops(entry.contract)[:1])[
        0
    ]
    each = (plain.tensors[n.inputs[1]][0].size * outputs[n.outputs[0]].size for n in convolutions)
    return float(sum(each)) / 1e9


def sustained(name: str, seconds: float) -> dict[str, Any]:
    """Embed without pause on all processors, as heat would show; return the rates of the first and last seconds."""
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
    """Return one row a model, back end and thread count; the rows of a thread count are taken side by side."""
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
                        "model", "in_own_process", kind=kind, name=name, backend=backend, threads=threads
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


def _activations(
    graph: Graph, names: Sequence[str], entry: EmbedderEntry, crops: Sequence[Any]
) -> list[dict[str, engine.Array]]:
    (name,) = graph.inputs
    return [engine.evaluate(graph, names, {name: entry.contract.prepare(crop.pixels)}) for crop in crops]


def _ranges(graph: Graph, entry: EmbedderEntry) -> dict[str, forms.Range]:
    """Return least and greatest value of each activation over the golden crops."""
    names = forms.activations(graph)
    found = _activations(graph, names, entry, golden.crops(entry.contract))
    return {n: (min(float(f[n].min()) for f in found), max(float(f[n].max()) for f in found)) for n in names}


def _least_cosine(vectors: Sequence[engine.Array], others: Sequence[engine.Array]) -> float:
    return round(min(float(a @ b) for a, b in zip(vectors, others, strict=True)), 5)


def table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a person reads."""
    return [{"form": form, **figures} for form, figures in report["forms"].items()] + list(report["rows"])
