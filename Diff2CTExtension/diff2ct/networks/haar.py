"""3D Haar transform: eight half-size bands that hold exactly the volume, orthonormal, so that white noise stays white."""

from __future__ import annotations

from functools import lru_cache

import torch


def haar(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """(B, C, D, H, W) -> (B, 8^levels C, D / 2^levels, ...); the bands of one channel lie side by side, the mean first."""
    for _ in range(levels):
        x = _mix(space_to_depth(x))
    return x


def inverse_haar(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """The inverse of `haar`."""
    for _ in range(levels):
        x = _mix(x).unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The eight samples of each 2 x 2 x 2 block <-> their bands, (B, 8 C, ...): sums and differences along each axis.

    The matrix is symmetric and orthonormal and so its own inverse. In the dtype of x, whatever the caller's autocast.
    """
    with torch.autocast(x.device.type, enabled=False):
        mixed = _signs(x.dtype, x.device) @ x.unflatten(1, (-1, 8)).flatten(3)
        return (mixed * 8**-0.5).reshape(x.shape)  # the factor apart, so that equal samples cancel exactly


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # training may need what inference made
def _signs(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(8, 8) of 1 and -1. Kept, as a GPU would wait for each copy, and a recorded CUDA graph allows none."""
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=dtype, device=device)
    return torch.kron(torch.kron(pair, pair), pair)


def space_to_depth(x: torch.Tensor, levels: int = 1) -> torch.Tensor:
    """(B, C, D, H, W) -> (B, 8^levels C, D / 2^levels, ...): the bands' raw samples, where a learned linear layer follows
    anyway."""
    n = 2**levels
    x = x.unflatten(4, (-1, n)).unflatten(3, (-1, n)).unflatten(2, (-1, n))
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
