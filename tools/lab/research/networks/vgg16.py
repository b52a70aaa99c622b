"""VGG-16: 138,357,544 weights with 1,000 outputs, (B, 3, 224, 224) → (B, outputs).

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015), table 1,
column D, without dropout, which only training needs.
"""

from __future__ import annotations

from torch import nn

SIDE_PX, CHANNELS, DIMENSION = 224, 3, 256
_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, channels; pooled after each


def vgg16(outputs: int = DIMENSION) -> nn.Sequential:
    """Return the network; its third fully connected layer has `outputs`."""
    layers: list[nn.Module] = []
    channels = CHANNELS
    for convolutions, wanted in _STAGES:
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, wanted, 3, padding=1), nn.ReLU(inplace=True)]
            channels = wanted
        layers.append(nn.MaxPool2d(2, 2))
    layers.append(nn.Flatten())
    for inputs in (channels * (SIDE_PX // 32) ** 2, 4096):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(4096, outputs))
