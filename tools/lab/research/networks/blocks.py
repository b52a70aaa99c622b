"""Shared parts of the compared networks: convolution with batch normalization, shortcut, branches, squeeze."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[int], nn.Module]  # number of channels → layer


def relu(_channels: int) -> nn.Module:
    """Return max(x, 0)."""
    return nn.ReLU(inplace=True)


def relu6(_channels: int) -> nn.Module:
    """Return x between 0 and 6."""
    return nn.ReLU6(inplace=True)


def silu(_channels: int) -> nn.Module:
    """Return x · sigmoid(x)."""
    return nn.SiLU(inplace=True)


def linear(_channels: int) -> nn.Module:
    """Return x: a layer without activation."""
    return nn.Identity()


def prelu(channels: int) -> nn.Module:
    """Return max(x, 0) + c · min(x, 0), with a learned c a channel."""
    return nn.PReLU(channels)


def conv_bn(
    inputs: int,
    outputs: int,
    kernel_px: int | tuple[int, int] = 3,
    activation: Activation = relu,
    *,
    stride: int = 1,
    groups: int = 1,
    padded: bool = True,
) -> nn.Sequential:
    """Return convolution without bias, batch normalization, activation; padded by half the kernel."""
    kernel = (kernel_px, kernel_px) if isinstance(kernel_px, int) else kernel_px
    padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        activation(outputs),
    )


class Residual(nn.Module):
    """activation(shortcut(x) + scale · inner(x))."""

    def __init__(
        self,
        inner: nn.Module,
        shortcut: nn.Module | None = None,
        activation: nn.Module | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation or nn.Identity()
        self._scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the shape of `inner`."""
        inner: Tensor = self.inner(x)
        if self._scale != 1.0:  # a multiplication by one would stay in the graph and prevent fusion in int8 engines
            inner = inner * self._scale
        y: Tensor = self.activation(self.shortcut(x) + inner)
        return y


class Branches(nn.Module):
    """Branches side by side over one input, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, sum of the branches' channels, …)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a function of all channel means: Hu, Shen and Sun, "Squeeze-and-Excitation Networks"."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        scale: Tensor = self.scale(x)
        return x * scale


def inverted_residual(
    inputs: int,
    outputs: int,
    expanded: int,
    activation: Activation,
    *,
    kernel_px: int = 3,
    stride: int = 1,
    squeezed: int = 0,
) -> nn.Module:
    """Return MobileNet-V2's block: widen (1×1), filter each channel, narrow (1×1); with a shortcut where shapes allow.

    `squeezed` > 0 puts a squeeze-and-excitation of that width before the narrowing, as EfficientNet does.
    """
    layers: list[nn.Module] = []
    if expanded != inputs:
        layers.append(conv_bn(inputs, expanded, 1, activation))
    layers.append(conv_bn(expanded, expanded, kernel_px, activation, stride=stride, groups=expanded))
    if squeezed:
        layers.append(SqueezeExcitation(expanded, squeezed))
    layers.append(conv_bn(expanded, outputs, 1, linear))
    block = nn.Sequential(*layers)
    return Residual(block) if stride == 1 and inputs == outputs else block
