"""LightCNN-9 as a table of layers.

Source: Wu, He, Sun and Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (2018), the nine-layer
network, for 128×128 gray crops. Every layer is followed by Max-Feature-Map: a layer computes two halves of `outputs`
channels each and keeps the larger one, element by element. 5,480,864 weights.

Max-Feature-Map is computed as  max(a, b) = b + relu(a − b).  a and b are linear maps of the same input, so a − b is one
convolution whose weights are the difference of both. This form uses two convolutions, relu and an addition, which every
int8 engine has; few have an int8 maximum. `python -m tools.lab rivals` compares its time with that of split and
maximum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution to 2 × `outputs` channels with Max-Feature-Map after it.

    A fully connected layer is a convolution whose kernel covers the whole remaining picture (`padded` False).
    """

    name: str  # prefix of its tensors in the checkpoint
    inputs: int
    outputs: int
    kernel_px: int
    padded: bool = True  # by kernel_px // 2, so that the picture keeps its size
    pooled: bool = False  # followed by 2×2 max pooling

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of both halves together, (2·O, I, K, K)."""
        return (2 * self.outputs, self.inputs, self.kernel_px, self.kernel_px)


@dataclass(frozen=True, slots=True)
class Network:
    """A stack of Max-Feature-Map layers over a (1, 1, size_px, size_px) gray crop in 0..1."""

    size_px: int
    layers: tuple[Layer, ...]

    @property
    def dimension(self) -> int:
        """Length of the embedding."""
        return self.layers[-1].outputs

    @property
    def weight_count(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(layer.weight_shape)) + 2 * layer.outputs for layer in self.layers)


LIGHTCNN9 = Network(
    128,
    (
        Layer("f.0.f", 1, 48, 5, pooled=True),
        Layer("f.2.a.f", 48, 48, 1),
        Layer("f.2.c.f", 48, 96, 3, pooled=True),
        Layer("f.4.a.f", 96, 96, 1),
        Layer("f.4.c.f", 96, 192, 3, pooled=True),
        Layer("f.6.a.f", 192, 192, 1),
        Layer("f.6.c.f", 192, 128, 3),
        Layer("f.7.a.f", 128, 128, 1),
        Layer("f.7.c.f", 128, 128, 3, pooled=True),
        Layer("fc.f", 128, 256, 8, padded=False),
    ),
)


def halves(layer: Layer, weights: Mapping[str, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return weight and bias of a − b, and weight and bias of b; raises ModelError where they do not fit the layer."""
    weight, bias = (_tensor(weights, f"{layer.name}.{part}") for part in ("weight", "bias"))
    if weight.shape[0] == bias.size == 2 * layer.outputs and weight.size == np.prod(layer.weight_shape):
        weight = weight.reshape(layer.weight_shape)  # fully connected: the inputs are flattened in the order I, K, K
    else:
        raise ModelError(
            f"{layer.name}: weights of shape {weight.shape} and {bias.shape}, expected {layer.weight_shape}",
            "these weights are of another network",
        )
    o = layer.outputs
    return (weight[:o] - weight[o:], bias[:o] - bias[o:]), (weight[o:], bias[o:])


def projection(network: Network, weights: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return weight (D, dimension, 1, 1) and bias (D,) of the projection into the teacher's space.

    Distillation trains it together with the network. It is linear, without Max-Feature-Map. Raises ModelError where it
    does not fit.
    """
    weight = _tensor(weights, "proj.weight")
    bias = _tensor(weights, "proj.bias") if "proj.bias" in weights else np.zeros(len(weight), np.float32)
    if weight.ndim != 2 or weight.shape[1] != network.dimension or bias.shape != (len(weight),):
        raise ModelError(
            f"proj: weights of shape {weight.shape} and {bias.shape}, expected (D, {network.dimension}) and (D,)",
            "these weights are of another network",
        )
    return weight[:, :, None, None], bias


def _tensor(weights: Mapping[str, Array], name: str) -> Array:
    if name not in weights:
        raise ModelError(f"the weights hold no tensor {name}", "these weights are of another network")
    tensor = weights[name]
    if not np.isfinite(tensor).all():
        raise ModelError(f"{name}: a weight is not finite", "the training diverged: take an earlier checkpoint")
    return tensor
