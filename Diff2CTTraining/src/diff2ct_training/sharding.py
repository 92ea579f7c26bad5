"""Weights shared out among processes (FSDP2, Zhao et al. 2023): for networks that do not fit on one device with gradients and
moments. Everything here also takes plain tensors, which are whole."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.strategies import ModelParallelStrategy
from torch import nn


def sharded_strategy(num_processes: int) -> ModelParallelStrategy:
    """Fabric's strategy that shares every network out over all processes. Raises ValueError if this torch cannot."""
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError:
        raise ValueError(f"strategy: got 'fsdp', which needs torch 2.6 or newer; torch {torch.__version__} has 'ddp'") from None
    return ModelParallelStrategy(_shard, data_parallel_size=num_processes, tensor_parallel_size=1)


def _shard(network: nn.Module, mesh: Any) -> Any:
    """Block by block, so that only one block is whole at a time."""
    from torch.distributed.fsdp import fully_shard

    for weight in network.parameters():  # it cannot share out kernels in channels-last
        weight.data = weight.data.contiguous()
    kinds = getattr(network, "BLOCKS", ())
    for block in [module for module in network.modules() if isinstance(module, kinds)]:
        fully_shard(block, mesh=mesh["data_parallel"])
    return fully_shard(network, mesh=mesh["data_parallel"])


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, on every process; every process must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(tensor: torch.Tensor, target: Any) -> torch.Tensor:
    """A whole tensor shared out as `target` is, if it is."""
    if not hasattr(target, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)
