"""MobileNet-V2: 3,504,872 weights with 1,000 outputs, (B, 3, 224, 224) → (B, outputs).

Source: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018),
table 2, without dropout, which only training needs.
"""

from __future__ import annotations

from torch import nn

from tools.lab.research.networks.blocks import conv_bn, inverted_residual, relu6

SIDE_PX, CHANNELS, DIMENSION = 224, 3, 256
_STAGES = (  # expansion, channels, blocks, stride of the first one
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network with a linear layer to `outputs` at its end."""
    layers: list[nn.Module] = [conv_bn(CHANNELS, 32, 3, relu6, stride=2)]
    channels = 32
    for expansion, wanted, blocks, stride in _STAGES:
        for i in range(blocks):
            layers.append(
                inverted_residual(channels, wanted, expansion * channels, relu6, stride=stride if i == 0 else 1)
            )
            channels = wanted
    layers += [conv_bn(channels, 1280, 1, relu6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, outputs)]
    return nn.Sequential(*layers)
