"""EfficientNet-B0: 5,288,548 weights with 1,000 outputs, (B, 3, 224, 224) → (B, outputs).

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), table 1, without
dropout and stochastic depth, which only training needs. The squeezed width is a quarter of a block's input channels.
"""

from __future__ import annotations

from torch import nn

from tools.lab.research.networks.blocks import conv_bn, inverted_residual, silu

SIDE_PX, CHANNELS, DIMENSION = 224, 3, 256
_STAGES = (  # expansion, channels, blocks, stride of the first one, kernel in pixels
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet_b0(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network with a linear layer to `outputs` at its end."""
    layers: list[nn.Module] = [conv_bn(CHANNELS, 32, 3, silu, stride=2)]
    channels = 32
    for expansion, wanted, blocks, stride, kernel_px in _STAGES:
        for i in range(blocks):
            layers.append(
                inverted_residual(
                    channels,
                    wanted,
                    expansion * channels,
                    silu,
                    kernel_px=kernel_px,
                    stride=stride if i == 0 else 1,
                    squeezed=channels // 4,
                )
            )
            channels = wanted
    layers += [conv_bn(channels, 1280, 1, silu), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, outputs)]
    return nn.Sequential(*layers)
