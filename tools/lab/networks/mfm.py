"""Layers with an exchangeable Max-Feature-Map: an operator reduces the two halves of a layer's output to one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.lab.operators import Operator


class FeatureMap(nn.Module):
    """A linear layer `f` to 2 × outputs channels, then the operator: (B, I, …) → (B, O, …)."""

    def __init__(self, f: nn.Module, operator: Operator) -> None:
        super().__init__()
        self.f = f
        self._operator = operator

    def forward(self, x: Tensor) -> Tensor:
        """Compute both halves and join them."""
        a, b = torch.chunk(self.f(x), 2, 1)
        return self._operator(a, b)


class Group(nn.Module):
    """A 1×1 layer that mixes channels, then a 3×3 layer: the "network in network" of the paper."""

    def __init__(self, inputs: int, outputs: int, operator: Operator) -> None:
        super().__init__()
        self.a = convolution(inputs, inputs, 1, operator)
        self.c = convolution(inputs, outputs, 3, operator)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) → (B, O, H, W)."""
        y: Tensor = self.c(self.a(x))
        return y


class ResidualPair(nn.Module):
    """Two 3×3 layers with a shortcut. The operators are the only activations."""

    def __init__(self, channels: int, operator: Operator) -> None:
        super().__init__()
        self.c1 = convolution(channels, channels, 3, operator)
        self.c2 = convolution(channels, channels, 3, operator)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        y: Tensor = self.c2(self.c1(x))
        return x + y


def convolution(inputs: int, outputs: int, kernel_px: int, operator: Operator) -> FeatureMap:
    """Return a convolution with an operator that keeps the picture's size."""
    return FeatureMap(nn.Conv2d(inputs, 2 * outputs, kernel_px, padding=kernel_px // 2), operator)


def linear(inputs: int, outputs: int, operator: Operator) -> FeatureMap:
    """Return a fully connected layer with an operator."""
    return FeatureMap(nn.Linear(inputs, 2 * outputs), operator)
