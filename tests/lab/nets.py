"""A tiny network of the same kind as LightCNN-9, its random weights, and an independent forward pass in numpy."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.lab.lightcnn9 import Layer, Network

Array = NDArray[np.float32]
TINY = Network(
    16,
    (
        Layer("first", 1, 6, 5, pooled=True),
        Layer("narrow", 6, 6, 1),
        Layer("wide", 6, 8, 3, pooled=True),
        Layer("fc", 8, 12, 4, padded=False),
    ),
)


def random_weights(network: Network, seed: int = 7) -> dict[str, Array]:
    """Return weights of unit gain, with a flat fully connected layer, as in a checkpoint."""
    rng = np.random.default_rng(seed)
    weights = {}
    for layer in network.layers:
        fan_in = int(np.prod(layer.weight_shape[1:]))
        weight = rng.normal(0, (2 / fan_in) ** 0.5, layer.weight_shape).astype(np.float32)
        weights[f"{layer.name}.weight"] = weight if layer.padded else weight.reshape(len(weight), -1)
        weights[f"{layer.name}.bias"] = rng.normal(0, 0.1, 2 * layer.outputs).astype(np.float32)
    return weights


def random_crops(network: Network, count: int, seed: int = 3) -> list[NDArray[np.uint8]]:
    """Smooth random pictures over the whole range."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4), np.uint8)
    return [np.ascontiguousarray(np.kron(c, np.ones((network.size_px // 4,) * 2, np.uint8))) for c in coarse]


def forward(network: Network, weights: dict[str, Array], crop: NDArray[np.uint8]) -> Array:
    """Compute the network with Max-Feature-Map by its definition: the maximum of two halves."""
    x = crop[None].astype(np.float64) / 255  # (C, H, W)
    for layer in network.layers:
        weight = weights[f"{layer.name}.weight"].reshape(layer.weight_shape).astype(np.float64)
        pad = layer.kernel_px // 2 if layer.padded else 0
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (layer.kernel_px,) * 2, axis=(1, 2))
        both = np.einsum("ihwkl,oikl->ohw", windows, weight) + weights[f"{layer.name}.bias"][:, None, None]
        x = np.maximum(both[: layer.outputs], both[layer.outputs :])
        if layer.pooled:
            c, h, w = x.shape
            x = x.reshape(c, h // 2, 2, w // 2, 2).max(axis=(2, 4))
    return x.reshape(-1).astype(np.float32)


def save_checkpoint(path: Path, tensors: dict[str, Array]) -> None:
    """Write what `torch.save` writes for a dict of half-precision tensors, opcode by opcode."""
    with zipfile.ZipFile(path, "w") as archive:
        program = b"\x80\x02}"  # protocol 2, empty dict
        for i, (name, value) in enumerate(tensors.items()):
            storage = (
                b"(" + _text("storage") + b"ctorch\nHalfStorage\n" + _text(str(i)) + _text("cpu") + _number(value.size)
            )
            strides = [s // value.itemsize for s in value.strides]
            arguments = storage + b"tQ" + _number(0) + _numbers(value.shape) + _numbers(strides)
            hooks = b"\x89ccollections\nOrderedDict\n)R"
            program += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + hooks + b"tRs"
            archive.writestr(f"weights/data/{i}", value.astype("<f2").tobytes())
        archive.writestr("weights/data.pkl", program + b".")


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()  # BINUNICODE


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)  # BININT


def _numbers(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(_number(v) for v in values) + b"t"  # MARK … TUPLE
