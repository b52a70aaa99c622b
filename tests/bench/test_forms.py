"""Other forms of the shipped network: they compute the same function, and have the documented structure."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge.errors import ModelError
from edge.models import golden, onnxfile
from edge.models.manifest import load_manifest, load_verified
from edge.models.onnxfile import Graph, Node, integers
from tools.bench import engine, forms, model_forms
from tools.lab.unroll import rolled

ENTRY = load_manifest().embedder("lightcnn9")


@pytest.fixture(scope="module")
def shipped() -> Graph:
    return onnxfile.read(rolled(load_verified(ENTRY, "onnxruntime")))


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    return [ENTRY.contract.prepare(crop.pixels) for crop in golden.crops(ENTRY.contract)]


def embed(graph: Graph, x: np.ndarray) -> np.ndarray:
    (name,), (output,) = graph.inputs, graph.outputs
    vector = engine.evaluate(graph, [output], {name: x})[output].ravel()
    return np.asarray(vector / np.linalg.norm(vector))


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def test_the_float_form_has_no_quantization_and_gives_the_same_embeddings(
    shipped: Graph, inputs: list[np.ndarray]
) -> None:
    floating = forms.float_form(shipped)
    assert operators(floating).keys().isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    assert all(array.dtype != np.int8 for array in floating.tensors.values())
    assert min(float(embed(shipped, x) @ embed(floating, x)) for x in inputs) > 0.99


def test_the_plain_form_splits_and_takes_the_maximum_and_is_the_same_function(
    shipped: Graph, inputs: list[np.ndarray]
) -> None:
    floating = forms.float_form(shipped)
    plain = forms.plain_form(floating)
    found = operators(plain)
    assert found["Split"] == found["Max"] == found["Conv"] - 1 == 10  # the last layer has no maximum
    assert found.keys().isdisjoint({"Add", "Relu"})
    for x in inputs:
        np.testing.assert_allclose(embed(plain, x), embed(floating, x), atol=1e-5)


def test_a_network_that_is_plain_already_stays_as_it_is(shipped: Graph) -> None:
    plain = forms.plain_form(forms.float_form(shipped))
    again = forms.plain_form(plain)
    assert again.nodes == plain.nodes


def test_the_plain_int8_form_is_as_accurate_as_the_shipped_one(shipped: Graph, inputs: list[np.ndarray]) -> None:
    made = model_forms.make_forms(ENTRY)
    plain = made["int8 plain QDQ"]
    weights = [a for name, a in plain.tensors.items() if name.endswith("weight.q")]
    assert len(weights) == 11
    assert all(a.dtype == np.int8 for a in weights)
    assert min(float(embed(plain, x) @ embed(made["fp32"], x)) for x in inputs) > 0.99


def test_a_quantized_network_converts_back_to_its_float_form(inputs: list[np.ndarray]) -> None:
    plain = model_forms.make_forms(ENTRY)["int8 plain QDQ"]
    back = forms.float_form(plain)
    assert operators(back).keys() == {"Conv", "Split", "Max", "MaxPool", "Flatten", "Identity"}
    assert min(float(embed(plain, x) @ embed(back, x)) for x in inputs) > 0.99


def test_the_multiply_accumulates_are_those_of_the_networks_table() -> None:
    # LightCNN-9 at 128×128, by hand: Σ outputs · inputs · kernel² · positions
    layers = [
        (96, 1, 5, 128), (96, 48, 1, 64), (192, 48, 3, 64), (192, 96, 1, 32), (384, 96, 3, 32),
        (384, 192, 1, 16), (256, 192, 3, 16), (256, 128, 1, 16), (256, 128, 3, 16), (512, 128, 8, 1), (256, 256, 1, 1),
    ]  # fmt: skip
    expected = sum(o * i * k * k * side * side for o, i, k, side in layers)
    assert model_forms.gmacs(model_forms.make_forms(ENTRY)["fp32"], ENTRY) == pytest.approx(expected / 1e9)


def test_an_operator_without_a_float_form_is_named() -> None:
    graph = Graph([Node("QLinearConv", ("x",), ("y",))], {}, {"x": (1,)}, {"y": (1,)})
    with pytest.raises(ModelError, match="QLinearConv"):
        forms.float_form(graph)


def test_a_sum_that_is_no_maximum_is_left_alone() -> None:
    nodes = [
        Node("Conv", ("x", "w", "b"), ("p",), (integers("kernel_shape", [1, 1]),)),
        Node("Relu", ("p",), ("r",)),
        Node("Conv", ("r", "w", "b"), ("q",), (integers("kernel_shape", [1, 1]),)),  # of another input
        Node("Add", ("r", "q"), ("y",)),
    ]
    weights = {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.zeros(1, np.float32)}
    graph = Graph(nodes, weights, {"x": (1, 1, 2, 2)}, {"y": (1, 1, 2, 2)})
    assert forms.plain_form(graph).nodes == nodes


def test_every_int8_product_runs_and_counts_its_work() -> None:
    for name, (gmac, run) in engine.integer_products().items():
        rows, side, _ = (int(n) for n in name.split("×"))
        assert gmac == pytest.approx(8 * rows * side * side / 1e9)
        run()
