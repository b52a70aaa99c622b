"""Int8 QDQ ONNX → full-integer TFLite flatbuffer, integer for integer, without TensorFlow.

Both formats describe the same arithmetic: rescaled int32 sums of int8 products. The conversion copies weights, biases,
scales and zero points without a second quantization. Three things differ in TFLite: channels are last (NHWC),
activations are signed (zero points shift by 128), and relu is the saturation at the output's zero point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge.errors import ModelError

_ALIGNMENT = 16  # bytes; the runtime reads weights in place and requires this alignment
_SIGNED = 128  # unsigned − signed zero point
_VERSIONS = {
    "CONV_2D": 3,
    "ADD": 2,
    "MAX_POOL_2D": 2,
    "QUANTIZE": 1,
    "DEQUANTIZE": 2,
    "RESHAPE": 1,
}  # first versions with int8


def convert(model: onnx.ModelProto) -> bytes:
    """Return the TFLite form of a QDQ model made of Conv, Relu, Add, MaxPool and Flatten.

    Input (1, S, S, 1) float32 in 0..1, output (1, D) float32, as in ONNX but channels last. Raises ModelError for an
    operation that it does not know.
    """
    emitter = _Emitter(model)
    for node in model.graph.node:
        emit = _EMITTERS.get(node.op_type)
        if emit is None:
            raise ModelError(
                f"{node.name}: no TFLite form of {node.op_type} is known here", "write it in tools/lab/tflite.py"
            )
        emit(emitter, node)
    return emitter.flatbuffer(model.graph)


class _Emitter:
    """Builds the flatbuffer. Tensors keep their ONNX names; quantize/dequantize pairs define a tensor's scale."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self._face = graph.input[0].name
        self._constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
        self._grids = self._grids_of(graph)
        self._same: dict[str, str] = {}  # ONNX name → name of the tensor with its values
        self._weights: dict[str, tuple[str, str]] = {}  # dequantized constant → names of integers and scales
        self._tensors: list[Any] = []
        self._index: dict[str, int] = {}
        self._buffers: list[Any] = [_Buffer()]  # the format requires an empty first buffer
        self._codes: list[Any] = []
        self._operators: list[Any] = []

    def _grids_of(self, graph: onnx.GraphProto) -> dict[str, tuple[float, int]]:
        relus = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Relu"}
        grids = {}
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                grid = self._constants[node.input[1]].item(), self._constants[node.input[2]].item() - _SIGNED
                grids[node.input[0]] = grids[relus.get(node.input[0], node.input[0])] = grid
        return grids

    def quantize(self, node: onnx.NodeProto) -> None:
        """Add an operation for the quantization of the graph's input; an inner quantization only renames a tensor."""
        x, y = node.input[0], node.output[0]
        if x == self._face:
            quantized = self._activation(y, self._grids[x], self._channels_last(x))
            self._operator("QUANTIZE", [self._floating(x, self._channels_last(x))], quantized)
        else:
            self._same[y] = self._name(x)

    def dequantize(self, node: onnx.NodeProto) -> None:
        """Record a constant with its scales; rename an activation."""
        x, scale, _ = node.input
        if x in self._constants:
            self._weights[node.output[0]] = (x, scale)
        else:
            self._same[node.output[0]] = self._name(x)

    def conv(self, node: onnx.NodeProto) -> None:
        """Add a convolution; weights change from (O, I, K, K) to (O, K, K, I), with one scale per output channel."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, weight, bias = node.input
        same = attributes["pads"] == [side // 2 for side in attributes["kernel_shape"]] * 2
        padding = schema.Padding.SAME if same and any(attributes["pads"]) else schema.Padding.VALID
        if padding == schema.Padding.VALID and any(attributes["pads"]):
            raise ModelError(f"{node.name}: padding {attributes['pads']} has no TFLite form", "pad by half the kernel")
        inputs = [
            self._index[self._name(x)],
            self._constant(*self._weights[weight], lambda w: w.transpose(0, 2, 3, 1)),
            self._constant(*self._weights[bias]),
        ]
        options = schema.Conv2DOptionsT(padding, strideW=1, strideH=1)
        self._compute("CONV_2D", node, inputs, ("Conv2DOptions", options))

    def relu(self, node: onnx.NodeProto) -> None:
        """Implement relu by the saturation at the zero point; raises ModelError where the range includes negatives."""
        scale, zero_point = self._grids[node.output[0]]
        if zero_point != -_SIGNED:
            raise ModelError(f"{node.name}: its grid of scale {scale} reaches below zero", "quantize again")
        self._same[node.output[0]] = self._name(node.input[0])

    def add(self, node: onnx.NodeProto) -> None:
        """Add an addition of two activations with different scales."""
        inputs = [self._index[self._name(x)] for x in node.input]
        self._compute("ADD", node, inputs, ("AddOptions", schema.AddOptionsT(potScaleInt16=False)))

    def max_pool(self, node: onnx.NodeProto) -> None:
        """Add a 2×2 max pooling; the scale stays."""
        options = schema.Pool2DOptionsT(schema.Padding.VALID, 2, 2, 2, 2)
        self._compute("MAX_POOL_2D", node, [self._index[self._name(node.input[0])]], ("Pool2DOptions", options))

    def flatten(self, node: onnx.NodeProto) -> None:
        """Flatten (1, C, 1, 1); for a larger picture, NHWC would change the order, so it raises ModelError."""
        shape = self._shapes[node.output[0]]
        if self._channels_last(self._name(node.input[0]))[1:3] != [1, 1]:
            raise ModelError(
                f"{node.name}: a picture cannot be flattened here", "end with a convolution that covers it"
            )
        options = schema.ReshapeOptionsT(shape)
        sizes = self._tensor(f"{node.name}.shape", [len(shape)], schema.TensorType.INT32, np.array(shape, np.int32))
        self._compute(
            "RESHAPE", node, [self._index[self._name(node.input[0])], sizes], ("ReshapeOptions", options), shape
        )

    def flatbuffer(self, graph: onnx.GraphProto) -> bytes:
        """Return the finished model with a float32 output."""
        embedding = graph.output[0].name
        result = self._floating(embedding, self._shapes[embedding])
        self._operator("DEQUANTIZE", [self._index[self._name(embedding)]], result)
        subgraph = schema.SubGraphT(self._tensors, [self._index[self._face]], [result], self._operators, name="main")
        model = schema.ModelT(3, self._codes, [subgraph], "edge-face-runtime", self._buffers)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _name(self, name: str) -> str:
        return self._same.get(name, name)

    def _channels_last(self, name: str) -> list[int]:
        n, c, h, w = self._shapes[name]
        return [n, h, w, c]

    def _compute(
        self, op: str, node: onnx.NodeProto, inputs: list[int], options: tuple[str, Any], shape: list[int] | None = None
    ) -> None:
        name = node.output[0]
        self._operator(
            op, inputs, self._activation(name, self._grids[name], shape or self._channels_last(name)), options
        )

    def _operator(self, op: str, inputs: list[int], output: int, options: tuple[str, Any] | None = None) -> None:
        code = getattr(schema.BuiltinOperator, op)
        known = [c.builtinCode for c in self._codes]
        if code not in known:
            self._codes.append(schema.OperatorCodeT(min(code, 127), version=_VERSIONS[op], builtinCode=code))
            known.append(code)
        operator = schema.OperatorT(known.index(code), inputs, [output])
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        self._operators.append(operator)

    def _floating(self, name: str, shape: list[int]) -> int:
        return self._tensor(name, shape, schema.TensorType.FLOAT32)

    def _activation(self, name: str, grid: tuple[float, int], shape: list[int]) -> int:
        return self._tensor(name, shape, schema.TensorType.INT8, None, ([grid[0]], [grid[1]]))

    def _constant(self, name: str, scale: str, order: Callable[[Any], Any] = lambda a: a) -> int:
        value = np.ascontiguousarray(order(self._constants[name]))
        scales = self._constants[scale].reshape(-1).tolist()
        kind = schema.TensorType.INT8 if value.dtype == np.int8 else schema.TensorType.INT32
        return self._tensor(name, list(value.shape), kind, value, (scales, [0] * len(scales)))

    def _tensor(
        self,
        name: str,
        shape: list[int],
        kind: int,
        value: NDArray[Any] | None = None,
        grid: tuple[list[float], list[int]] | None = None,  # scales and zero points, one or per channel
    ) -> int:
        tensor = schema.TensorT(shape, kind, name=name, hasRank=True)
        if grid is not None:
            tensor.quantization = schema.QuantizationParametersT(scale=grid[0], zeroPoint=grid[1])
        if value is not None:
            tensor.buffer = len(self._buffers)
            self._buffers.append(_Buffer(value))
        self._index[name] = len(self._tensors)
        self._tensors.append(tensor)
        return self._index[name]


class _Buffer(schema.BufferT):
    """A buffer with aligned bytes in the file; the generated writer does not align them."""

    def __init__(self, value: NDArray[Any] | None = None) -> None:
        super().__init__()
        self._bytes = b"" if value is None else value.astype(value.dtype.newbyteorder("<")).tobytes()

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  # the name of the generated method it replaces
        """Append this buffer to a flatbuffer under construction."""
        data = None
        if self._bytes:
            builder.StartVector(1, len(self._bytes), _ALIGNMENT)
            builder.head -= len(self._bytes)
            builder.Bytes[builder.head : builder.head + len(self._bytes)] = self._bytes
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [d.dim_value for d in value.type.tensor_type.shape.dim]


_EMITTERS: dict[str, Callable[[_Emitter, onnx.NodeProto], None]] = {
    "QuantizeLinear": _Emitter.quantize,
    "DequantizeLinear": _Emitter.dequantize,
    "Conv": _Emitter.conv,
    "Relu": _Emitter.relu,
    "Add": _Emitter.add,
    "MaxPool": _Emitter.max_pool,
    "Flatten": _Emitter.flatten,
}
