"""The optimizer of a run: AdamW, or Muon for the kernels and AdamW for the biases.

Muon steps along the orthogonalized momentum: all directions of a kernel move alike, not only the few that every
gradient points along. Source: Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024); the
scale that makes its steps as long as AdamW's, so that one rate serves both: Liu and others, "Muon is Scalable for LLM
Training" (2025). `torch.optim.Muon` knows matrices only, so a convolution's kernel is one (outputs × all it sees).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

_BETAS, _MOMENTUM = (0.9, 0.98), 0.95


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


class Muon:
    """Muon for the kernels, AdamW for the biases."""

    def __init__(self, model: nn.Module, rate: float, weight_decay: float) -> None:
        kernels, biases = _parted(model)
        self._kernels = [(kernel, nn.Parameter(_matrix(kernel.data))) for kernel in kernels]
        matrices = [matrix for _, matrix in self._kernels]
        if any(kernel.data_ptr() != matrix.data_ptr() for kernel, matrix in self._kernels):
            raise ValueError("kernels of convolutions must be in channels-last order: a copy would never be trained")
        self._muon = torch.optim.Muon(
            matrices, lr=rate, weight_decay=weight_decay, momentum=_MOMENTUM, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(biases, lr=rate, weight_decay=0.0, betas=_BETAS)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, whose rate `lr` may be set."""
        groups: list[dict[str, Any]] = self._muon.param_groups + self._adamw.param_groups
        return groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for kernel, matrix in self._kernels:
            kernel.grad = matrix.grad = None
        self._adamw.zero_grad(set_to_none)

    def step(self) -> None:
        """Move the weights."""
        for kernel, matrix in self._kernels:
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)
        self._muon.step()
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def _parted(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    kernels, biases = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
    return kernels, biases


def _matrix(kernel: Tensor) -> Tensor:
    """Return a kernel as (outputs, rest): of channels-last weights a view of the same memory."""
    return kernel.permute(0, 2, 3, 1).flatten(1) if kernel.ndim == 4 else kernel
