"""Where a run stands, on disk: weights, EMA, optimiser moments and the step, in one safetensors file. No pickle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn


class Ema:
    """Exponential moving average of a network's weights, with the usual warm-up min(decay, (1 + n) / (10 + n))."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            self.weights[name].lerp_(tensor, 1 - decay)


def save_state(path: Path, step: int, network: nn.Module, ema: Ema, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Atomic: a kill at any moment leaves the previous state."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.weights.items()}
    for n, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{n}.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, metadata={"step": str(step)})
    partial.replace(path)


def load_state(path: Path, network: nn.Module, ema: Ema, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Put a saved state back; returns its step."""
    groups: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        for name in file.keys():
            group, rest = name.split(".", 1)
            groups[group][rest] = file.get_tensor(name)
    network.load_state_dict(groups["network"])
    for name, tensor in groups["ema"].items():
        ema.weights[name].copy_(tensor)
    for n, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()
        state["state"] = defaultdict(dict)
        for name, tensor in groups[f"optimizer{n}"].items():
            index, moment = name.split(".", 1)
            state["state"][int(index)][moment] = tensor
        optimizer.load_state_dict(state)
    return step
