"""Figures as other papers compute them, to stand beside their tables and nothing else: none is comparable with the protocol's.

`--compat NAME` adds them to each row, under names that end in `_compat`:
x2ct: X2CT-GAN's released code. PSNR with MAX 4095 on whole numbers 0..2500 (+4.29 dB), the mean over slices, where a slice
    without error counts 100 dB; and the same over the whole volume.
perx2ct: SSIM with data range 2 on [0, 1] data, as an old scikit-image assumed for floats (SSIM too high).
seed: MAE, PSNR and SSIM on [-1, 1] with data range 2, which arXiv 2408.09731 must have used: MAE doubles, PSNR stays, SSIM
    changes, as it is not invariant to shifts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diff2ct.metrics import WIDE, X2CT
from diff2ct.ssim import slice_means, ssim_3d

_X2CT_MAX = 4095.0


def x2ct(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """psnr_slices_x2ct_compat (mean over slices of three planes) and psnr_volume_x2ct_compat [dB], from HU (D, H, W)."""
    whole_p, whole_t = ((hu.clip(X2CT.lo, X2CT.hi) - X2CT.lo).trunc() for hu in (prediction, truth))
    squared = (whole_p - whole_t).square()
    planes = []
    for slice_axis in range(3):
        mse = slice_means(squared, slice_axis, mask)
        planes.append(torch.where(mse == 0, 100.0, 10.0 * torch.log10(_X2CT_MAX**2 / mse)).nanmean())
    volume_mse = (squared if mask is None else squared[mask]).mean()
    return {
        "psnr_slices_x2ct_compat": float(torch.stack(planes).mean()),
        "psnr_volume_x2ct_compat": float(10.0 * torch.log10(_X2CT_MAX**2 / volume_mse)),
    }


def perx2ct(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """ssim_3d_perx2ct_compat. Dividing both volumes by 2 is the same as taking the data range as 2."""
    return {"ssim_3d_perx2ct_compat": float(ssim_3d(X2CT.to_unit(prediction) / 2, X2CT.to_unit(truth) / 2, mask))}


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
