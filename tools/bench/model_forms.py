"""`python -m tools.bench forms`: compare the shipped int8 network with float32, plain int8 and the machine's limit.

The forms run in turns through the product's embedder, with equal session options, preprocessing and load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge.bench import progress
from edge.bench.timing import interleaved, ratio, spread
from edge.models import golden
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest, load_verified
from edge.models.onnxfile import Graph, read, write
from edge.vision.embedder import Embedder, OnnxRuntime, load_embedder
from tools.bench import engine, forms
from tools.lab.unroll import rolled

_SHIPPED, _PLAIN, _FLOAT, _FLOAT_SAME = "int8", "int8 plain QDQ", "fp32", "fp32 of the int8 graph"


def measure(name: str, *, rounds: int = 100) -> dict[str, Any]:
    """Time the shipped file, its other forms and bare int8 products in turns, on one thread; raises EdgeError."""
    entry = load_manifest().embedder(name)
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
        "model": name,
        "id": entry.id,
        "int8_speedup_over_fp32": round(ratio(times[_FLOAT], times[_SHIPPED]), 3),
        "int8_speedup_over_fp32_of_the_same_graph": round(ratio(times[_FLOAT_SAME], times[_SHIPPED]), 3),
        "mfm_speedup_over_qdq": round(ratio(times[_PLAIN], times[_SHIPPED]), 3),
        "ratio_to_int8_peak": round(float(np.median(times[_SHIPPED])) / limit_s, 3),
        "int8_peak": {"product": best, "gmac_per_s": round(1 / per_gmac[best], 1), "limit_ms": round(limit_s * 1e3, 3)},
        "gmac": round(gmacs(made[_FLOAT], entry), 4),
        "rows": [
            {"form": f, **spread(times[f]).as_dict(), "least_cosine_to_fp32": _least_cosine(v, reference[_FLOAT])}
            for f, v in reference.items()
        ],
    }


def make_forms(entry: EmbedderEntry) -> dict[str, Graph]:
    """Return the other forms of the shipped network, made from its own weights; raises ModelError."""
    same = forms.float_form(read(rolled(load_verified(entry, "onnxruntime"))))
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


def _embedding(embedder: Embedder, crop: Any) -> Callable[[], object]:
    return lambda: embedder.embed(crop)


def _activations(
    graph: Graph, names: Sequence[str], entry: EmbedderEntry, crops: Sequence[Any]
) -> list[dict[str, engine.Array]]:
    (name,) = graph.inputs
    return [engine.evaluate(graph, names, {name: entry.contract.prepare(crop.pixels)}) for crop in crops]


def _ranges(graph: Graph, entry: EmbedderEntry) -> dict[str, forms.Range]:
    """Return the lowest and highest value of each activation over the golden crops."""
    names = forms.activations(graph)
    found = _activations(graph, names, entry, golden.crops(entry.contract))
    return {n: (min(float(f[n].min()) for f in found), max(float(f[n].max()) for f in found)) for n in names}


def _least_cosine(vectors: Sequence[engine.Array], others: Sequence[engine.Array]) -> float:
    return round(min(float(a @ b) for a, b in zip(vectors, others, strict=True)), 5)
