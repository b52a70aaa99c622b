"""Weights → float32 ONNX, written node by node, without a training framework and without tracing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.lab.lightcnn9 import Array, Layer, Network, halves, projection

INPUT, OUTPUT = "face", "embedding"
_OPSET, _IR_VERSION = 17, 8  # old enough for every onnxruntime that the project supports


def export(network: Network, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Return the network as ONNX: `face` (1, 1, S, S) float32 in 0..1 → `embedding` (1, D) float32, not normalized.

    The batch size is fixed to one: the runtime embeds one face at a time, and a fixed shape lets an engine plan its
    memory. The caller normalizes, in float, so all back ends share that code. With a projection in the weights
    (`proj.weight`, `proj.bias`) it is the last layer, and D is its number of outputs. Raises ModelError where the
    weights do not fit the network.
    """
    graph = _Graph()
    x, dimension = INPUT, network.dimension
    for layer in network.layers:
        x = graph.max_feature_map(x, layer, weights)
    if "proj.weight" in weights:
        weight, bias = projection(network, weights)
        x, dimension = graph.convolution("proj", x, weight, bias), len(weight)
    graph.add("Flatten", OUTPUT, x)
    shapes = {INPUT: [1, 1, network.size_px, network.size_px], OUTPUT: [1, dimension]}
    face, embedding = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    model = helper.make_model(
        helper.make_graph(graph.nodes, "max_feature_map_network", [face], [embedding], graph.tensors),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edge-face-runtime",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def max_feature_map(self, x: str, layer: Layer, weights: Mapping[str, Array]) -> str:
        """Append b + relu(a − b), and the layer's pooling where it has one; returns the name of the result."""
        difference, second = halves(layer, weights)
        excess = self.add("Relu", f"{layer.name}.excess", self._conv(f"{layer.name}.difference", x, layer, *difference))
        x = self.add("Add", f"{layer.name}.max", excess, self._conv(f"{layer.name}.second", x, layer, *second))
        if not layer.pooled:
            return x
        return self.add("MaxPool", f"{layer.name}.pooled", x, kernel_shape=[2, 2], strides=[2, 2])

    def add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; it and its result are called `name`."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _conv(self, name: str, x: str, layer: Layer, weight: Array, bias: Array) -> str:
        side = layer.kernel_px
        return self.convolution(name, x, weight, bias, side // 2 if layer.padded else 0)

    def convolution(self, name: str, x: str, weight: Array, bias: Array, padding_px: int = 0) -> str:
        """Append one convolution of stride 1 with a square kernel."""
        self.tensors += [
            numpy_helper.from_array(a, f"{name}.{part}") for part, a in (("weight", weight), ("bias", bias))
        ]
        sides, pads = list(weight.shape[2:]), [padding_px] * 4
        return self.add("Conv", name, x, f"{name}.weight", f"{name}.bias", kernel_shape=sides, pads=pads)
