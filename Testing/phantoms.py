"""Solids with known line integrals, against which projectors are tested. numpy only; LPS, mm.

Rays run from `start` to `end`, both (..., 3) and broadcast against each other; outside this segment nothing is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


class Grid(Protocol):
    """What `voxelise` needs of a `diff2ct.volume.VolumeGrid`."""

    @property
    def size(self) -> tuple[int, int, int]: ...
    @property
    def ijk_to_lps(self) -> np.ndarray: ...


class Solid(Protocol):
    value: float

    def contains(self, points: np.ndarray) -> np.ndarray: ...
    def chord_mm(self, start: np.ndarray, end: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class _Placed:
    """center [mm], semi_axes [mm] along the solid's own axes, value inside, rotation (3, 3) with these axes as columns."""

    center: Sequence[float]
    semi_axes: Sequence[float]
    value: float = 1.0
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    def _to_unit(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) LPS -> the frame in which every semi-axis is 1 long."""
        return (np.asarray(points, dtype=np.float64) - np.asarray(self.center)) @ self.rotation / np.asarray(self.semi_axes)


class Ellipsoid(_Placed):
    def contains(self, points: np.ndarray) -> np.ndarray:
        """(...) bool for points (..., 3)."""
        return (self._to_unit(points) ** 2).sum(-1) <= 1.0

    def chord_mm(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(...) length inside [mm]: the roots t in [0, 1] of |p + t d|^2 = 1 in the unit frame."""
        p, d = self._to_unit(start), self._to_unit(end) - self._to_unit(start)
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1.0
        root = np.sqrt(np.maximum(b * b - a * c, 0.0))
        inside = np.clip((-b + root) / a, 0.0, 1.0) - np.clip((-b - root) / a, 0.0, 1.0)
        return inside * np.linalg.norm(np.subtract(end, start), axis=-1)

    @property
    def volume_mm3(self) -> float:
        return 4.0 / 3.0 * np.pi * float(np.prod(self.semi_axes))


class Slab(_Placed):
    """A box; make two semi-axes large for a slab."""

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(...) bool for points (..., 3)."""
        return (np.abs(self._to_unit(points)) <= 1.0).all(-1)

    def chord_mm(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(...) length inside [mm], by cutting the ray with the three pairs of planes."""
        p, d = self._to_unit(start), self._to_unit(end) - self._to_unit(start)
        d = np.where(np.abs(d) < 1e-12, 1e-12, d)  # a ray along a face then meets it far outside [0, 1]
        first, second = (-1.0 - p) / d, (1.0 - p) / d
        enter = np.minimum(first, second).max(-1).clip(0.0, 1.0)
        leave = np.maximum(first, second).min(-1).clip(0.0, 1.0)
        return np.maximum(leave - enter, 0.0) * np.linalg.norm(np.subtract(end, start), axis=-1)

    @property
    def volume_mm3(self) -> float:
        return 8.0 * float(np.prod(self.semi_axes))


def sphere(center: Sequence[float], radius: float, value: float = 1.0) -> Ellipsoid:
    return Ellipsoid(center, (radius, radius, radius), value)


def rotation_from_angles(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    """(3, 3) turn about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians((x_deg, y_deg, z_deg))), np.sin(np.radians((x_deg, y_deg, z_deg)))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def line_integral(solids: Sequence[Solid], start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(...) sum of value * length [value mm]; where solids overlap their values add."""
    return sum((s.value * s.chord_mm(start, end) for s in solids), start=np.zeros(()))


def voxelise(solids: Sequence[Solid], grid: Grid, supersampling: int = 4) -> np.ndarray:
    """(D, H, W) float64: mean value in each voxel, from supersampling^3 points per voxel. Values of overlapping solids add."""
    depth, height, width = grid.size
    steps = (np.arange(supersampling) + 0.5) / supersampling - 0.5
    j, i = (np.add.outer(np.arange(n), steps).ravel() for n in (height, width))
    matrix = grid.ijk_to_lps
    plane = i[None, :, None] * matrix[:3, 0] + j[:, None, None] * matrix[:3, 1] + matrix[:3, 3]
    values = np.zeros((depth, height, width))
    for k in range(depth):
        for step in steps:
            points = plane + (k + step) * matrix[:3, 2]
            fine = sum((s.value * s.contains(points) for s in solids), start=np.zeros(points.shape[:-1]))
            values[k] += fine.reshape(height, supersampling, width, supersampling).mean(axis=(1, 3)) / supersampling
    return values
