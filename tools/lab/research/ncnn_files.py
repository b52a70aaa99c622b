"""Convert a float network to the two files of ncnn, in float32 or int8, without ncnn's converters.

The format has a text file of layers and a file of weights. In int8, weights have one scale per output channel and
inputs of convolutions one scale per tensor; both are symmetric. Results are float32. Source: "low-level operation api"
and "param and model file structure" in ncnn's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.models.onnxfile import Graph, Node

_MAGIC, _FLOAT, _INT8 = 7767517, 0, 0x000D4B38
_ADD, _MAX = 0, 4  # of BinaryOp
_INT8_TERM = 2  # scales of weights and of the input follow the weights


def ncnn_files(graph: Graph, largest: Mapping[str, float] | None = None) -> tuple[str, bytes]:
    """Return layers and weights of a network of Conv, Relu, Add, Max, Split, MaxPool and Flatten.

    `largest` is the largest magnitude of each activation: with it, the convolutions are int8. Raises ModelError for an
    operator that is not written here.
    """
    written = _Files(graph, largest)
    for node in graph.nodes:
        written.add(node)
    return written.text(), b"".join(written.weights)


class _Files:
    def __init__(self, graph: Graph, largest: Mapping[str, float] | None) -> None:
        self._graph, self._largest = graph, largest
        self._readers = {name: [n for n in graph.nodes if name in n.inputs] for n in graph.nodes for name in n.inputs}
        self._copies: dict[str, list[str]] = {}
        self._lines: list[str] = []
        self._blobs = 0
        self.weights: list[bytes] = []
        (name,) = graph.inputs
        self._line("Input", [], [name], "")

    def add(self, node: Node) -> None:
        """Append one operator."""
        if node.op == "Conv":
            self._convolution(node)
        elif node.op == "Relu":
            self._line("ReLU", node.inputs, node.outputs, "")
        elif node.op in {"Add", "Max"}:
            self._line("BinaryOp", node.inputs, node.outputs, f"0={_ADD if node.op == 'Add' else _MAX}")
        elif node.op == "Split":
            self._line("Slice", node.inputs, node.outputs, "-23300=2,-233,-233 1=0")
        elif node.op == "MaxPool":
            self._line("Pooling", node.inputs, node.outputs, "0=0 1=2 2=2")
        elif node.op == "Flatten":
            self._line("Flatten", node.inputs, node.outputs, "")
        else:
            raise ModelError(f"no ncnn form of {node.op} is known here", "write it in tools/lab/research/ncnn_files.py")

    def text(self) -> str:
        """Return the layers."""
        return "\n".join([str(_MAGIC), f"{len(self._lines)} {self._blobs}", *self._lines, ""])

    def _convolution(self, node: Node) -> None:
        weight, bias = (self._graph.tensors[name].astype(np.float32) for name in node.inputs[1:3])
        (side,) = set(weight.shape[2:])
        pad = node.integers("pads")[0] if node.integers("pads") else 0
        how = f"0={len(weight)} 1={side} 4={pad} 5=1 6={weight.size}"
        if self._largest is None:
            self._line("Convolution", node.inputs[:1], node.outputs, how)
            self.weights += [_tag(_FLOAT), weight.tobytes(), bias.tobytes()]
            return
        self._line("Convolution", node.inputs[:1], node.outputs, f"{how} 8={_INT8_TERM}")
        scale = 127 / np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-8)
        values = np.round(weight * scale[:, None, None, None]).astype(np.int8).tobytes()
        of_input = np.array([127 / self._largest[node.inputs[0]]], np.float32)
        self.weights += [_tag(_INT8), values + bytes(-len(values) % 4), bias.tobytes()]
        self.weights += [scale.astype(np.float32).tobytes(), of_input.tobytes()]

    def _line(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], how: str) -> None:
        """Append a layer. A blob may have one reader, so a blob with several readers is split into copies."""
        read = [self._copies[name].pop() if name in self._copies else name for name in inputs]
        fields = [kind, f"layer{len(self._lines)}", str(len(read)), str(len(outputs)), *read, *outputs]
        self._lines.append(" ".join([*fields, how]).rstrip())
        self._blobs += len(outputs)
        for name in outputs:
            readers = len(self._readers.get(name, ()))
            if readers > 1:
                copies = [f"{name}_{i}" for i in range(readers)]
                self._lines.append(" ".join(["Split", f"layer{len(self._lines)}", "1", str(readers), name, *copies]))
                self._blobs += readers
                self._copies[name] = copies


def _tag(value: int) -> bytes:
    return np.array([value], np.uint32).tobytes()


def largest_magnitudes(found: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    """Return the largest magnitude of each activation, for `ncnn_files`, from recorded values."""
    return {name: max(float(np.abs(values).max()), 1e-8) for name, values in found.items()}
