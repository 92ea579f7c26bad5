"""Where a scan's voxels and its middle come to lie: the axis-aligned grid of a prepared case, its centre, and its cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diff2ct.metrics import SKIN_HU
from diff2ct.volume import CtVolume, VolumeGrid

SPACING_MM = 2.0
"""Of prepared cases: the model grid's."""
CUBE_SIZE = 128


def axis_aligned_grid(grid: VolumeGrid, spacing_mm: float) -> VolumeGrid:
    """The smallest axis-aligned isotropic grid that holds all voxel centres of `grid`."""
    ends = [(0, n - 1) for n in grid.size[::-1]]
    corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]]) @ grid.ijk_to_lps.T
    low, high = corners[:, :3].min(0), corners[:, :3].max(0)
    counts = np.floor((high - low) / spacing_mm + 1e-6).astype(int) + 1
    return VolumeGrid((int(counts[2]), int(counts[1]), int(counts[0])), (spacing_mm,) * 3, (low[0], low[1], low[2]))


def body_center(ct: CtVolume) -> tuple[float, float, float]:
    """(x, y) of the centroid of everything above -300 HU, z of the scan's middle [mm], however the scan is stored."""
    step = 2 if min(ct.grid.size) > 2 else 1
    voxels = np.nonzero(ct.hu[::step, ::step, ::step] > SKIN_HU)
    if len(voxels[0]) == 0:
        raise ValueError(f"ct: nothing above {SKIN_HU:g} HU, accepted is a CT of a body")
    k, j, i = (step * float(index.mean()) for index in voxels)
    x, y, _, _ = ct.grid.ijk_to_lps @ [i, j, k, 1.0]
    return float(x), float(y), float(ct.grid.center_lps[2])


def acquired_spacing(grid: VolumeGrid) -> dict[str, float]:
    """ "slice_spacing_mm": along the patient, "pixel_spacing_mm": across, of a scan on its own grid."""
    along = int(np.abs(np.array(grid.direction)[2]).argmax())
    across = [mm for axis, mm in enumerate(grid.spacing_mm) if axis != along]
    return {"pixel_spacing_mm": sum(across) / 2, "slice_spacing_mm": grid.spacing_mm[along]}


def on_voxels(center_lps: tuple[float, float, float], grid: VolumeGrid, model_grid: VolumeGrid) -> tuple[float, float, float]:
    """The point next to `center_lps` around which voxels of `model_grid`, which surrounds the origin, are voxels of `grid`, or
    blocks of a whole number of them. Both are axis-aligned."""
    fine_mm = np.array(grid.spacing_mm)
    block = np.maximum(1, np.round(np.array(model_grid.spacing_mm) / fine_mm))
    first = np.array(center_lps) + model_grid.origin_lps - (block - 1) / 2 * fine_mm  # centre of the first fine voxel
    steps = (first - grid.origin_lps) / fine_mm
    x, y, z = (float(v) for v in np.array(center_lps) + (np.round(steps) - steps) * fine_mm)
    return x, y, z


def cube_around(grid: VolumeGrid, center_lps: tuple[float, float, float], size: int = CUBE_SIZE) -> tuple[slice, slice, slice]:
    """(D, H, W) slices of an axis-aligned `grid`: its voxels in the cube of size^3 voxels around `center_lps`.

    Where the cube reaches beyond the scan the cut is smaller: nothing is invented.
    """
    middle = (np.array(center_lps) - grid.origin_lps) / grid.spacing_mm
    first = np.round(middle - (size - 1) / 2).astype(int)[::-1]
    cut = tuple(slice(max(0, int(a)), max(0, min(n, int(a) + size))) for a, n in zip(first, grid.size, strict=True))
    if any(part.stop - part.start < 2 for part in cut):
        raise ValueError(f"center_lps: got {tuple(round(c, 1) for c in center_lps)}, accepted is a point in the scan")
    return cut[0], cut[1], cut[2]


def cut_grid(grid: VolumeGrid, cut: tuple[slice, slice, slice]) -> VolumeGrid:
    """The grid of `array[cut]` for an array on an axis-aligned `grid`."""
    k, j, i = (part.start for part in cut)
    x, y, z, _ = grid.ijk_to_lps @ [i, j, k, 1.0]
    size = tuple(part.stop - part.start for part in cut)
    return replace(grid, size=(size[0], size[1], size[2]), origin_lps=(float(x), float(y), float(z)))
