"""Cycle spinning (Coifman and Donoho 1995): each sample on a grid of its own, a voxel or two aside, and moved back afterwards.

A network that halves the resolution treats the places of its blocks differently, and leaves that pattern in every volume, in
the same place. Samples whose blocks lie elsewhere do not share it, so their mean is without it
(`Testing/Benchmarks/lattice.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from diff2ct.volume import VolumeGrid

Shift = tuple[int, int, int]
"""Voxels (k, j, i)."""

UNMOVED: Shift = (0, 0, 0)
SHIFTS: tuple[Shift, ...] = (UNMOVED, (1, 2, -1), (2, -1, 1), (-1, 1, 2))
"""Along each axis all four places within a block of four, once. Larger blocks would take longer shifts, and the patient would
no longer lie where the network is used to see one."""


def shift_of(sample: int) -> Shift:
    """The shift of sample number `sample`, from 0; the first one stays where it is."""
    return SHIFTS[sample % len(SHIFTS)]


def moved_grid(grid: VolumeGrid, shift: Shift) -> VolumeGrid:
    """The grid on which voxel [k, j, i] of `grid` is voxel [k, j, i] + shift."""
    x, y, z = (grid.ijk_to_lps @ [*(-s for s in reversed(shift)), 1.0])[:3]
    return replace(grid, origin_lps=(float(x), float(y), float(z)))


def moved_back(volume: torch.Tensor, shift: Shift) -> torch.Tensor:
    """(..., D, H, W) on `moved_grid` -> the same on the grid itself; what lies beyond an edge is as at the edge."""
    for axis, by in zip((-3, -2, -1), shift, strict=True):
        if by:
            count = volume.shape[axis]
            from_where = np.clip(np.arange(count) + by, 0, count - 1)
            volume = volume.index_select(axis, torch.from_numpy(from_where).to(volume.device))
    return volume
