"""How far a pedicle screw leaves its pedicle, and the Gertzbein-Robbins grade of that (Spine 1990;15:11): A inside, B less
than 2 mm, C 4 mm, D 6 mm, E more.

The pedicle is the stretch of the screw that passes the spinal canal, which the vertebra's label encloses (`canal`). There
every point of the axis has a depth below the bone's surface; a screw thicker than that depth breaches by the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from diff2ct.volume import VolumeGrid
from diff2ct_training.scoring.canal import find_canal
from diff2ct_training.scoring.screws import Screw, axis_of

GRADES = "ABCDE"
_LIMITS_MM = (2.0, 4.0, 6.0)
_TOLERANCE_MM = 0.5
"""A label's surface is not known better than this on 2 mm voxels: less breach than that is grade A."""
_MARGIN_MM = 12.0


@dataclass(frozen=True, eq=False)
class Pedicles:
    """One vertebra, ready to be asked about screws. depth_mm: (D, H, W) of a crop, below the bone's surface, negative outside.
    first: (k, j, i) of the crop's first voxel. canal_lps: (N, 3) points of the canal beside which the pedicles are."""

    depth_mm: np.ndarray
    first: tuple[int, int, int]
    canal_lps: np.ndarray
    grid: VolumeGrid


def find_pedicles(labels: np.ndarray, label: int, grid: VolumeGrid) -> Pedicles | None:
    """The vertebra `label` of a map (D, H, W); None if it is not there or encloses no canal (arch removed, or cut off)."""
    where = ndimage.find_objects((labels == label).astype(np.uint8))
    if not where:
        return None
    margin = [int(np.ceil(_MARGIN_MM / s)) for s in grid.spacing_mm[::-1]]
    crop = tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(where[0], margin, labels.shape, strict=True))
    bone = labels[crop] == label
    canal = find_canal(bone, grid.spacing_mm)
    if canal is None:
        return None
    k, j, i = canal.voxels().T
    first = (crop[0].start, crop[1].start, crop[2].start)
    ijk = np.column_stack([i + first[2], j + first[1], k + first[0]])
    points = ijk @ grid.ijk_to_lps[:3, :3].T + grid.ijk_to_lps[:3, 3]
    sampling = grid.spacing_mm[::-1]
    inside = ndimage.distance_transform_edt(bone, sampling)
    outside = ndimage.distance_transform_edt(~bone, sampling)
    half = min(grid.spacing_mm) / 2  # distances are between voxel centres, the surface lies half-way
    return Pedicles(np.where(bone, inside - half, half - outside), first, points, grid)


def breach_mm(screw: Screw, diameter_mm: float, pedicles: Pedicles) -> float:
    """How far the screw's side stands out of the bone along its pedicle [mm]; NaN if it does not pass the canal."""
    head, axis = np.asarray(screw.head_lps), axis_of(screw)
    length = float(np.linalg.norm(screw.tip_lps - head))
    beside = (pedicles.canal_lps - head) @ axis
    first, last = (float(np.clip(np.percentile(beside, q), 0.0, length)) for q in (10, 90))
    if last - first < 1.0:
        return math.nan
    steps = np.linspace(first, last, max(2, round((last - first) / 0.5)))
    matrix = pedicles.grid.lps_to_ijk
    ijk = (head + steps[:, None] * axis) @ matrix[:3, :3].T + matrix[:3, 3]
    kji = ijk[:, ::-1] - pedicles.first
    depth = ndimage.map_coordinates(pedicles.depth_mm, kji.T, order=1, mode="nearest")
    return max(0.0, diameter_mm / 2 - float(depth.min()))


def grade(breach: float) -> int | None:
    """0 to 4 for A to E (`GRADES`); None for NaN."""
    if math.isnan(breach):
        return None
    return 0 if breach <= _TOLERANCE_MM else 1 + sum(breach >= limit for limit in _LIMITS_MM)
