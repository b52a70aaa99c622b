"""LightCNN-29: 12,573,280 weights, (B, 1, 128, 128) in 0..1 → (B, 256).

Source: Wu, He, Sun and Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (2018), table II, which sums
to 12,637 K. Residual blocks without batch normalization stand before each group of LightCNN-9.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.lab.networks.mfm import Group, ResidualPair, convolution, linear
from tools.lab.operators import Operator

SIDE_PX, CHANNELS, DIMENSION = 128, 1, 256
_STAGES = (  # residual blocks, channels in, channels out, pooled
    (1, 48, 96, True),
    (2, 96, 192, True),
    (3, 192, 128, False),
    (4, 128, 128, True),
)


class LightCNN29(nn.Module):
    """29 layers with any operator."""

    def __init__(self, operator: Operator = torch.maximum, *, outputs: int = DIMENSION) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(CHANNELS, 48, 5, operator), nn.MaxPool2d(2, 2)]
        for blocks, channels_in, channels_out, pooled in _STAGES:
            layers += [ResidualPair(channels_in, operator) for _ in range(blocks)]
            layers.append(Group(channels_in, channels_out, operator))
            if pooled:
                layers.append(nn.MaxPool2d(2, 2))
        self.f = nn.Sequential(*layers)
        self.fc = linear(128 * (SIDE_PX // 16) ** 2, outputs, operator)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 128, 128) float in 0..1 → (B, outputs), not normalized."""
        y: Tensor = self.fc(torch.flatten(self.f(x), 1))
        return y
