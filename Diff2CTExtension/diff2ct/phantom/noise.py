"""Random fields that are functions of world position, so that every grid sees the same texture."""

from __future__ import annotations

import numpy as np

TILE = 48
"""Lattice nodes per axis; the lattice repeats after TILE * lattice_mm."""


class LatticeNoise:
    """Correlated noise of zero mean and unit deviation: cubic B-spline through a periodic lattice of random numbers.

    lattice_mm: distance of lattice nodes; details are about twice as large.
    """

    def __init__(self, seed: int, lattice_mm: float) -> None:
        rng = np.random.default_rng(seed)
        self.lattice_mm = float(lattice_mm)
        self.tile = rng.standard_normal((TILE, TILE, TILE), dtype=np.float32)
        self.offset = rng.uniform(0, TILE, 3)
        # mean square of the B-spline weights per axis is 151/315 (their continuous autocorrelation at 0)
        self.tile /= np.float32((151 / 315) ** 1.5)

    def __call__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Axes (W,), (H,), (D,) [mm] in any broadcast shape -> noise (D, H, W) float32."""
        wx, wy, wz = (
            self._weights(np.asarray(axis).reshape(-1), offset) for axis, offset in zip((x, y, z), self.offset, strict=True)
        )
        field = np.tensordot(wz, self.tile, axes=(1, 0))  # (D, y, x)
        field = np.matmul(wy, field)  # (D, H, x)
        return np.matmul(field, wx.T)  # (D, H, W)

    def _weights(self, axis: np.ndarray, offset: float) -> np.ndarray:
        """(N,) positions [mm] -> (N, TILE) interpolation weights."""
        position = axis.astype(np.float64) / self.lattice_mm + offset
        base = np.floor(position).astype(int)
        t = position - base
        weights = np.zeros((len(axis), TILE), dtype=np.float32)
        rows = np.arange(len(axis))
        spline = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for step, w in enumerate(spline):
            weights[rows, (base + step - 1) % TILE] += (w / 6).astype(np.float32)
        return weights
