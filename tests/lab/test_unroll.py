"""An unrolled first layer computes the same integers; other first layers are not changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.models.manifest import load_manifest, load_verified
from edge.models.onnxfile import Array, Graph, Node, integers, read, write
from tools.bench import engine
from tools.lab.unroll import rolled, unrolled

FINISHED = load_verified(load_manifest().embedder("lightcnn9"), "onnxruntime")


def network(
    side: int = 5, size: tuple[int, int] = (12, 10), *, channels: int = 1, zero: int = 7, stride: int = 1, seed: int = 0
) -> Graph:
    """Return two int8 convolutions that read one picture, and their sum."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {"x.scale": np.array(1 / 128, np.float32), "x.zero": np.array(zero, np.uint8)}
    nodes = [
        Node("QuantizeLinear", ("x", "x.scale", "x.zero"), ("x.q",)),
        Node("DequantizeLinear", ("x.q", "x.scale", "x.zero"), ("x.dq",)),
    ]
    for name in ("a", "b"):
        tensors |= {
            f"{name}.w": rng.integers(-127, 128, (6, channels, side, side)).astype(np.int8),
            f"{name}.w.scale": rng.uniform(0.001, 0.01, 6).astype(np.float32),
            f"{name}.w.zero": np.zeros(6, np.int8),
            f"{name}.y.scale": np.array(0.05, np.float32),
            f"{name}.y.zero": np.array(128, np.uint8),
        }
        grid = (f"{name}.y.scale", f"{name}.y.zero")
        shape = (integers("kernel_shape", [side, side]), integers("pads", [side // 2] * 4))
        weight = (f"{name}.w", f"{name}.w.scale", f"{name}.w.zero")
        nodes += [
            Node("DequantizeLinear", weight, (f"{name}.w.dq",), (integers("axis", 0),)),
            Node("Conv", ("x.dq", f"{name}.w.dq"), (f"{name}.y",), (*shape, integers("strides", [stride, stride]))),
            Node("QuantizeLinear", (f"{name}.y", *grid), (f"{name}.y.q",)),
            Node("DequantizeLinear", (f"{name}.y.q", *grid), (f"{name}.y.dq",)),
        ]
    nodes.append(Node("Add", ("a.y.dq", "b.y.dq"), ("y",)))
    return Graph(nodes, tensors, {"x": (1, channels, *size)}, {"y": (1, 6, "h", "w")})


def answer(model: bytes, x: Array) -> Array:
    return np.asarray(engine.session(model).run(None, {"x": x})[0])


@settings(max_examples=25, deadline=None)
@given(
    side=st.sampled_from([1, 3, 5, 7]),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    zero=st.integers(0, 255),
    seed=st.integers(0, 99),
)
def test_the_integer_results_are_identical(side: int, height: int, width: int, zero: int, seed: int) -> None:
    model = write(network(side, (height, width), zero=zero, seed=seed))
    changed = unrolled(model)
    assert changed != model
    x = np.random.default_rng(seed).uniform(-1.5, 2.5, (1, 1, height, width)).astype(np.float32)
    assert np.array_equal(answer(changed, x), answer(model, x))


def test_the_shipped_network_is_unrolled_and_gives_exactly_the_original_embeddings() -> None:
    origin, changed = rolled(FINISHED), unrolled(rolled(FINISHED))
    assert changed == FINISHED
    weights = [a for a in read(changed).tensors.values() if a.ndim == 4 and a.shape[1:] == (28, 1, 1)]
    assert len(weights) == 2  # of 25 offsets, in multiples of four
    x = np.random.default_rng(1).random((1, 1, 128, 128), np.float32)
    before, after = (engine.session(m).run(None, {"face": x})[0] for m in (origin, changed))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_rolling_an_unrolled_network_gives_the_original(side: int) -> None:
    model = write(network(side))
    again, first = read(rolled(unrolled(model))), read(model)
    assert [(n.op, n.inputs, n.outputs) for n in again.nodes] == [(n.op, n.inputs, n.outputs) for n in first.nodes]
    assert again.tensors.keys() == first.tensors.keys()
    assert all(np.array_equal(again.tensors[name], array) for name, array in first.tensors.items())
    assert rolled(model) == model
    x = np.random.default_rng(side).random((1, 1, 12, 10), np.float32)
    assert np.array_equal(answer(write(again), x), answer(model, x))


def test_only_one_by_one_kernels_read_the_pixels() -> None:
    graph = read(unrolled(write(network())))
    kernels = [node.integers("kernel_shape") for node in graph.nodes if node.op == "Conv"]
    assert kernels == [(1, 1), (1, 1)]
    assert not any(node.integers("pads") for node in graph.nodes if node.op == "Conv")


def unlike(graph: Graph, *attributes: bytes) -> Graph:
    nodes = [replace(node, attributes=attributes) if node.op == "Conv" else node for node in graph.nodes]
    return Graph(nodes, graph.tensors, graph.inputs, graph.outputs)


NO_SUCH_LAYER = {
    "colour": network(channels=3),
    "stride": network(stride=2),
    "another border": unlike(network(), integers("kernel_shape", [5, 5]), integers("pads", [0] * 4)),
    "float": Graph(
        [Node("Conv", ("x", "w"), ("y",), (integers("kernel_shape", [3, 3]), integers("pads", [1] * 4)))],
        {"w": np.ones((2, 1, 3, 3), np.float32)},
        {"x": (1, 1, 8, 8)},
        {"y": (1, 2, 8, 8)},
    ),
}


@pytest.mark.parametrize("graph", NO_SUCH_LAYER.values(), ids=NO_SUCH_LAYER)
def test_another_first_layer_is_not_changed(graph: Graph) -> None:
    model = write(graph)
    assert unrolled(model) == model


def test_a_second_reader_of_the_pixels_keeps_them() -> None:
    graph = network()
    graph.nodes.append(Node("Identity", ("x.dq",), ("again",)))
    graph.outputs["again"] = (1, 1, 12, 10)
    model = write(graph)
    assert unrolled(model) == model
