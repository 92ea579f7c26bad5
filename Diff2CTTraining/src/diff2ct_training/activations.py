"""Activation checkpointing: what a block computes is thrown away and computed again on the way back (Chen et al. 2016)."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(network: nn.Module, *kinds: type[nn.Module]) -> None:
    """Make every block of `kinds` in `network` keep only its input: less memory, a third more time, the same gradients. The
    weights keep their names. Raises ValueError if there are none."""
    if not kinds:
        raise ValueError("activation_checkpointing: got True, accepted is False for this network")
    for block in network.modules():
        if isinstance(block, kinds):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
