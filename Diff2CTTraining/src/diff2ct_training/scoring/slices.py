"""Volumes as stacks of slices, the way that 2D networks are shown them."""

from __future__ import annotations

import torch
from torch import Tensor

from diff2ct.metrics import WIDE
from diff2ct.units import HU_AIR

PLANES = ("axial", "coronal", "sagittal")
"""Planes in the order of the axes (D, H, W) that their slices lie along."""


def plane_slices(hu: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """(D, H, W) HU -> per plane (N, rows, columns) float on [0, 1] in the window `WIDE`, air where `mask` is False. Slices that
    the mask does not touch are left out."""
    unit = WIDE.to_unit(torch.where(mask, hu, HU_AIR))
    return {
        name: unit.movedim(axis, 0)[mask.movedim(axis, 0).flatten(1).any(dim=1)].contiguous()
        for axis, name in enumerate(PLANES)
    }
