"""Random smooth deformation of a scan: scale, rotation and bending, so that few CTs make many bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample, interpolate


@dataclass(frozen=True, eq=False)
class Warp:
    """matrix: (3, 3) on centred coordinates (x, y, z) in half extents; bend: (1, 3, d, h, w) displacement lattice, same
    unit."""

    matrix: np.ndarray
    bend: np.ndarray


def random_warp(rng: np.random.Generator, size: tuple[int, ...], bend_mm: float = 8.0, spacing_mm: float = 2.0) -> Warp:
    """Axis scales 0.84..1.18, rotations of SD 4 degrees, and a displacement of SD `bend_mm` on a 5^3 lattice."""
    half_mm = np.array(size[::-1]) * spacing_mm / 2
    angles = np.radians(rng.normal(0, 4, 3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    overall = rng.uniform(0.9, 1.1)
    scale = overall * rng.uniform(0.93, 1.07, 3)
    matrix = np.diag(1 / half_mm) @ rotation @ np.diag(half_mm / scale)
    bend = rng.normal(0, bend_mm, (1, 3, 5, 5, 5)) / half_mm[None, :, None, None, None]
    return Warp(matrix.astype(np.float32), bend.astype(np.float32))


def warp(hu: np.ndarray, deformation: Warp) -> np.ndarray:
    """(D, H, W) HU -> the deformed scan on the same grid; what moves in from outside in x and y is air, in z the end slice."""
    axes = [torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in hu.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    positions = torch.stack([x, y, z], dim=-1) @ torch.from_numpy(deformation.matrix).T
    positions += interpolate(torch.from_numpy(deformation.bend), size=hu.shape, mode="trilinear", align_corners=True)[
        0
    ].permute(1, 2, 3, 0)
    limit = 1 - 1 / hu.shape[0]
    positions[..., 2].clamp_(-limit, limit)
    volume = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32))[None, None] + 1000
    return grid_sample(volume, positions[None], padding_mode="zeros", align_corners=False)[0, 0].numpy() - 1000
