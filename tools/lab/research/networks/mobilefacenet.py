"""MobileFaceNet: 0.99 million weights, (B, 3, 112, 112) in −1..1 → (B, 128).

Source: Chen, Liu, Gao and Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices" (2018), table 1: PReLU throughout, and a global depthwise convolution (one 7×7 kernel a channel) in place of
average pooling, so that the middle of a face may weigh more than its corners.
"""

from __future__ import annotations

from torch import nn

from tools.lab.research.networks.blocks import conv_bn, inverted_residual, linear, prelu

SIDE_PX, CHANNELS, DIMENSION = 112, 3, 128
_STAGES = (  # expansion, channels, blocks, stride of the first one
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


def mobilefacenet(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network; its end is linear."""
    layers: list[nn.Module] = [conv_bn(CHANNELS, 64, 3, prelu, stride=2), conv_bn(64, 64, 3, prelu, groups=64)]
    channels = 64
    for expansion, wanted, blocks, stride in _STAGES:
        for i in range(blocks):
            layers.append(
                inverted_residual(channels, wanted, expansion * channels, prelu, stride=stride if i == 0 else 1)
            )
            channels = wanted
    return nn.Sequential(
        *layers,
        conv_bn(channels, 512, 1, prelu),
        conv_bn(512, 512, SIDE_PX // 16, linear, groups=512, padded=False),
        conv_bn(512, outputs, 1, linear),
        nn.Flatten(),
    )
