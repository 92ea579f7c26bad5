"""What the training loop asks of anything that it trains: one network or several, one loss or an adversary's as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.utils.data import Dataset

Backward = Callable[[torch.Tensor], None]
"""Adds a loss's gradients to those of the step. It is the loop's: scaled for accumulation, and a guard against what is not
finite."""
Weights = Mapping[str, torch.Tensor]


class Sample(Protocol):
    """name: of the file or case it was made of, for messages."""

    @property
    def name(self) -> str: ...


SampleT = TypeVar("SampleT", bound=Sample)
BatchT = TypeVar("BatchT")


class Method(ABC, Generic[SampleT, BatchT]):
    """networks: all that are trained, by name. The loop sets Fabric's wrappers in their place before the first step.
    averaged: those whose moving average a checkpoint holds; the others keep none.
    state: further tensors that belong to where a run stands, saved with it and put back in place.
    fabric: the loop's, set before the first step.

    A step's randomness comes from the samples or from torch's default generator, which the loop seeds anew for every step: so a
    run that was stopped goes on as if it had not been.
    """

    networks: dict[str, nn.Module]
    averaged: tuple[str, ...]
    state: Mapping[str, torch.Tensor] = {}
    fabric: Fabric

    @abstractmethod
    def samples(self, folder: Path) -> Dataset[SampleT]:
        """Item n is training sample n of the run, the same whoever asks, whenever. Raises ValueError, naming the file, on data
        that cannot be trained on."""

    @abstractmethod
    def validation_samples(self, folder: Path) -> Sequence[SampleT]:
        """The few samples that `score` judges the run by, always the same and none that is trained on. Raises ValueError if
        there are none."""

    @abstractmethod
    def collate(self, samples: Sequence[SampleT], device: torch.device) -> BatchT: ...

    @abstractmethod
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of `networks` as they are now: on their device, maybe sharded."""

    @abstractmethod
    def training_step(self, batch: BatchT, backward: Backward) -> dict[str, torch.Tensor]:
        """Calls `backward` once for each loss; the loop then steps all optimisers. Returns what to log, "loss" first."""

    @abstractmethod
    def write_checkpoint(self, folder: Path, stem: str, weights: Mapping[str, Weights], provenance: dict[str, Any]) -> None:
        """Write the `averaged` networks with these weights into `folder`, each file atomically, under names that start with
        `stem`."""

    @abstractmethod
    def load_checkpoint(self, path: Path) -> dict[str, Any]:
        """Start from the weights of a checkpoint; returns its provenance and SHA-256. Raises ValueError if they do not fit."""

    def score(self, batch: BatchT) -> float:
        """How far from the truth the networks are on a batch; least is best. Called without gradients."""
        raise NotImplementedError

    def picture(self, batch: BatchT) -> np.ndarray | None:
        """(H, W) in [0, 1] of the first sample, if there is something to see. Called without gradients."""
        return None


def bare(network: nn.Module) -> nn.Module:
    """The network inside of Fabric's wrapper."""
    return network.module if isinstance(network, _FabricModule) else network


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """`network` for another one's loss: gradients pass through to its input and do not reach its weights, nor other
    processes."""
    inside = bare(network)
    inside.requires_grad_(False)
    try:
        yield inside
    finally:
        inside.requires_grad_(True)
