"""Max-Feature-Map and alternatives: each operator reduces the two halves of a layer's output to one.

Wu, He, Sun and Tan, "A Light CNN for Deep Face Representation with Noisy Labels" (2018), take the elementwise maximum.
Each operator takes the halves a and b, both (B, C, H, W) or (B, C), and returns a tensor of the same shape. All are
vectorized.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor

Operator = Callable[[Tensor, Tensor], Tensor]


def mean(a: Tensor, b: Tensor) -> Tensor:
    """Return (a + b) / 2, the linear baseline of the comparison."""
    return (a + b) / 2


def softmax_pair(a: Tensor, b: Tensor) -> Tensor:
    """Return w·a + (1 − w)·b with w = eᵃ / (eᵃ + eᵇ), element by element."""
    return b + torch.sigmoid(a - b) * (a - b)


def softmax_map(a: Tensor, b: Tensor) -> Tensor:
    """Return the weighted sum of the pair, with weights from one softmax over all 2·H·W values of both maps.

    The weights are multiplied by H·W. Their mean is then one half, independent of the map's size.
    """
    both = torch.stack((a, b), 2).flatten(3) if a.ndim == 4 else torch.stack((a, b), 2)[..., None]  # (B, C, 2, H·W)
    weights = torch.softmax(both.flatten(2), 2).view_as(both) * both.shape[3]
    return (weights * both).sum(2).view_as(a)


def logsumexp(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Return ln(eᵏᵃ + eᵏᵇ) / k, a maximum smoothed on the scale 1/k.

    The formula b + softplus(k·(a − b)) / k avoids overflow.
    """
    return b + F.softplus(a - b, beta=k)


def top_half(a: Tensor, b: Tensor) -> Tensor:
    """Return, at each position, the C largest of the 2·C values in falling order; channels lose their identity."""
    return torch.cat((a, b), 1).topk(a.shape[1], 1).values


def larger_map(a: Tensor, b: Tensor) -> Tensor:
    """Return, for each pair of maps, the map with the larger sum; a where the sums are equal."""
    if a.ndim == 2:
        return torch.maximum(a, b)  # a map of one position
    return torch.where((a - b).sum((2, 3), keepdim=True) >= 0, a, b)


def larger_stack(a: Tensor, b: Tensor) -> Tensor:
    """Return, for each sample, the half with the larger sum; a where the sums are equal."""
    dimensions = tuple(range(1, a.ndim))
    return torch.where((a - b).sum(dimensions, keepdim=True) >= 0, a, b)


OPERATORS: dict[str, Operator] = {
    "max": torch.maximum,
    "min": torch.minimum,
    "mean": mean,
    "softmax over the pair": softmax_pair,
    "softmax over the map": softmax_map,
    "logsumexp(1)": partial(logsumexp, k=1.0),
    "logsumexp(10)": partial(logsumexp, k=10.0),
    "logsumexp(30)": partial(logsumexp, k=30.0),
    "logsumexp(100)": partial(logsumexp, k=100.0),
    "topk": top_half,
    "larger-response map": larger_map,
    "larger-response stack": larger_stack,
}
