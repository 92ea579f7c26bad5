"""CT volumes and their grids. Arrays are (D, H, W) = (k, j, i), points are (x, y, z) in LPS mm; the flip is only here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class VolumeGrid:
    """Where the voxels of a volume are, without values.

    size: (D, H, W) voxels, i.e. (k, j, i).
    spacing_mm: (i, j, k) distance between voxel centres [mm].
    origin_lps: (x, y, z) of the centre of voxel (0, 0, 0) [mm].
    direction: 3x3 rows; column c is the unit LPS direction of index axis c (i, j, k), as in SimpleITK.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_lps: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...] = _IDENTITY

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in self.size)
        if len(size) != 3 or min(size) < 1:
            raise ValueError(f"size: got {self.size}, accepted are three counts (D, H, W) above 0")
        spacing = tuple(float(s) for s in self.spacing_mm)
        if len(spacing) != 3 or not all(np.isfinite(spacing)) or min(spacing) <= 0:
            raise ValueError(f"spacing_mm: got {self.spacing_mm}, accepted are three lengths (i, j, k) above 0 mm")
        origin = tuple(float(x) for x in self.origin_lps)
        if len(origin) != 3 or not all(np.isfinite(origin)):
            raise ValueError(f"origin_lps: got {self.origin_lps}, accepted are three finite numbers [mm]")
        matrix = np.array(self.direction, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-3):
            raise ValueError(f"direction: got {self.direction}, accepted is a 3x3 orthonormal matrix (no shear)")
        for name, value in (
            ("size", size),
            ("spacing_mm", spacing),
            ("origin_lps", origin),
            ("direction", tuple(map(tuple, matrix.tolist()))),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def centered(
        cls, size: int | tuple[int, int, int] = 128, spacing_mm: float = 2.0, center_lps: tuple[float, float, float] = (0, 0, 0)
    ) -> VolumeGrid:
        """Axis-aligned isotropic grid (D, H, W) around `center_lps`; the defaults are the model grid, 128^3 at 2 mm."""
        shape = (size, size, size) if isinstance(size, int) else size
        origin = [c - (n - 1) / 2 * spacing_mm for c, n in zip(center_lps, shape[::-1], strict=True)]
        return cls(shape, (spacing_mm,) * 3, (origin[0], origin[1], origin[2]))

    @property
    def ijk_to_lps(self) -> np.ndarray:
        """(4, 4) float64: homogeneous [i, j, k, 1] -> [x, y, z, 1] [mm]."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction) * np.array(self.spacing_mm)
        matrix[:3, 3] = self.origin_lps
        return matrix

    @property
    def lps_to_ijk(self) -> np.ndarray:
        """(4, 4) float64, the inverse of `ijk_to_lps`."""
        return np.linalg.inv(self.ijk_to_lps)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel [ml]."""
        return math.prod(self.spacing_mm) / 1000

    @property
    def center_lps(self) -> np.ndarray:
        """(3,) middle of the grid [mm]."""
        middle = [(n - 1) / 2 for n in self.size[::-1]]
        return self.ijk_to_lps[:3, :3] @ middle + self.ijk_to_lps[:3, 3]


@dataclass(frozen=True, eq=False)
class CtVolume:
    """HU on a grid. hu: (D, H, W) float32, finite."""

    hu: np.ndarray
    grid: VolumeGrid

    def __post_init__(self) -> None:
        hu = np.ascontiguousarray(self.hu, dtype=np.float32)
        if hu.shape != self.grid.size:
            raise ValueError(f"hu: got shape {hu.shape}, accepted is the grid's size {self.grid.size}")
        if not np.isfinite(hu).all():
            raise ValueError(f"hu: {int((~np.isfinite(hu)).sum())} voxels are NaN or infinite, accepted are finite HU")
        object.__setattr__(self, "hu", hu)
