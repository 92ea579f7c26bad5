"""Structural similarity (Wang et al. 2004) of volumes on [0, 1], exact in float32.

Published definitions, because their scores differ by 0.02 on the same pair:

* `ssim_3d`: Gaussian window, sigma 1.5, 11 taps per axis, population covariance.
* `ssim_2d`: uniform 7 x 7 window in each slice, sample covariance; mean over slices, then over the three planes. This is
  scikit-image's default applied as X2CT-GAN does.
* `ssim_3d_uniform`: uniform 7 x 7 x 7 window, sample covariance, scikit-image's default applied to the volume.

All use K1 = 0.01, K2 = 0.03, data range 1 and only windows that lie inside the volume. Windows are separable, so they are
summed by shifting, axis after axis: as fast as a matrix product and not subject to the reduced precision that a caller may have
allowed for those. Volumes are (D, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_C1 = 0.01**2
_C2 = 0.03**2
_GAUSSIAN_SIGMA, _GAUSSIAN_TAPS = 1.5, 11
_UNIFORM = [1 / 7] * 7


@torch.no_grad()
def ssim_3d(prediction: Tensor, truth: Tensor, mask: Tensor | None = None, region: Tensor | None = None) -> Tensor:
    """Mean SSIM with the 3D Gaussian window, a 0-d tensor; NaN if no window is left.

    prediction, truth: (D, H, W) floating point on [0, 1], at least 11 voxels along each axis.
    mask: (D, H, W) bool, the voxels that the truth covers. A window sees only those (its weights are normalised over them) and
        counts if its centre is one of them.
    region: (D, H, W) bool, averages over the windows centred in it instead of all, e.g. the body.
    """
    radius = _GAUSSIAN_TAPS // 2
    weights = [math.exp(-0.5 * ((k - radius) / _GAUSSIAN_SIGMA) ** 2) for k in range(_GAUSSIAN_TAPS)]
    taps = [w / sum(weights) for w in weights]
    ssim = _ssim_map(prediction, truth, taps, (0, 1, 2), mask)
    for chosen in (mask, region):
        if chosen is not None:
            ssim = torch.where(_crop(chosen, radius, (0, 1, 2)), ssim, torch.nan)
    return ssim.nanmean()


@torch.no_grad()
def ssim_2d(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over axial, coronal and sagittal planes of the slice mean SSIM, uniform 7 x 7; a 0-d tensor.

    prediction, truth: (D, H, W) floating point on [0, 1], at least 7 voxels along each axis.
    mask: as in `ssim_3d`; slices that it does not touch are left out.
    """
    planes = []
    for slice_axis in range(3):
        axes = tuple(axis for axis in range(3) if axis != slice_axis)
        ssim = _ssim_map(prediction, truth, _UNIFORM, axes, mask, sample_covariance=True)
        inside = None if mask is None else _crop(mask, len(_UNIFORM) // 2, axes)
        planes.append(slice_means(ssim, slice_axis, inside).nanmean())
    return torch.stack(planes).mean()


@torch.no_grad()
def ssim_3d_uniform(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean SSIM with the uniform 7 x 7 x 7 window, a 0-d tensor; NaN if no window is left. Volumes and mask as in `ssim_2d`."""
    ssim = _ssim_map(prediction, truth, _UNIFORM, (0, 1, 2), mask, sample_covariance=True)
    if mask is not None:
        ssim = torch.where(_crop(mask, len(_UNIFORM) // 2, (0, 1, 2)), ssim, torch.nan)
    return ssim.nanmean()


def slice_means(values: Tensor, slice_axis: int, mask: Tensor | None = None) -> Tensor:
    """(D, H, W) -> (N,): mean of each slice along `slice_axis` over the masked voxels, NaN where a slice has none."""
    if mask is not None:
        values = torch.where(mask, values, torch.nan)
    return values.movedim(slice_axis, 0).flatten(1).nanmean(dim=1)


def _ssim_map(
    a: Tensor, b: Tensor, taps: list[float], axes: tuple[int, ...], mask: Tensor | None, sample_covariance: bool = False
) -> Tensor:
    """SSIM (Wang et al. 2004, eq. 13) of every window inside the volume: each of `axes` shrinks by len(taps) - 1."""
    for axis in axes:
        if a.shape[axis] < len(taps):
            raise ValueError(f"volume: got shape {tuple(a.shape)}, accepted are at least {len(taps)} voxels along axis {axis}")
    covered = None
    if mask is not None:
        a, b = torch.where(mask, a, 0), torch.where(mask, b, 0)
        covered = _window_mean(mask.to(a.dtype), taps, axes).clamp_min_(torch.finfo(a.dtype).eps)

    # E[x^2] - E[x]^2 cancels badly far from 0: subtract the common mean, and give it back to the means at the end.
    count = a.numel() if mask is None else int(mask.sum())
    shift = (a.sum() + b.sum()) / max(2 * count, 1)
    a, b = a - shift, b - shift
    if mask is not None:
        a, b = a * mask, b * mask

    def local_mean(field: Tensor) -> Tensor:
        mean = _window_mean(field, taps, axes)
        return mean if covered is None else mean.div_(covered)

    mean_a, mean_b = local_mean(a), local_mean(b)
    covariance = local_mean(a * b).sub_(mean_a * mean_b)
    variances = local_mean((a * a).addcmul_(b, b)).sub_(mean_a * mean_a).sub_(mean_b * mean_b)
    if sample_covariance:
        size = torch.full_like(shift, len(taps) ** len(axes)) if covered is None else covered * len(taps) ** len(axes)
        unbiased = size / (size - 1).clamp_min_(1.0)  # N / (N - 1), N = voxels that the window sees
        covariance *= unbiased
        variances *= unbiased

    mean_a += shift
    mean_b += shift
    numerator = (2 * mean_a * mean_b).add_(_C1) * covariance.mul_(2).add_(_C2)
    return numerator.div_(mean_a.square_().add_(mean_b.square_()).add_(_C1)).div_(variances.add_(_C2))


def _window_mean(field: Tensor, taps: list[float], axes: tuple[int, ...]) -> Tensor:
    """Weighted mean of `field` in each window that lies inside it, separably along `axes`."""
    for axis in axes:
        length = field.shape[axis] - len(taps) + 1
        total = field.narrow(axis, 0, length) * taps[0]
        for k in range(1, len(taps)):
            total.add_(field.narrow(axis, k, length), alpha=taps[k])
        field = total
    return field


def _crop(volume: Tensor, radius: int, axes: tuple[int, ...]) -> Tensor:
    """The centres of the windows of `_ssim_map`."""
    for axis in axes:
        volume = volume.narrow(axis, radius, volume.shape[axis] - 2 * radius)
    return volume
