"""Figures as other papers compute them, to stand beside their tables and nothing else: none is comparable with the protocol's.

`--compat NAME` adds them to each row, under names that end in `_compat`:
x2ct: X2CT-GAN's released code. PSNR with MAX 4095 on whole numbers 0..2500 (+4.29 dB): the mean over slices of each plane, then
    of the three planes, and that of the whole volume; a slice or volume without error counts 100 dB. Its other figures are the
    protocol's own: SSIM is `ssim_2d_x2ct`, MAE and cosine similarity are `mae_x2ct` and `cosine_x2ct`, MSE is
    10^(-`psnr_x2ct` / 10).
perx2ct: PerX2CT's released code. X2CT-GAN's PSNR over slices, and SSIM with a uniform 7 x 7 x 7 window (scikit-image is given
    the volume as one channel) and data range 2 on [0, 1] data, which an old scikit-image assumed for floats (SSIM too high).
seed: MAE, PSNR and SSIM on [-1, 1] with data range 2, which arXiv 2408.09731 must have used for its own row: MAE doubles, PSNR
    stays, SSIM changes, as it is not invariant to shifts. The paper does not tell which SSIM it has: this one is 3D with the
    Gaussian window of `ssim_3d`. The other rows of its table can only be on [0, 1], as `mae_wide` and `psnr_wide`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diff2ct.metrics import WIDE, X2CT
from diff2ct.ssim import slice_means, ssim_3d, ssim_3d_uniform

COMPATIBILITY_VERSION = 2
"""Part of `made_by` of every row with such figures. Raise it when one of them comes to be another number."""

_X2CT_MAX = 4095.0


def x2ct(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """psnr_slices_x2ct_compat (mean over slices of three planes) and psnr_volume_x2ct_compat [dB], from HU (D, H, W)."""
    squared = _squared_error_of_whole_numbers(prediction, truth)
    of_volume = _psnr_4095((squared if mask is None else squared[mask]).mean())
    return {"psnr_slices_x2ct_compat": _psnr_over_slices(squared, mask), "psnr_volume_x2ct_compat": float(of_volume)}


def perx2ct(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """psnr_slices_x2ct_compat [dB] and ssim_3d_perx2ct_compat."""
    squared = _squared_error_of_whole_numbers(prediction, truth)
    p, t = (X2CT.to_unit(hu) / 2 for hu in (prediction, truth))  # half the data is twice the data range
    return {
        "psnr_slices_x2ct_compat": _psnr_over_slices(squared, mask),
        "ssim_3d_perx2ct_compat": float(ssim_3d_uniform(p, t, mask)),
    }


def seed(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """mae_seed_compat, psnr_seed_compat and ssim_3d_seed_compat."""
    p, t = (2 * WIDE.to_unit(hu) - 1 for hu in (prediction, truth))
    error = p - t if mask is None else (p - t)[mask]
    return {
        "mae_seed_compat": float(error.abs().mean()),
        "psnr_seed_compat": float(10.0 * torch.log10(4.0 / error.square().mean())),
        "ssim_3d_seed_compat": float(ssim_3d(p / 2, t / 2, mask)),
    }


COMPATIBILITY: dict[str, Callable[..., dict[str, float]]] = {"x2ct": x2ct, "perx2ct": perx2ct, "seed": seed}


def _squared_error_of_whole_numbers(prediction: Tensor, truth: Tensor) -> Tensor:
    whole_p, whole_t = ((hu.clip(X2CT.lo, X2CT.hi) - X2CT.lo).trunc() for hu in (prediction, truth))
    return (whole_p - whole_t).square()


def _psnr_over_slices(squared: Tensor, mask: Tensor | None) -> float:
    planes = [_psnr_4095(slice_means(squared, slice_axis, mask)).nanmean() for slice_axis in range(3)]
    return float(torch.stack(planes).mean())


def _psnr_4095(mse: Tensor) -> Tensor:
    return torch.where(mse == 0, 100.0, 10.0 * torch.log10(_X2CT_MAX**2 / mse))
