"""Muon: momentum whose step is made orthogonal (Jordan et al. 2024), for convolution and linear weights.

All directions of a layer learn at one pace, where Adam's and SGD's steps are dominated by a few. On one CPU a run is some
thousand steps; this gets more out of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MATCH_ADAM = 0.2
"""Root mean square of an AdamW update in units of its learning rate, so that one rate serves both (Liu et al. 2025)."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per layer, each weight seen as a matrix (outputs, all the rest)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                direction = orthogonalize(weight.grad.lerp(momentum, group["momentum"]).flatten(1))
                scale = _MATCH_ADAM * max(direction.shape) ** 0.5
                weight.add_(direction.view_as(weight), alpha=-group["lr"] * scale)
        return loss


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """(m, n) -> about U V^T of its singular value decomposition: five Newton-Schulz steps in bfloat16 bring the singular values
    to 0.7..1.2."""
    a, b, c = _QUINTIC
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
