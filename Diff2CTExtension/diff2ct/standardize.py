"""An image without its gain and offset, which no network can know: the same function at training and at inference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

OUTLIER_SHARE = 0.005
"""`standardize` takes location and scale from the values between this quantile and 1 minus it."""
STANDARD_LIMIT = 8.0
"""`standardize` clips here, far beyond metal (about 4), so that a dead pixel stays harmless."""


def standardize(image: Tensor, valid: Tensor) -> Tensor:
    """Image -> zero mean and unit SD over its valid pixels, the same for offset + gain * image with any gain > 0.

    image: (..., H, W) floating point, each (H, W) by itself. valid: same shape, bool; 0 comes out elsewhere, and everywhere for
    an image without contrast. Metal and dead pixels do not set the scale, see `location_and_scale`; they keep their own values
    up to STANDARD_LIMIT. Differentiable almost everywhere.
    """
    mean, sd = location_and_scale(image, valid)
    z = (image - mean) / torch.where(sd > 0, sd, 1.0)
    return torch.where(valid & (sd > 0), z.clamp(-STANDARD_LIMIT, STANDARD_LIMIT), 0.0)


def location_and_scale(image: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, SD), each (..., 1, 1), of the valid pixels clipped to their 0.5 and 99.5 percentiles; SD 0 without contrast.

    image: (..., H, W) floating point, each (H, W) by itself. valid: same shape, bool.
    """
    if image.shape != valid.shape or valid.dtype != torch.bool or not image.is_floating_point():
        raise ValueError(
            f"image, valid: got {image.dtype} {tuple(image.shape)} and {valid.dtype} {tuple(valid.shape)}, "
            "accepted are floating point and bool of one shape (..., H, W)"
        )
    low, high = quantiles(image, valid, (OUTLIER_SHARE, 1.0 - OUTLIER_SHARE))
    clipped = torch.where(valid, image, low).clamp(low, high)
    count = valid.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = torch.where(valid, clipped, 0.0).sum((-2, -1), keepdim=True) / count
    variance = torch.where(valid, (clipped - mean).square(), 0.0).sum((-2, -1), keepdim=True) / count
    flat = variance <= (1e-6 * mean).square()  # no more than rounding
    return mean, torch.where(flat, 0.0, torch.where(flat, 1.0, variance).sqrt())


def quantiles(image: Tensor, valid: Tensor, shares: tuple[float, ...]) -> list[Tensor]:
    """(..., H, W) -> a (..., 1, 1) per share: that quantile of the valid pixels of each image; 0 where there are none."""
    ordered = torch.where(valid, image, math.inf).flatten(-2).sort(dim=-1).values
    count = valid.flatten(-2).sum(-1, keepdim=True)
    ordered = torch.where(count > 0, ordered, 0.0)
    return [ordered.gather(-1, (share * (count - 1).clamp_min(0)).round().long())[..., None] for share in shares]
