"""Other forms of a shipped int8 network, made from its weights, for comparisons of speed.

    float_form   the same network in float32: dequantized weights, no quantization of activations plain_form
    Max-Feature-Map as split and maximum, instead of  max(a, b) = b + relu(a − b) quantized    int8 in QDQ form as
    onnxruntime's tool writes it: unsigned activations with one scale per tensor, signed
                 weights with one scale per output channel

`quantized(plain_form(float_form(shipped)))` is the plain QDQ export of the same weights. No second model file is
needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.onnxfile import Graph, Node, expand_weights, integers, used

Array = NDArray[Any]
Range = tuple[float, float]  # lowest and highest value of an activation

_PASSES_SCALE = frozenset(
    {"Split", "MaxPool", "Flatten", "Reshape", "Identity"}
)  # operators that keep the scale of their input
_FLOAT_OPS = _PASSES_SCALE | {"Conv", "Add", "Relu", "Max"}


def float_form(graph: Graph) -> Graph:
    """Return the network without quantization; raises ModelError where it uses operators that have no float form.

    A quantization after a convolution whose range starts at zero stands for a relu: quantization tools merge the two.
    """
    expanded = expand_weights(graph)
    producer = {name: node for node in graph.nodes for name in node.outputs}
    same: dict[str, str] = {}  # output of a quantization → its input
    nodes = []
    for node in expanded.nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        source = producer.get(node.inputs[0])
        if node.op == "QuantizeLinear" and source is not None and source.op == "Conv" and _from_zero(node, graph):
            nodes.append(Node("Relu", inputs[:1], node.outputs))
        elif node.op in {"QuantizeLinear", "DequantizeLinear"}:
            same[node.outputs[0]] = inputs[0]
        elif node.op in _FLOAT_OPS and not node.domain:
            nodes.append(replace(node, inputs=inputs))
        else:
            raise ModelError(f"operator {node.op} has no float form here", "compare with a model in QDQ form")
    final = {same[name]: name for name in graph.outputs if name in same}
    nodes = [replace(node, outputs=tuple(final.get(name, name) for name in node.outputs)) for node in nodes]
    return _with(expanded, nodes, expanded.tensors)


def _from_zero(node: Node, graph: Graph) -> bool:
    zero = graph.tensors.get(node.inputs[2]) if len(node.inputs) > 2 else None
    return zero is not None and zero.dtype == np.uint8 and not zero.any()


def plain_form(graph: Graph) -> Graph:
    """Return a float network with each b + relu(a − b) replaced by the maximum of two halves of one convolution.

    A network without such sums is returned unchanged.
    """
    producer = {name: node for node in graph.nodes for name in node.outputs}
    tensors, replaced, gone = dict(graph.tensors), {}, set()
    for node in graph.nodes:
        halves = _halves(node, producer) if node.op == "Add" else None
        if halves is None:
            continue
        excess, difference, second = halves
        name = node.outputs[0]
        for part, place in (("weight", 1), ("bias", 2)):
            a_less_b, b = tensors[difference.inputs[place]], tensors[second.inputs[place]]
            tensors[f"{name}.{part}"] = np.concatenate([a_less_b + b, b])
        both, first, other = f"{name}.both", f"{name}.first", f"{name}.other"
        replaced[name] = [
            replace(second, inputs=(second.inputs[0], f"{name}.weight", f"{name}.bias"), outputs=(both,)),
            Node("Split", (both,), (first, other), (integers("axis", 1),)),
            Node("Max", (first, other), (name,)),
        ]
        gone |= {excess.outputs[0], difference.outputs[0], second.outputs[0]}
    nodes = [
        new for node in graph.nodes if node.outputs[0] not in gone for new in replaced.get(node.outputs[0], [node])
    ]
    return _with(graph, nodes, tensors)


def activations(graph: Graph) -> list[str]:
    """Return the tensors of a float network that get their own scale in quantization."""
    made = [node.outputs[0] for node in graph.nodes if node.op not in _PASSES_SCALE]
    return [*graph.inputs, *made]


def quantized(graph: Graph, ranges: Mapping[str, Range]) -> Graph:
    """Return a float network in int8, QDQ form; `ranges` holds the ranges of `activations`."""
    tensors: dict[str, Array] = {}
    grid_of: dict[str, str] = {}  # activation → the tensor whose scale it has
    dequantized: dict[str, str] = {}  # activation → its name after dequantization
    nodes: list[Node] = []

    def enter(name: str, grid: str) -> None:
        parameters = (f"{grid}.scale", f"{grid}.zero")
        nodes.append(Node("QuantizeLinear", (name, *parameters), (f"{name}.u8",)))
        nodes.append(Node("DequantizeLinear", (f"{name}.u8", *parameters), (f"{name}.dq",)))
        grid_of[name], dequantized[name] = grid, f"{name}.dq"

    for name in activations(graph):
        scale, zero = _grid(*ranges[name])
        tensors |= {f"{name}.scale": scale, f"{name}.zero": zero}
    for name in graph.inputs:
        enter(name, name)
    for node in graph.nodes:
        source = node.inputs[0]
        inputs = tuple(dequantized.get(name, name) for name in node.inputs)
        if node.op == "Conv":
            inputs = (inputs[0], *_quantize_weights(node, graph, tensors, nodes, tensors[f"{grid_of[source]}.scale"]))
        nodes.append(replace(node, inputs=inputs))
        for name in node.outputs:
            enter(name, grid_of[source] if node.op in _PASSES_SCALE else name)
    nodes += [Node("Identity", (dequantized[name],), (f"{name}.out",)) for name in graph.outputs]
    outputs = {f"{name}.out": shape for name, shape in graph.outputs.items()}
    kept = {name: a for name, a in graph.tensors.items() if name not in tensors}
    return Graph(nodes, used(kept | tensors, nodes), graph.inputs, outputs, graph.opsets, graph.ir_version)


def _halves(total: Node, producer: Mapping[str, Node]) -> tuple[Node, Node, Node] | None:
    """Return (relu, convolution of a − b, convolution of b) of a sum, None where it is no Max-Feature-Map."""
    for excess, second in (total.inputs, total.inputs[::-1]):
        relu, b = producer.get(excess), producer.get(second)
        difference = producer.get(relu.inputs[0]) if relu is not None and relu.op == "Relu" else None
        if relu is None or b is None or difference is None or (b.op, difference.op) != ("Conv", "Conv"):
            continue
        if b.inputs[0] == difference.inputs[0]:
            return relu, difference, b
    return None


def _quantize_weights(
    node: Node, graph: Graph, tensors: dict[str, Array], nodes: list[Node], input_scale: Array
) -> tuple[str, str]:
    """Add the int8 weight and the int32 bias of one convolution; returns their names after dequantization."""
    weight, bias = graph.tensors[node.inputs[1]], graph.tensors[node.inputs[2]]
    scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-8).astype(np.float32) / np.float32(127)
    steps = scale * input_scale
    integer = {
        "weight": (np.round(weight / scale[:, None, None, None]).astype(np.int8), scale),
        "bias": (np.round(bias / steps).astype(np.int32), steps),
    }
    names = []
    for part, (values, scales) in integer.items():
        name = f"{node.outputs[0]}.{part}"
        zeros = np.zeros(len(scales), values.dtype)
        tensors |= {f"{name}.q": values, f"{name}.scale": scales, f"{name}.zero": zeros}
        dequantize = (f"{name}.q", f"{name}.scale", f"{name}.zero")
        nodes.append(Node("DequantizeLinear", dequantize, (f"{name}.dq",), (integers("axis", 0),)))
        names.append(f"{name}.dq")
    return names[0], names[1]


def _grid(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return scale and zero point of 256 steps that cover the range and 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _with(graph: Graph, nodes: list[Node], tensors: Mapping[str, Array]) -> Graph:
    return Graph(nodes, used(dict(tensors), nodes), graph.inputs, graph.outputs, graph.opsets, graph.ir_version)
