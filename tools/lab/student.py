"""The network that is trained, and its initial weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor, nn

from edge.errors import EdgeError
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.networks.mfm import FeatureMap

LSUV_SAMPLES, _LSUV_ROUNDS = 64, 3


class TrainingError(EdgeError):
    """A run cannot start or continue."""


class Student(nn.Module):
    """LightCNN-9 and, as its last layer, a projection into the teacher's space.

    The first `frozen` blocks of the network keep their weights: no gradient is computed for them.
    """

    def __init__(self, width: float, side_px: int, teacher_dimension: int, frozen: int = 0) -> None:
        super().__init__()
        self._frozen = frozen
        self.net = LightCNN9(width=width, side_px=side_px)
        self.left_px = side_px // 16  # side of the last convolution's output
        self.proj = nn.Linear(256, teacher_dimension)
        for parameter in self.net.f[:frozen].parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) → embeddings in the teacher's space (B, D), not normalized."""
        with torch.no_grad():
            x = self.net.f[: self._frozen](x)
        y: Tensor = self.proj(self.net.fc(torch.flatten(self.net.f[self._frozen :](x), 1)))
        return y


def scale_layers(net: nn.Module, pictures: Tensor) -> None:
    """Scale the layers, first to last, so that each operator's output has unit variance (LSUV).

    Source: Mishkin and Matas, "All you need is a good init" (2016). It replaces batch normalization, which would double
    the time of a step here.
    """
    seen: dict[str, Tensor] = {}
    for name, layer in net.named_modules():
        if not isinstance(layer, FeatureMap):
            continue
        weight, bias = layer.f.get_parameter("weight"), layer.f.get_parameter("bias")
        nn.init.orthogonal_(weight)
        nn.init.zeros_(bias)
        hook = layer.register_forward_hook(lambda _m, _x, y, n=name: seen.__setitem__(n, y))
        for _ in range(_LSUV_ROUNDS):
            with torch.no_grad():
                net(pictures)
                weight.div_(seen[name].std().clamp_min(1e-6))
        hook.remove()


def adopt(model: Student, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a model of the same or another input size; raises TrainingError where they do not fit.

    The convolutions' output is r × r. For another input size the next layer's kernel is resized to the new r and
    divided by the growth of its area, which keeps the scale of the outputs.
    """
    weights, wanted = dict(weights), model.state_dict()
    weights.setdefault("proj.bias", torch.zeros_like(wanted["proj.bias"]))  # older weights have no bias
    name = "net.fc.f.weight"
    have, want = weights.get(name, torch.empty(0)), wanted[name]
    if have.shape != want.shape and have.ndim == 2 and have.shape[0] == want.shape[0]:
        channels, new = want.shape[1] // model.left_px**2, model.left_px
        old = math.isqrt(have.shape[1] // channels)
        if old**2 * channels == have.shape[1]:
            grown = F.interpolate(have.float().view(-1, channels, old, old), size=(new, new)) * (old / new) ** 2
            weights[name] = grown.reshape(want.shape)
    try:
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except RuntimeError as e:
        raise TrainingError(f"the weights do not fit this network: {e}", "start from weights of the same kind") from e
