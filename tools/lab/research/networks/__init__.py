"""The networks of the comparison, with input, published number of weights, and published times on telephones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tools.lab.networks import lightcnn9
from tools.lab.research.networks import (
    efficientnet_b0,
    facenet,
    lightcnn29,
    mobilefacenet,
    mobilenet_v2,
    resnet50,
    vgg16,
)

IPHONES = ("iPhone 6", "iPhone X", "iPhone XR")


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of the comparison."""

    title: str
    build: Callable[[], nn.Module]
    channels: int
    side_px: int
    iphone_ms: tuple[int | None, ...] = ()  # published extraction time on IPHONES; empty where the study has none

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(1, C, S, S)."""
        return (1, self.channels, self.side_px, self.side_px)


NETWORKS = {
    "lightcnn9": Entry("LightCNN-9", lightcnn9.LightCNN9, 1, lightcnn9.SIDE_PX, (562, 248, 171)),
    "lightcnn29": Entry("LightCNN-29", lightcnn29.LightCNN29, 1, lightcnn29.SIDE_PX, (1426, 604, 430)),
    "mobilenet_v2": Entry("MobileNet-V2", mobilenet_v2.mobilenet_v2, 3, mobilenet_v2.SIDE_PX, (1022, 357, 240)),
    "efficientnet_b0": Entry(
        "EfficientNet-B0", efficientnet_b0.efficientnet_b0, 3, efficientnet_b0.SIDE_PX, (1321, 450, 329)
    ),
    "resnet50": Entry("ResNet-50", resnet50.resnet50, 3, resnet50.SIDE_PX, (2386, 941, 834)),
    "vgg16": Entry("VGG-16", vgg16.vgg16, 3, vgg16.SIDE_PX, (None, 4138, 3747)),
    "mobilefacenet": Entry("MobileFaceNet", mobilefacenet.mobilefacenet, 3, mobilefacenet.SIDE_PX),
    "facenet": Entry("FaceNet (Inception-ResNet-v1)", facenet.facenet, 3, facenet.SIDE_PX),
}


def weight_count(network: nn.Module) -> int:
    """Return the number of learned weights and biases."""
    return sum(parameter.numel() for parameter in network.parameters())


def gigamacs(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the multiplications by weights of one run, in billions; activations and additions are not counted."""
    products: list[int] = []

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        per_channel = weight[0].numel()
        products.append(output.numel() * per_channel)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network.eval()(torch.zeros(input_shape))
    for hook in hooks:
        hook.remove()
    return sum(products) / 1e9
