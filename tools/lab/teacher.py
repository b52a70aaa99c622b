"""The teacher network as a torch module, which runs on the training device.

The file is `teacher.onnx` of the model folder: face-reidentification-retail-0095 (Intel Open Model Zoo, Apache-2.0).
The file uses seven ONNX operators. This module implements these and refuses all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from onnx import numpy_helper
from torch import Tensor, nn

from tools.lab.data import DataError

SIDE_PX, DIMENSION = 128, 256
SHA256 = "1f99c94d4ad4cf9ace7aa5d22fd509028d58772af58b39c9b1860baaafc7e804"
# The least-squares similarity from a stored 144 px crop to the teacher's input; source: the README beside the file.
SCALE, OFFSET_PX = 1.0313, (-10.26, 7.99)


class Teacher(nn.Module):
    """(B, 1, 128, 128) gray in 0..1, in the teacher's own geometry → unit embeddings (B, 256) float32."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load_from_string(_verified(path)).graph
        self._nodes = [_node(node) for node in graph.node]
        self._input, self._output = graph.input[0].name, graph.output[0].name
        for tensor in graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            self.register_buffer(_buffer(tensor.name), values.float() if values.is_floating_point() else values)
        self._names = {tensor.name for tensor in graph.initializer}
        last = {name: at for at, (_, inputs, _) in enumerate(self._nodes) for name in inputs}
        self._spent = [[name for name in inputs if last[name] == at] for at, (_, inputs, _) in enumerate(self._nodes)]

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Tensor:
        """Return the unit embeddings. All three input channels get the gray picture, in 0..255."""
        values = {name: self.get_buffer(_buffer(name)) for name in self._names}
        values[self._input] = (faces * 255).expand(-1, 3, -1, -1)
        for (run, inputs, output), spent in zip(self._nodes, self._spent, strict=True):
            values[output] = run(*(values[name] for name in inputs))
            for name in spent:  # frees activations that no later layer reads
                values.pop(name, None)
        return F.normalize(values[self._output].float(), dim=1)


def _verified(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}", "name the teacher's file with --teacher") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(f"{path}: SHA-256 is {found}, expected {SHA256}", "fetch the teacher's file again")
    return content


def _buffer(name: str) -> str:
    return "w_" + name.replace(".", "_").replace("/", "_")


_Run = Callable[..., Tensor]


def _node(node: Any) -> tuple[_Run, list[str], str]:
    if node.op_type not in _OPERATORS:
        raise DataError(f"the teacher's file has the operator {node.op_type}", "fetch the teacher's file again")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return _OPERATORS[node.op_type](attributes), list(node.input), node.output[0]


def _convolution(attributes: dict[str, Any]) -> _Run:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    stride, groups = tuple(attributes.get("strides", [1, 1])), attributes.get("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if (top, left) == (bottom, right):
            return F.conv2d(x, weight, bias, stride, (top, left), 1, groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, 1, groups)

    return run


def _prelu(_: dict[str, Any]) -> _Run:
    return lambda x, slope: F.prelu(x, slope.flatten())


_OPERATORS: dict[str, Callable[[dict[str, Any]], _Run]] = {
    "Cast": lambda _: lambda x: x.float(),  # the weights are stored as float16 and used as float32
    "Conv": _convolution,
    "PRelu": _prelu,
    "Mul": lambda _: torch.mul,
    "Add": lambda _: torch.add,
    "Sigmoid": lambda _: torch.sigmoid,
    "GlobalAveragePool": lambda _: lambda x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda a: lambda x: x.flatten(a.get("axis", 1)),
}
