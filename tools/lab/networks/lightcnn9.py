"""LightCNN-9 for training: 5,480,864 weights, (B, 1, 128, 128) in 0..1 → (B, 256).

Source: Wu, He, Sun and Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (2018), table I. Its tensors
have the names and shapes of the table in `tools/lab/lightcnn9.py`, from which the ONNX file is written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.lab.networks.mfm import Group, convolution, linear
from tools.lab.operators import Operator

SIDE_PX, CHANNELS, DIMENSION = 128, 1, 256


class LightCNN9(nn.Module):
    """The nine layers with any operator, a share `width` of the channels, and an input side divisible by 16."""

    def __init__(
        self,
        operator: Operator = torch.maximum,
        *,
        width: float = 1.0,
        side_px: int = SIDE_PX,
        outputs: int = DIMENSION,
    ) -> None:
        super().__init__()
        w48, w96, w128, w192 = (round(width * channels) for channels in (48, 96, 128, 192))
        self.f = nn.Sequential(
            convolution(CHANNELS, w48, 5, operator),
            nn.MaxPool2d(2, 2),
            Group(w48, w96, operator),
            nn.MaxPool2d(2, 2),
            Group(w96, w192, operator),
            nn.MaxPool2d(2, 2),
            Group(w192, w128, operator),
            Group(w128, w128, operator),
            nn.MaxPool2d(2, 2),
        )
        self.fc = linear(w128 * (side_px // 16) ** 2, outputs, operator)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float in 0..1 → (B, outputs), not normalized."""
        y: Tensor = self.fc(torch.flatten(self.f(x), 1))
        return y
