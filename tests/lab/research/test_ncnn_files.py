"""ncnn's files of a network: consistent layers, size of weights, and ncnn's output where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import ModelError
from edge.models.manifest import load_manifest, load_verified
from edge.models.onnxfile import Graph, Node, read
from tools.bench import engine, forms
from tools.lab.research.ncnn_files import largest_magnitudes, ncnn_files
from tools.lab.unroll import rolled

SAME = forms.float_form(read(rolled(load_verified(load_manifest().embedder("lightcnn9"), "onnxruntime"))))
PLAIN = forms.plain_form(SAME)
X = np.random.default_rng(0).random((1, 1, 128, 128), np.float32)


def largest(graph: Graph) -> dict[str, float]:
    names = [name for node in graph.nodes for name in node.outputs]
    return largest_magnitudes(engine.evaluate(graph, names, {"face": X}) | {"face": X})


@pytest.mark.parametrize("graph", [SAME, PLAIN], ids=["sum", "maximum"])
def test_every_blob_has_one_writer_and_one_reader(graph: Graph) -> None:
    text, _ = ncnn_files(graph)
    magic, counts, *lines = text.split("\n")[:-1]
    made: list[str] = []
    read_: list[str] = []
    for line in lines:
        _, _, inputs, outputs, *names = line.split()
        read_ += names[: int(inputs)]
        made += names[int(inputs) : int(inputs) + int(outputs)]
    assert magic == "7767517"
    assert counts == f"{len(lines)} {len(made)}"
    assert len(set(made)) == len(made)
    assert set(made) - set(read_) == set(graph.outputs)
    assert len(set(read_)) == len(read_)


def test_the_weights_take_a_quarter_in_int8() -> None:
    convolutions = [SAME.tensors[node.inputs[1]] for node in SAME.nodes if node.op == "Conv"]
    tags, weights = 4 * len(convolutions), sum(w.size for w in convolutions)
    outputs = sum(len(w) for w in convolutions)
    assert len(ncnn_files(SAME)[1]) == tags + 4 * weights + 4 * outputs
    assert len(ncnn_files(SAME, largest(SAME))[1]) == tags + weights + 4 * (outputs + outputs + len(convolutions))


def test_an_unsupported_operator_is_named() -> None:
    graph = Graph([Node("Gelu", ("x",), ("y",))], {}, {"x": (1,)}, {"y": (1,)})
    with pytest.raises(ModelError, match="Gelu"):
        ncnn_files(graph)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("graph", [SAME, PLAIN], ids=["sum", "maximum"])
def test_ncnn_and_onnxruntime_agree(graph: Graph, int8: bool, tmp_path: Path) -> None:
    ncnn: Any = pytest.importorskip("ncnn", reason="skipped: ncnn is not installed")
    layers, weights = ncnn_files(graph, largest(graph) if int8 else None)
    (tmp_path / "net.param").write_text(layers)
    (tmp_path / "net.bin").write_bytes(weights)
    net = ncnn.Net()
    net.load_param(str(tmp_path / "net.param"))
    net.load_model(str(tmp_path / "net.bin"))
    (output,) = graph.outputs
    with net.create_extractor() as extractor:
        extractor.input("face", ncnn.Mat(X[0]))
        found = np.array(extractor.extract(output)[1]).ravel()
    wanted = engine.evaluate(graph, [output], {"face": X})[output].ravel()
    cosine = float(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))
    assert cosine > (0.99 if int8 else 0.9999)
