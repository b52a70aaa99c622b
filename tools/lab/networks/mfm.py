"""Layers with an exchangeable Max-Feature-Map: an operator reduces the two halves of a layer's output to one."""

from __future__ import annotations

from typing import Any

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
        halves: Tensor = self.f(x)
        if self._operator is torch.maximum:
            apply: Any = _MaxOfHalves.apply  # torch declares no type for it
            y: Tensor = apply(halves)
            return y
        a, b = torch.chunk(halves, 2, 1)
        return self._operator(a, b)


class _MaxOfHalves(torch.autograd.Function):
    """Max-Feature-Map with a backward pass of two operations: (B, 2·O, …) → (B, O, …).

    The gradients of `chunk` and `maximum` take ten operations over the largest tensors of a training step. Where both
    halves are equal, the whole gradient goes to the first half; `torch.maximum` gives each half of it.
    """

    @staticmethod
    def forward(ctx: Any, halves: Tensor) -> Tensor:
        a, b = torch.chunk(halves, 2, 1)
        ctx.save_for_backward(a >= b)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (first_is_larger,) = ctx.saved_tensors
        (gradient,) = gradients
        count = gradient.shape[1]
        shape = (gradient.shape[0], 2 * count, *gradient.shape[2:])
        channels_last = gradient.ndim == 4 and gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        both = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)
        torch.mul(gradient, first_is_larger, out=both[:, :count])
        torch.sub(gradient, both[:, :count], out=both[:, count:])
        return both


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
