"""3D Haar transform: eight half-size bands that hold exactly the volume, orthonormal, so that white noise stays white."""

from __future__ import annotations

import torch


def haar(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """(B, C, D, H, W) -> (B, 8^levels C, D / 2^levels, ...); the bands of one channel lie side by side, the mean first."""
    for _ in range(levels):
        for axis in (2, 4, 6):  # each pair (even, odd) becomes (sum, difference) / sqrt(2) in an axis of its own
            x = _butterfly(x.unflatten(axis, (-1, 2)), axis + 1)
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
    return x


def inverse_haar(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """The inverse of `haar`."""
    for _ in range(levels):
        x = x.unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        for axis in (3, 5, 7):
            x = _butterfly(x, axis)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x


def _butterfly(x: torch.Tensor, axis: int) -> torch.Tensor:
    even, odd = x.unbind(axis)
    return torch.stack([even + odd, even - odd], axis) * 0.5**0.5


def space_to_depth(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """(B, C, D, H, W) -> (B, 8^levels C, D / 2^levels, ...): the bands' raw samples, where a learned linear layer follows
    anyway."""
    n = 2**levels
    x = x.unflatten(4, (-1, n)).unflatten(3, (-1, n)).unflatten(2, (-1, n))
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
