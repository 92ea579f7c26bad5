"""What the grid of the reconstructions costs by itself: a volume on it, interpolated to the voxels of the scan that its truth
was made of, against that scan. Of the truth these are the figures that a reconstruction on this grid can reach.

A scan has many more voxels than the grid: they are looked at slice by slice, and SSIM in some slices only.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from diff2ct.metrics import BODY, BONE_DICE_HU, BONE_REGION_HU, WIDE
from diff2ct.ssim import ssim_3d
from diff2ct.units import HU_AIR
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import to_sitk
from diff2ct_training.framing import cut_grid

_RADIUS = 5  # of the window of `ssim_3d` [voxels]
_SSIM_SLICES = 16
"""As many evenly spread slices of the scan have SSIM windows centred in them."""
_UNKNOWN, _AROUND, _INSIDE = 0, 1, 2
"""Not scored; scored, outside and inside the body."""


def part_in(scan: CtVolume, grid: VolumeGrid) -> CtVolume | None:
    """The voxels of a scan, however it lies, in the smallest box that holds those among the voxels of `grid`; None if they are
    too few for a window of SSIM."""
    ends = [(0, n - 1) for n in grid.size[::-1]]
    corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]])
    ijk = (corners @ (scan.grid.lps_to_ijk @ grid.ijk_to_lps).T)[:, :3]
    first = np.maximum(np.ceil(ijk.min(0) - 1e-6).astype(int)[::-1], 0)
    stop = np.minimum(np.floor(ijk.max(0) + 1e-6).astype(int)[::-1] + 1, scan.grid.size)
    if (stop - first <= 2 * _RADIUS).any():
        return None
    cut = (slice(first[0], stop[0]), slice(first[1], stop[1]), slice(first[2], stop[2]))
    return CtVolume(scan.hu[cut].copy(), cut_grid(scan.grid, cut))


def score_on_scan(volume: CtVolume, scan: CtVolume, known: np.ndarray, body: np.ndarray) -> dict[str, float]:
    """mae_hu_body, mae_hu_bone, bone_dice, psnr_wide, ssim_3d_wide and ssim_3d_body of `evaluate_volume`, on the voxels of
    `scan`; NaN over an empty region. A window of SSIM is as many voxels as on the grid, so of other mm.

    scan: as `part_in` gives it. known, body: (D, H, W) bool on the volume's grid: where the scan has data, and the patient;
    next to what is not known nothing is scored.
    """
    prediction = _at_voxels(volume, scan.grid, sitk.sitkLinear, HU_AIR)
    surrounded = ndimage.binary_erosion(known, np.ones((3, 3, 3)), border_value=1)
    states = CtVolume(np.where(surrounded, np.where(body, _INSIDE, _AROUND), _UNKNOWN), volume.grid)
    state = _at_voxels(states, scan.grid, sitk.sitkNearestNeighbor, _UNKNOWN).astype(np.uint8)
    return {**_voxelwise(prediction, scan.hu, state), **_structural(prediction, scan.hu, state)}


def _at_voxels(volume: CtVolume, grid: VolumeGrid, interpolator: int, outside: float) -> np.ndarray:
    """(D, H, W) float32 at the voxel centres of `grid`; not `resample`, whose filter would be no cost of the volume's grid."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetSize(grid.size[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_lps)
    resampler.SetOutputDirection([value for row in grid.direction for value in row])
    return sitk.GetArrayFromImage(resampler.Execute(sitk.Cast(to_sitk(volume), sitk.sitkFloat32)))


def _voxelwise(prediction: np.ndarray, truth: np.ndarray, state: np.ndarray) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for of_prediction, of_truth, of_state in zip(prediction, truth, state, strict=True):
        p, t = (hu.clip(WIDE.lo, WIDE.hi) for hu in (of_prediction, of_truth))
        error, covered, body = np.abs(p - t), of_state != _UNKNOWN, of_state == _INSIDE
        bone, mine, true = body & (t > BONE_REGION_HU), covered & (p > BONE_DICE_HU), body & (t > BONE_DICE_HU)
        for name, region in (("covered", covered), ("body", body), ("bone", bone)):
            total[name] += np.count_nonzero(region)
            total[f"error {name}"] += error[region].sum(dtype=np.float64)
        total["squared"] += np.square(error[covered]).sum(dtype=np.float64)
        total["both"] += np.count_nonzero(mine & true)
        total["either"] += np.count_nonzero(mine) + np.count_nonzero(true)
    mse = _ratio(total["squared"], total["covered"]) / (WIDE.hi - WIDE.lo) ** 2
    return {
        "mae_hu_body": _ratio(total["error body"], total["body"]),
        "mae_hu_bone": _ratio(total["error bone"], total["bone"]),
        "bone_dice": _ratio(2 * total["both"], total["either"]),
        "psnr_wide": math.inf if mse == 0 else -10.0 * math.log10(mse),
    }


def _structural(prediction: np.ndarray, truth: np.ndarray, state: np.ndarray) -> dict[str, float]:
    centres = range(_RADIUS, len(truth) - _RADIUS)
    total: dict[str, float] = defaultdict(float)
    for k in centres[:: math.ceil(len(centres) / _SSIM_SLICES)]:
        near = slice(k - _RADIUS, k + _RADIUS + 1)
        p, t, seen = (torch.from_numpy(array[near]) for array in (prediction, truth, state))
        covered = seen != _UNKNOWN
        mask = None if covered.all() else covered
        for name, window, region in (("ssim_3d_wide", WIDE, covered), ("ssim_3d_body", BODY, seen == _INSIDE)):
            count = int(region[_RADIUS, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].count_nonzero())
            if count:
                total[name] += count * float(ssim_3d(window.to_unit(p), window.to_unit(t), mask, region))
                total[f"windows {name}"] += count
    return {name: _ratio(total[name], total[f"windows {name}"]) for name in ("ssim_3d_wide", "ssim_3d_body")}


def _ratio(total: float, count: float) -> float:
    return float(total / count) if count else math.nan
