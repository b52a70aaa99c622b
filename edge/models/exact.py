"""How onnxruntime is made to multiply int8 exactly, whatever the processor.

On x86-64 without VNNI its kernels add pairs of u8·s8 products in 16 bits, where they saturate: wrong embeddings, by no
error. It has an option that shifts the weights to u8, which is exact there. With VNNI the kernels are exact as they
are, and the option takes them away: an embedding took 2.2 times as long. So the processor is asked, by a product that
would saturate, with what reads neither CPU flags nor /proc.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.models.onnxfile import Graph, Node, write

SHIFT_WEIGHTS = ("session.x64quantprecision", "1")
_CHANNELS, _SIDE = 64, 8  # enough of them for the kernels that the networks meet


def multiply_exactly(ort: ModuleType, options: Any) -> None:
    """Set session options of `ort`, onnxruntime, so that int8 products are exact here, and as fast as that allows."""
    if _saturates(ort):
        options.add_session_config_entry(*SHIFT_WEIGHTS)


@functools.cache
def _saturates(ort: ModuleType) -> bool:
    """Whether onnxruntime's own choice of kernels gets a convolution of large values wrong; some milliseconds, once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(_probe(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, _CHANNELS, _SIDE, _SIDE), np.float32)})
    return bool(np.abs(found - 1.0).max() > 0.01)  # a step of its grid is 1/255


def _probe() -> bytes:
    """Return a convolution of largest values, 255 · 127 in every channel, whose result is 1."""
    tensors: dict[str, NDArray[Any]] = {
        "x_scale": np.array(1 / 255, np.float32),
        "x_zero": np.array(0, np.uint8),
        "w": np.full((_CHANNELS, _CHANNELS, 1, 1), 127, np.int8),
        "w_scale": np.full(_CHANNELS, 1 / (127 * _CHANNELS), np.float32),
        "w_zero": np.zeros(_CHANNELS, np.int8),
    }
    x = ("x_q", "x_scale", "x_zero")
    nodes = [
        Node("QuantizeLinear", ("x", "x_scale", "x_zero"), ("x_q",)),
        Node("QLinearConv", (*x, "w", "w_scale", "w_zero", "x_scale", "x_zero"), ("y_q",)),
        Node("DequantizeLinear", ("y_q", "x_scale", "x_zero"), ("y",)),
    ]
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    return write(Graph(nodes, tensors, {"x": shape}, {"y": shape}))
