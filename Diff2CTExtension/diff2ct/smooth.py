"""Gaussian smoothing by one small matrix product per axis: any width costs the same, and the adjoint is the transpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_matrix(count: int, sigma: float, like: Tensor) -> Tensor:
    """(count, count), rows sum to 1: the image goes on as it ends at its border. sigma: in samples, above 0."""
    position = torch.arange(count, device=like.device, dtype=like.dtype)
    weights = torch.softmax(-0.5 * ((position[:, None] - position) / sigma).square(), dim=1)
    # What cannot count is 0. Far out weights are denormal numbers, with which Intel CPUs take ten times as long.
    return weights.masked_fill(weights < torch.finfo(weights.dtype).eps ** 2, 0.0)


def unit_power_matrix(count: int, sigma: float, like: Tensor) -> Tensor:
    """(count, count) Gaussian G whose rows have length 1: G of white noise has variance 1 everywhere, and neighbours correlate
    over sqrt(2) sigma."""
    matrix = gaussian_matrix(count, sigma, like)
    return matrix / matrix.square().sum(1, keepdim=True).sqrt()


def along_axes(volume: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """(D, H, W) with matrix n, square, applied along axis n."""
    along_d, along_h, along_w = matrices
    volume = (along_d @ volume.flatten(1)).view(volume.shape)
    return (along_h @ volume) @ along_w.T


def smooth_volume(volume: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (D, H, W), sigma in voxels."""
    return along_axes(volume, [gaussian_matrix(n, sigma, volume) for n in volume.shape])


def gaussian_blur(image: Tensor, sigma_mm: float, pixel_mm: float) -> Tensor:
    """Gaussian blur of (V, H, W), nothing to do for a sigma of 0."""
    if sigma_mm == 0:
        return image
    rows, columns = (gaussian_matrix(count, sigma_mm / pixel_mm, image) for count in image.shape[-2:])
    return rows @ image @ columns.T
