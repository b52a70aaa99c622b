"""The optimizer of a run: AdamW, or Muon for the kernels and AdamW for the biases.

Muon steps along the orthogonalized momentum: all directions of a kernel move by the same length, not only the few that
every gradient has. Source: Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024). The
scale that makes its steps as long as those of AdamW, so that one rate serves both: Liu and others, "Muon is Scalable
for LLM Training" (2025). A convolution's kernel is one matrix (outputs × all inputs).

`torch.optim.Muon` is not used: it multiplies in bfloat16, which is emulated on a processor without AVX-512, and it
multiplies the whole matrix ten times, where this form needs two such products.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

_BETAS, _MOMENTUM = (0.9, 0.98), 0.95
_QUINTIC, _ROUNDS = (3.4445, -4.7750, 2.0315), 5  # the polynomial of the source: singular values end in 0.7 … 1.2
_AS_LONG_AS_ADAMW = 0.2  # root mean square of a step of AdamW, in rates


class Optimizer(Protocol):
    """What a training step needs of an optimizer."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, whose rate `lr` may be set."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Move the weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""


def adamw(model: nn.Module, rate: float, weight_decay: float) -> Optimizer:
    """Return AdamW for all weights; biases do not decay."""
    kernels, biases = _parted(model)
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer: Optimizer = torch.optim.AdamW(groups, lr=rate, betas=_BETAS)
    return optimizer


class _Kernels(torch.optim.Optimizer):
    """Muon for parameters of two and more dimensions."""

    def __init__(self, kernels: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        super().__init__(kernels, {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ARG002  # the signature of every optimizer of torch
        """Move the kernels."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                momentum: Tensor = state.setdefault("momentum", torch.zeros_like(kernel.grad))
                momentum.lerp_(kernel.grad, 1 - _MOMENTUM)
                wanted = kernel.grad.lerp(momentum, _MOMENTUM)  # Nesterov's form
                matrix = wanted.flatten(1)
                length = _AS_LONG_AS_ADAMW * max(matrix.shape) ** 0.5
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.add_(orthogonalized(matrix).view(kernel.shape), alpha=-group["lr"] * length)


class Muon:
    """Muon for the kernels, AdamW for the biases."""

    def __init__(self, model: nn.Module, rate: float, weight_decay: float) -> None:
        kernels, biases = _parted(model)
        self._kernels = _Kernels(kernels, rate, weight_decay)
        self._biases = torch.optim.AdamW(biases, lr=rate, weight_decay=0.0, betas=_BETAS)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, whose rate `lr` may be set."""
        groups: list[dict[str, Any]] = self._kernels.param_groups + self._biases.param_groups
        return groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self._kernels.zero_grad(set_to_none)
        self._biases.zero_grad(set_to_none)

    def step(self) -> None:
        """Move the weights."""
        self._kernels.step()
        self._biases.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return {"kernels": self._kernels.state_dict(), "biases": self._biases.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._kernels.load_state_dict(state_dict["kernels"])
        self._biases.load_state_dict(state_dict["biases"])


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return the nearest matrix (M, N) whose singular values are all about 1; computed in float32.

    Newton–Schulz: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X. Each round multiplies the first X by a polynomial of G = XXᵀ, so only
    that polynomial, of the smaller side, is kept: the matrix itself is multiplied twice instead of ten times.
    """
    x = matrix.float()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / x.norm().clamp_min(1e-12)
    gram = x @ x.T
    eye = torch.eye(len(x), device=x.device)
    p = eye
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        g = p @ gram @ p  # the Gram matrix of p·x; p is symmetric
        p = p @ (a * eye + b * g + c * g @ g)
    found: Tensor = p @ x
    return found if wide else found.T


def _parted(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    kernels, biases = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
    return kernels, biases
