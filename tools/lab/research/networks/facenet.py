"""FaceNet on Inception-ResNet-v1: 22,793,728 weights, (B, 3, 160, 160) in −1..1 → (B, 128).

Source: Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering" (2015),
on the body of Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning" (2016), figures 10 to 14, with the factors of the residuals that are in common use.
"""

from __future__ import annotations

from torch import nn

from tools.lab.research.networks.blocks import Branches, Residual, conv_bn

SIDE_PX, CHANNELS, DIMENSION = 160, 3, 128


def facenet(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network; its last layer is linear and normalized over the batch."""
    return nn.Sequential(
        *_stem(),
        *[_inception_a() for _ in range(5)],
        _reduction_a(),
        *[_inception_b() for _ in range(10)],
        _reduction_b(),
        *[_inception_c(0.2, nn.ReLU(inplace=True)) for _ in range(5)],
        _inception_c(1.0, None),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1792, outputs, bias=False),
        nn.BatchNorm1d(outputs),
    )


def _stem() -> list[nn.Module]:
    return [
        conv_bn(CHANNELS, 32, stride=2, padded=False),
        conv_bn(32, 32, padded=False),
        conv_bn(32, 64),
        nn.MaxPool2d(3, 2),
        conv_bn(64, 80, 1),
        conv_bn(80, 192, padded=False),
        conv_bn(192, 256, stride=2, padded=False),
    ]


def _inception_a() -> Residual:
    branches = Branches(
        conv_bn(256, 32, 1),
        nn.Sequential(conv_bn(256, 32, 1), conv_bn(32, 32)),
        nn.Sequential(conv_bn(256, 32, 1), conv_bn(32, 32), conv_bn(32, 32)),
    )
    return _residual(branches, 96, 256, 0.17, nn.ReLU(inplace=True))


def _reduction_a() -> Branches:
    return Branches(
        conv_bn(256, 384, stride=2, padded=False),
        nn.Sequential(conv_bn(256, 192, 1), conv_bn(192, 192), conv_bn(192, 256, stride=2, padded=False)),
        nn.MaxPool2d(3, 2),
    )


def _inception_b() -> Residual:
    column = nn.Sequential(conv_bn(896, 128, 1), conv_bn(128, 128, (1, 7)), conv_bn(128, 128, (7, 1)))
    return _residual(Branches(conv_bn(896, 128, 1), column), 256, 896, 0.1, nn.ReLU(inplace=True))


def _reduction_b() -> Branches:
    return Branches(
        nn.Sequential(conv_bn(896, 256, 1), conv_bn(256, 384, stride=2, padded=False)),
        nn.Sequential(conv_bn(896, 256, 1), conv_bn(256, 256, stride=2, padded=False)),
        nn.Sequential(conv_bn(896, 256, 1), conv_bn(256, 256), conv_bn(256, 256, stride=2, padded=False)),
        nn.MaxPool2d(3, 2),
    )


def _inception_c(scale: float, activation: nn.Module | None) -> Residual:
    column = nn.Sequential(conv_bn(1792, 192, 1), conv_bn(192, 192, (1, 3)), conv_bn(192, 192, (3, 1)))
    return _residual(Branches(conv_bn(1792, 192, 1), column), 384, 1792, scale, activation)


def _residual(branches: Branches, joined: int, channels: int, scale: float, activation: nn.Module | None) -> Residual:
    return Residual(nn.Sequential(branches, nn.Conv2d(joined, channels, 1)), None, activation, scale)
