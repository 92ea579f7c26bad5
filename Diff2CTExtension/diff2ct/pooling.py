"""A volume in larger voxels: means of whole blocks, with the grid that they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from diff2ct.volume import VolumeGrid


def pooled(volume: torch.Tensor, grid: VolumeGrid, factors: Sequence[int]) -> tuple[torch.Tensor, VolumeGrid]:
    """(D, H, W) on `grid` -> means of blocks of `factors` (i, j, k) voxels; what does not fill a block is left out.

    Raises ValueError if not even one block fits.
    """
    along_i, along_j, along_k = factors
    if (along_i, along_j, along_k) == (1, 1, 1):
        return volume, grid
    steps = along_k, along_j, along_i
    depth, height, width = (n // step for n, step in zip(grid.size, steps, strict=True))
    if min(depth, height, width) == 0:
        raise ValueError(f"volume: {grid.size} voxels are too thin for blocks of {steps}")
    whole = volume[: depth * along_k, : height * along_j, : width * along_i]
    means = torch.nn.functional.avg_pool3d(whole[None, None], steps)[0, 0]
    x, y, z, _ = (grid.ijk_to_lps @ np.array([*((f - 1) / 2 for f in factors), 1.0])).tolist()
    i_mm, j_mm, k_mm = (mm * factor for mm, factor in zip(grid.spacing_mm, factors, strict=True))
    return means, replace(grid, size=(depth, height, width), spacing_mm=(i_mm, j_mm, k_mm), origin_lps=(x, y, z))
