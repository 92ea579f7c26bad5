"""Optimisers by the name that a recipe says."""

from __future__ import annotations

import torch
from torch import nn

from diff2ct_training.muon import Muon

OPTIMIZERS = ("adamw", "muon")


def make_optimizers(network: nn.Module, name: str, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """ "adamw" for everything, or "muon" for matrices and kernels and AdamW for scales, shifts and biases."""
    if name == "adamw":
        return [torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)]
    if name != "muon":
        raise ValueError(f"optimizer: got {name!r}, accepted are {', '.join(OPTIMIZERS)}")
    if any(hasattr(p, "full_tensor") for p in network.parameters()):
        raise ValueError("optimizer: got 'muon' with shared out weights, accepted is 'adamw': it needs whole ones")
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    return [Muon(matrices, lr=learning_rate), torch.optim.AdamW(vectors, lr=learning_rate, weight_decay=0.0)]
