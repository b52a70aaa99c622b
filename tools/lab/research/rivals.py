"""Time the shipped network on every inference engine that pip installs: one thread, in turns.

Each engine gets the network in the form that suits it, made from the shipped file's weights. The embeddings of the
golden crops are compared with float32. OpenVINO and ncnn are in no extra (`pip install openvino ncnn`); without them
their rows are left out.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.bench.timing import interleaved, ratio, spread
from edge.models import golden
from edge.models.exact import SHIFT_WEIGHTS
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest, load_verified
from edge.models.onnxfile import Graph, write
from edge.records import AlignedFace
from edge.vision.embedder import OnnxRuntime, load_embedder
from tools.bench import engine, model_forms
from tools.lab.figures import unit
from tools.lab.report import markdown
from tools.lab.research import ncnn_files
from tools.lab.unroll import rolled

Picture = NDArray[np.float32]  # (1, 1, 128, 128) in 0..1
Engine = Callable[[Picture], NDArray[np.float32]]  # → (256,)
Run = Callable[[AlignedFace], NDArray[np.float32]]  # → (256,), norm 1

_ROUNDS = 60
_SHIPPED = "onnxruntime: int8, as the device runs it"


def compare(name: str = "lightcnn9", rounds: int = _ROUNDS) -> dict[str, Any]:
    """Return the time of each engine and its lowest cosine to the float network; raises ModelError."""
    entry = load_manifest().embedder(name)
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(entry, Path(folder))
        crops = golden.crops(entry.contract)
        exact = [runs["onnxruntime: float32"](crop) for crop in crops]
        times = interleaved({title: partial(run, crops[0]) for title, run in runs.items()}, rounds)
    rows = {}
    for title, run in runs.items():
        least = min(float(run(crop) @ e) for crop, e in zip(crops, exact, strict=True))
        slower = round(ratio(times[title], times[_SHIPPED]), 2)
        rows[title] = {**spread(times[title]).as_dict(), "over_shipped": slower, "least_cosine": round(least, 4)}
    versions = {p: _version(p) for p in ("onnxruntime", "ai_edge_litert", "openvino", "ncnn")}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "versions": {package: version for package, version in versions.items() if version},
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "engines": dict(sorted(rows.items(), key=lambda row: float(row[1]["over_shipped"]))),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown."""
    head = ["Engine and form", "median, ms", "over the device's", "least cosine to float32"]
    rows = [
        [title, f"{row['p50_ms']:.2f}", f"{row['over_shipped']:.2f}", f"{row['least_cosine']:.4f}"]
        for title, row in figures["engines"].items()
    ]
    versions = ", ".join(f"{package} {version}" for package, version in figures["versions"].items())
    note = (
        f"Measured on {figures['machine']}, one thread, {figures['rounds']} rounds in which each runs once, ratios are "
        f"medians of the rounds' ratios; {versions}."
    )
    return f"{note}\n\n{markdown(head, rows)}"


def _runs(entry: EmbedderEntry, folder: Path) -> dict[str, Run]:
    shipped = load_verified(entry, "onnxruntime")
    made = model_forms.make_forms(entry)
    plain, same = made["int8 plain QDQ"], made["fp32 of the int8 graph"]
    files = {"int8": rolled(shipped), "int8, split and maximum": write(plain), "float32": write(made["fp32"])}
    runs: dict[str, Run] = {_SHIPPED: _product(entry, "onnxruntime")}
    if find_spec("ai_edge_litert") is not None:
        runs["LiteRT: int8"] = _product(entry, "litert")
    engines: dict[str, Engine] = {f"onnxruntime: {form}": OnnxRuntime(content, 1) for form, content in files.items()}
    engines["onnxruntime: int8, weights shifted to u8"] = _shifted(shipped)
    if find_spec("openvino") is not None:
        engines |= {f"OpenVINO: {form}": _openvino(content) for form, content in files.items()}
    if find_spec("ncnn") is not None:
        split = made["fp32"]
        engines["ncnn: int8"] = _ncnn(same, _largest(same, entry), folder / "int8")
        engines["ncnn: int8, split and maximum"] = _ncnn(split, _largest(split, entry), folder / "split")
        engines["ncnn: float32"] = _ncnn(split, None, folder / "float")
    return runs | {title: _normalized(run, entry) for title, run in engines.items()}


def _largest(graph: Graph, entry: EmbedderEntry) -> dict[str, float]:
    names = [*graph.inputs, *(name for node in graph.nodes for name in node.outputs if name not in graph.outputs)]
    (face,) = graph.inputs
    found: dict[str, float] = {}
    for crop in golden.crops(entry.contract):
        x = entry.contract.prepare(crop.pixels)
        values = engine.evaluate(graph, names[1:], {face: x}) | {face: x}
        here = ncnn_files.largest_magnitudes(values)
        found = {name: max(found.get(name, 0.0), here[name]) for name in names}
    return found


def _product(entry: EmbedderEntry, backend: str) -> Run:
    embedder = load_embedder(entry, backend, 1, MANIFEST.parent)
    return lambda crop: embedder.embed(crop).vector


def _normalized(run: Engine, entry: EmbedderEntry) -> Run:
    return lambda crop: unit(run(entry.contract.prepare(crop.pixels)))


def _shifted(content: bytes) -> Engine:
    """Return the network with weights shifted to u8, which `edge.models.exact` uses where int8 products saturate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry(*SHIFT_WEIGHTS)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0][0], np.float32)


def _openvino(content: bytes) -> Engine:
    ov = import_module("openvino")  # not a dependency of the project
    core = ov.Core()
    # Without the last option OpenVINO computes float32 networks in bfloat16 where the processor supports it.
    how = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(content), "CPU", how).create_infer_request()
    return lambda x: np.array(next(iter(request.infer([x]).values()))).ravel()


def _ncnn(graph: Graph, largest: dict[str, float] | None, path: Path) -> Engine:
    ncnn = import_module("ncnn")  # not a dependency of the project
    layers, weights = ncnn_files.ncnn_files(graph, largest)
    path.with_suffix(".param").write_text(layers)
    path.with_suffix(".bin").write_bytes(weights)
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(str(path.with_suffix(".param")))
    net.load_model(str(path.with_suffix(".bin")))
    (face,), (output,) = graph.inputs, graph.outputs

    def run(x: Picture) -> NDArray[np.float32]:
        with net.create_extractor() as extractor:
            extractor.input(face, ncnn.Mat(x[0]))
            return np.array(extractor.extract(output)[1]).ravel()

    return run


def _version(package: str) -> str | None:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return None
