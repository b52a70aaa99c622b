"""Reads, changes and writes ONNX files with numpy alone, so a device does not need the `onnx` package.

An ONNX file is a Protocol Buffers message. Only the fields that inference needs are kept: nodes, weights, the names and
shapes of inputs and outputs, operator sets. Intermediate shapes and documentation are dropped. A node's attributes are
copied as bytes. Source of the field numbers: `onnx.proto` of ONNX 1.17, stable since version 1.

The SHA-256 of a file is checked before it is read here. A file with an invalid format is still a ModelError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError

Array = NDArray[Any]
Shape = tuple[int | str, ...]  # a name stands for a size that is known only when the network runs

_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8"}  # TensorProto.DataType: the types of face networks
_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True, slots=True)
class Node:
    """One operator."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[bytes, ...] = ()  # AttributeProto messages
    domain: str = ""

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        for attribute in self.attributes:
            values = dict(_fields(attribute))
            if values.get(1) == name.encode():
                return _signed(int(values.get(3, 0)))
        return default

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an attribute that is a list of integers; empty where it is absent."""
        for attribute in self.attributes:
            fields = list(_fields(attribute))
            if _one(fields, 1) == name.encode():
                return tuple(_signed(v) for number, value in fields if number == 8 for v in _unpacked(value))
        return ()


@dataclass(slots=True)
class Graph:
    """A network."""

    nodes: list[Node]
    tensors: dict[str, Array]  # weights
    inputs: dict[str, Shape]  # float32
    outputs: dict[str, Shape]  # float32
    opsets: dict[str, int] = field(default_factory=lambda: {"": 17})
    ir_version: int = 8


def integers(name: str, values: int | Sequence[int]) -> bytes:
    """Return the attribute `name` that holds one integer, or a list of them."""
    if isinstance(values, int):
        return _text(1, name) + _number(3, values) + _number(20, 2)
    return _text(1, name) + b"".join(_number(8, v) for v in values) + _number(20, 7)


def read(content: bytes) -> Graph:
    """Return the network of an ONNX file; raises ModelError where it is none, or uses what is not known here."""
    try:
        return _model(content)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError, ValueError, TypeError) as e:
        raise ModelError(f"not an ONNX file that can be read: {e!r}", "restore the file from its package") from e


def write(graph: Graph) -> bytes:
    """Return the network as an ONNX file."""
    body = [_message(1, _node_bytes(node)) for node in graph.nodes]
    body += [_text(2, "graph")]
    body += [_message(5, _tensor_bytes(name, array)) for name, array in graph.tensors.items()]
    body += [_message(11, _value_bytes(name, shape)) for name, shape in graph.inputs.items()]
    body += [_message(12, _value_bytes(name, shape)) for name, shape in graph.outputs.items()]
    opsets = [_message(8, _text(1, domain) + _number(2, version)) for domain, version in graph.opsets.items()]
    return b"".join([_number(1, graph.ir_version), _message(7, b"".join(body)), *opsets])


def expand_weights(graph: Graph) -> Graph:
    """Return the network with every quantized weight as float32; activations stay as they are.

    `DequantizeLinear` of a weight, block-wise as well, and `Reshape` of one are computed here. Engines that know no
    block-wise weights can then run the network, and others need not expand them at each run.
    """
    tensors, nodes = dict(graph.tensors), []
    for node in graph.nodes:
        known = [tensors.get(name) for name in node.inputs]
        if node.op == "DequantizeLinear" and known[0] is not None:
            tensors[node.outputs[0]] = _dequantized(node, [a for a in known if a is not None])
        elif node.op == "Reshape" and known[0] is not None and known[1] is not None:
            tensors[node.outputs[0]] = known[0].reshape(known[1])
        else:
            nodes.append(node)
    # some files list weights among the inputs, and keep listing those that a quantized one has replaced
    inputs = {name: shape for name, shape in graph.inputs.items() if any(name in node.inputs for node in nodes)}
    return Graph(nodes, used(tensors, nodes), inputs, graph.outputs, graph.opsets, graph.ir_version)


def free_size(graph: Graph) -> Graph:
    """Return a network of pictures, (batch, channels, H, W), for pictures of any size."""
    inputs: dict[str, Shape] = {}
    for name, shape in graph.inputs.items():
        inputs[name] = (*shape[:2], "height", "width")
    outputs: dict[str, Shape] = {}
    for name, shape in graph.outputs.items():
        outputs[name] = tuple(f"{name}.{i}" for i in range(len(shape)))
    return Graph(graph.nodes, graph.tensors, inputs, outputs, graph.opsets, graph.ir_version)


def used(tensors: dict[str, Array], nodes: Iterable[Node]) -> dict[str, Array]:
    """Return the weights that some node reads."""
    names = {name for node in nodes for name in node.inputs}
    return {name: array for name, array in tensors.items() if name in names}


def _dequantized(node: Node, arrays: Sequence[Array]) -> NDArray[np.float32]:
    values, scale = arrays[0], arrays[1]
    zero = arrays[2] if len(arrays) > 2 else np.zeros(scale.shape, values.dtype)
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    scale, zero = (_spread(a, values, axis, block) for a in (scale, zero))
    return np.asarray((values.astype(np.float32) - zero.astype(np.float32)) * scale, np.float32)


def _spread(parameter: Array, values: Array, axis: int, block: int) -> Array:
    """Bring scale or zero point to a shape that broadcasts: one for all, one an index of the axis, or one a block."""
    if parameter.size == 1:
        return parameter.reshape(())
    if block:
        return np.repeat(parameter, block, axis)[tuple(slice(side) for side in values.shape)]
    return parameter.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])


def _model(content: bytes) -> Graph:
    fields = list(_fields(content))
    graph = list(_fields(_one(fields, 7)))
    tensors = dict(_tensor(m) for m in _all(graph, 5))
    inputs = dict(_value(m) for m in _all(graph, 11))
    opsets = [list(_fields(m)) for m in _all(fields, 8)]
    if not opsets:
        raise ValueError("it names no operator set")
    return Graph(
        nodes=[_node(m) for m in _all(graph, 1)],
        tensors=tensors,
        inputs={name: shape for name, shape in inputs.items() if name not in tensors},
        outputs=dict(_value(m) for m in _all(graph, 12)),
        opsets={_one(o, 1).decode(): int(next(v for n, v in o if n == 2)) for o in opsets},
        ir_version=int(dict(fields)[1]),
    )


def _node(content: bytes) -> Node:
    fields = list(_fields(content))
    names = {number: tuple(m.decode() for m in _all(fields, number)) for number in (1, 2)}
    op, domain = (_one(fields, number).decode() for number in (4, 7))
    return Node(op, names[1], names[2], tuple(_all(fields, 5)), domain)


def _tensor(content: bytes) -> tuple[str, Array]:
    fields = list(_fields(content))
    numbers = dict(fields)
    dtype = np.dtype(_DTYPES[int(numbers[2])])
    dims = [d for number, value in fields if number == 1 for d in _unpacked(value)]
    if 9 in numbers:
        array = np.frombuffer(_one(fields, 9), dtype)
    elif 4 in numbers:
        array = np.frombuffer(b"".join(_all(fields, 4)), dtype)
    else:  # int32_data or int64_data: varints
        array = np.array([_signed(v) for n, value in fields if n in {5, 7} for v in _unpacked(value)], dtype)
    return _one(fields, 8).decode(), array.reshape(dims)


def _value(content: bytes) -> tuple[str, Shape]:
    fields = list(_fields(content))
    tensor = _path(_one(fields, 2), 1)
    shape: list[int | str] = []
    for dim in _all(list(_fields(_path(tensor, 2))), 1):
        size = dict(_fields(dim))
        shape.append(int(size[1]) if 1 in size else bytes(size.get(2, b"")).decode())
    return _one(fields, 1).decode(), tuple(shape)


def _path(content: bytes, *numbers: int) -> bytes:
    for number in numbers:
        content = _one(list(_fields(content)), number)
    return content


def _all(fields: Sequence[tuple[int, Any]], number: int) -> list[bytes]:
    return [value for n, value in fields if n == number]


def _one(fields: Sequence[tuple[int, Any]], number: int) -> bytes:
    """Return the last value of a field, which is the one that counts; empty where it is absent."""
    return next((value for n, value in reversed(fields) if n == number), b"")


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value): an integer, or the bytes of a text, a message or a packed list."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        size, at = _varint(content, at) if kind == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[kind], at)
        if at + size > len(content):
            raise ValueError("it ends inside a field")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _unpacked(value: int | bytes) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _signed(value: int) -> int:
    """Read 64 bits as two's complement, which is how the format writes a negative number."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _node_bytes(node: Node) -> bytes:
    parts = [_text(1, name) for name in node.inputs] + [_text(2, name) for name in node.outputs]
    parts += [_text(3, node.outputs[0]), _text(4, node.op)] + [_message(5, a) for a in node.attributes]
    return b"".join(parts) + (_text(7, node.domain) if node.domain else b"")


def _tensor_bytes(name: str, array: Array) -> bytes:
    code = _CODES[array.dtype]
    return (
        b"".join(_number(1, side) for side in array.shape)
        + _number(2, code)
        + _text(8, name)
        + _message(9, array.astype(_DTYPES[code]).tobytes())
    )


def _value_bytes(name: str, shape: Shape) -> bytes:
    """Describe a float32 tensor."""
    sides = (_number(1, side) if isinstance(side, int) else _text(2, side) for side in shape)
    dims = b"".join(_message(1, side) for side in sides)
    return _text(1, name) + _message(2, _message(1, _number(1, 1) + _message(2, dims)))


def _number(number: int, value: int) -> bytes:
    return _as_varint(number << 3 | _VARINT) + _as_varint(value % (1 << 64))


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
