"""Where a run stands, on disk: weights, moving averages, optimiser moments, a method's own state and the step, in one
safetensors file. No pickle."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from diff2ct.weights_file import save_tensors
from diff2ct_training.recipe import Recipe
from diff2ct_training.sharding import like, whole


class Ema:
    """Exponential moving average of a network's weights, with the usual warm-up min(decay, (1 + n) / (10 + n))."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1 - decay)
            else:  # a counter
                self.weights[name].copy_(tensor)

    @contextmanager
    def swapped_in(self, network: nn.Module) -> Iterator[None]:
        """`network` with the averaged weights and in evaluation mode, for the time being."""
        trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.weights)
        network.eval()
        try:
            yield
        finally:
            network.load_state_dict(trained)
            network.train()


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that a run changes. recipe: of which it is. networks: without wrappers. emas: of some of them, by the same names.
    extra: a method's own. lineage: plain JSON, which goes with the run too."""

    recipe: Recipe
    networks: Mapping[str, nn.Module]
    emas: Mapping[str, Ema]
    optimizers: Sequence[torch.optim.Optimizer]
    extra: Mapping[str, torch.Tensor]
    lineage: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path, step: int, *, write: bool = True) -> None:
        """Atomic: a kill at any moment leaves the previous state. Every process must call it; those that do not `write` only
        hand over their share."""
        tensors = {name: whole(tensor.detach()) for name, tensor in self._tensors().items()}
        for n, optimizer in enumerate(self.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                kept = {k: v for k, v in moments.items() if v is not None}  # SGD's momentum is, in torch 2.2
                tensors |= {f"optimizer/{n}/{index}/{k}": whole(torch.as_tensor(v)) for k, v in kept.items()}
        if write:
            metadata = {"step": str(step), "recipe": self.recipe.to_json(), "lineage": json.dumps(self.lineage)}
            save_tensors(path, {k: v.cpu().contiguous() for k, v in tensors.items()}, metadata)

    @torch.no_grad()
    def load(self, path: Path) -> int:
        """Put a saved state back; returns its step. Raises ValueError if it is of another recipe, which one that an earlier
        version wrote does not tell if its tensors are the same."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                step = int(metadata["step"])
                if "recipe" in metadata:
                    self.recipe.check_goes_on(metadata["recipe"])
                if "lineage" in metadata:
                    lineage = json.loads(metadata["lineage"])
                    self.lineage.clear()
                    self.lineage.update(lineage)
                found = {name: file.get_tensor(name) for name in file.keys()}
            for name, tensor in self._tensors().items():
                tensor.copy_(like(found.pop(name), tensor))
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"state: {path} is not of this recipe: {error}") from error
        for n, optimizer in enumerate(self.optimizers):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            moments: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
            for name, tensor in found.items():
                group, number, index, moment = name.split("/")
                if (group, number) == ("optimizer", str(n)):
                    weight = weights[int(index)]
                    moments[int(index)][moment] = like(tensor, weight) if tensor.shape == weight.shape else tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return step

    def _tensors(self) -> dict[str, torch.Tensor]:
        """All but the optimisers', by name."""
        tensors = {f"extra/{name}": tensor for name, tensor in self.extra.items()}
        for name, network in self.networks.items():
            tensors |= {f"network/{name}/{k}": v for k, v in network.state_dict().items()}
        for name, ema in self.emas.items():
            tensors |= {f"ema/{name}/{k}": v for k, v in ema.weights.items()}
        return tensors
