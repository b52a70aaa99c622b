"""The optimizer of a run: AdamW, or Muon for the kernels and AdamW for the biases.

Muon orthogonalizes the momentum, so a step has the same length in all singular directions of a kernel. Source: Jordan
and others, "Muon: An optimizer for hidden layers in neural networks" (2024). Its steps are scaled to the length of
AdamW's steps, so both use the same learning rate: Liu and others, "Muon is Scalable for LLM Training" (2025). A
convolution's kernel is one matrix (outputs × all inputs).

`torch.optim.Muon` is slower here: it multiplies in bfloat16, which a processor without AVX-512 emulates, and it needs
ten products with the whole matrix where this form needs two.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

_BETAS, _MOMENTUM = (0.9, 0.98), 0.95
_QUINTIC, _ROUNDS = (3.4445, -4.7750, 2.0315), 5  # polynomial of the source; singular values converge to 0.7 … 1.2
_AS_LONG_AS_ADAMW = 0.2  # root mean square of an AdamW step, relative to the rate


class Optimizer(Protocol):
    """The optimizer interface of a training step."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups with a settable rate `lr`."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients."""

    def step(self) -> Any:
        """Update the weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state."""


def adamw(model: nn.Module, rate: float, weight_decay: float) -> Optimizer:
    """Return AdamW for all weights, without weight decay for biases."""
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
        """Update the kernels."""
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
        """Parameter groups with a settable rate `lr`."""
        groups: list[dict[str, Any]] = self._kernels.param_groups + self._biases.param_groups
        return groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients."""
        self._kernels.zero_grad(set_to_none)
        self._biases.zero_grad(set_to_none)

    def step(self) -> None:
        """Update the weights."""
        self._kernels.step()
        self._biases.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""
        return {"kernels": self._kernels.state_dict(), "biases": self._biases.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state."""
        self._kernels.load_state_dict(state_dict["kernels"])
        self._biases.load_state_dict(state_dict["biases"])


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return the nearest matrix (M, N) with all singular values about 1, computed in float32.

    Newton–Schulz iteration: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X. All rounds together multiply the initial X by one
    polynomial of G = XXᵀ. The polynomial is computed on the smaller side, so the whole matrix is multiplied twice
    instead of ten times.
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
    trained = [p for p in model.parameters() if p.requires_grad]
    kernels, biases = ([p for p in trained if (p.ndim > 1) == many] for many in (True, False))
    return kernels, biases
