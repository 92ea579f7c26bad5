"""The volume being painted: later structures cover earlier ones, each only inside its own box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diff2ct.phantom import shapes
from diff2ct.units import HU_AIR
from diff2ct.volume import VolumeGrid


@dataclass(frozen=True)
class Pose:
    """Where a rigid body is. rotation: (3, 3), its columns are the body's axes in LPS; center_lps: (3,) [mm]."""

    rotation: np.ndarray
    center_lps: np.ndarray

    def to_lps(self, points: ArrayLike) -> np.ndarray:
        """(..., 3) body coordinates [mm] -> (..., 3) LPS [mm]."""
        return np.asarray(points, dtype=np.float64) @ self.rotation.T + self.center_lps

    def from_lps(self, points_lps: ArrayLike) -> np.ndarray:
        """(..., 3) LPS [mm] -> (..., 3) body coordinates [mm]."""
        return (np.asarray(points_lps, dtype=np.float64) - self.center_lps) @ self.rotation


@dataclass(frozen=True, eq=False)
class Region:
    """A box of voxels. x: (1, 1, w), y: (1, h, 1), z: (d, 1, 1) voxel centres, LPS [mm], float32."""

    slices: tuple[slice, slice, slice]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def local(self, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Body coordinates of every voxel centre, three arrays (d, h, w) [mm]."""
        r, c = pose.rotation.astype(np.float32), pose.center_lps.astype(np.float32)
        dx, dy, dz = self.x - c[0], self.y - c[1], self.z - c[2]
        x, y, z = ((dx * r[0, i] + dy * r[1, i]) + dz * r[2, i] for i in range(3))
        return x, y, z


class Canvas:
    """HU and labels on an axis-aligned grid, painted structure by structure.

    hu: (D, H, W) float32, starts as a copy of `hu` or as air. labels: (D, H, W) uint8, starts as 0. axes: x (W,), y (H,),
    z (D,) [mm] float32.
    blur_mm: width of the scanner's point spread; surfaces get at least this soft.
    """

    def __init__(self, grid: VolumeGrid, blur_mm: float = 0.0, hu: np.ndarray | None = None) -> None:
        if not np.allclose(grid.direction, np.eye(3), atol=1e-6):
            raise ValueError(f"grid: got direction {grid.direction}, accepted are axis-aligned grids (identity direction)")
        if hu is not None and hu.shape != grid.size:
            raise ValueError(f"hu: got shape {hu.shape}, accepted is the grid's size {grid.size}")
        self.hu = np.full(grid.size, HU_AIR, dtype=np.float32) if hu is None else hu.astype(np.float32)
        self.labels = np.zeros(grid.size, dtype=np.uint8)
        counts = grid.size[::-1]
        self.axes = tuple(
            (o + s * np.arange(n)).astype(np.float32) for o, s, n in zip(grid.origin_lps, grid.spacing_mm, counts, strict=True)
        )
        self.voxel_mm = float(np.prod(grid.spacing_mm) ** (1 / 3))
        self.edge_mm = float(np.hypot(self.voxel_mm, blur_mm))

    def region(self, low_lps: np.ndarray, high_lps: np.ndarray) -> Region | None:
        """The voxels of the box low..high (each x, y, z [mm]) and one voxel around it; None if the box misses the grid."""
        slices, axes = [], []
        for axis, low, high in zip(self.axes, low_lps, high_lps, strict=True):
            start = int(np.searchsorted(axis, low - self.edge_mm))
            stop = int(np.searchsorted(axis, high + self.edge_mm, side="right"))
            if stop <= start:
                return None
            slices.append(slice(start, stop))
            axes.append(axis[start:stop])
        x, y, z = axes
        return Region((slices[2], slices[1], slices[0]), x[None, None, :], y[None, :, None], z[:, None, None])

    def pose_region(self, pose: Pose, low: np.ndarray, high: np.ndarray) -> Region | None:
        """`region` of a box given in body coordinates."""
        corners = pose.to_lps([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        return self.region(corners.min(axis=0), corners.max(axis=0))

    def whole(self) -> Region:
        """Every voxel."""
        x, y, z = self.axes
        return Region((slice(None),) * 3, x[None, None, :], y[None, :, None], z[:, None, None])

    def occupancy(self, distance: np.ndarray, edge_mm: float | None = None) -> np.ndarray:
        """Signed distance [mm] -> part of each voxel that lies inside. edge_mm: softness if not the scanner's."""
        return shapes.occupancy(distance, self.edge_mm if edge_mm is None else edge_mm)

    def blend(self, region: Region, part: np.ndarray, hu: np.ndarray | float) -> None:
        """Mix `hu` into the region with weight `part` (0 to 1)."""
        target = self.hu[region.slices]
        target += part * (hu - target)

    def paint(self, region: Region, distance: np.ndarray, hu: np.ndarray | float, edge_mm: float | None = None) -> None:
        """Fill the inside of a signed distance with `hu`."""
        self.blend(region, self.occupancy(distance, edge_mm), hu)

    def label(self, region: Region, distance: np.ndarray, value: int) -> None:
        """Mark the inside of a signed distance."""
        self.labels[region.slices][distance < 0] = value
