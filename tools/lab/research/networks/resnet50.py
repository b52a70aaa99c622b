"""ResNet-50: 25,557,032 weights with 1,000 outputs, (B, 3, 224, 224) → (B, outputs).

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016), table 1, with the stride in the
3×3 convolution of a block, as it is used everywhere since.
"""

from __future__ import annotations

from torch import nn

from tools.lab.research.networks.blocks import Residual, conv_bn, linear

SIDE_PX, CHANNELS, DIMENSION = 224, 3, 256
_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))  # blocks, inner channels, stride of the first one


def resnet50(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network with a linear layer to `outputs` at its end."""
    layers: list[nn.Module] = [conv_bn(CHANNELS, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for blocks, inner, stride in _STAGES:
        for i in range(blocks):
            layers.append(_bottleneck(channels, inner, stride if i == 0 else 1))
            channels = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def _bottleneck(inputs: int, inner: int, stride: int) -> Residual:
    outputs = 4 * inner
    body = nn.Sequential(
        conv_bn(inputs, inner, 1), conv_bn(inner, inner, 3, stride=stride), conv_bn(inner, outputs, 1, linear)
    )
    shortcut = None if inputs == outputs else conv_bn(inputs, outputs, 1, linear, stride=stride)
    return Residual(body, shortcut, nn.ReLU(inplace=True))
