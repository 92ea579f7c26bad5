"""What other papers' conventions do to the same pair of volumes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from diff2ct.metrics import WIDE, X2CT, evaluate_volume
from diff2ct_training.scoring.compatibility import perx2ct, seed, x2ct


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 4, 4, 4, generator=generator) * 2000 - 1000
    truth = torch.nn.functional.interpolate(coarse, size=(16, 14, 18), mode="trilinear")[0, 0].round()
    return (truth + 80 * torch.randn(truth.shape, generator=generator)).round().clip(-1000, 1500), truth


def test_x2ct_psnr_truncates_averages_over_slices_and_divides_by_4095() -> None:
    truth = torch.full((4, 5, 6), 100.0)
    prediction = truth + 0.7
    assert x2ct(prediction, truth)["psnr_slices_x2ct_compat"] == 100.0  # same whole numbers
    prediction[:2] += 10.0
    # Axial: 2 of 4 slices have error 10, 2 have none. The other planes: each slice has error 10 in half of its voxels.
    axial = (20 * math.log10(4095 / 10) + 100) / 2
    other = 20 * math.log10(4095 / math.sqrt(50))
    assert x2ct(prediction, truth)["psnr_slices_x2ct_compat"] == pytest.approx((axial + 2 * other) / 3, abs=1e-3)


def test_x2ct_maximum_adds_4_29_db() -> None:
    prediction, truth = pair()
    gain = x2ct(prediction, truth)["psnr_volume_x2ct_compat"] - evaluate_volume(prediction, truth)["psnr_x2ct"]
    assert gain == pytest.approx(20 * math.log10(4095 / 2500), abs=1e-3)
    assert gain == pytest.approx(4.29, abs=0.01)


def test_perx2ct_ssim_is_scikit_images_with_range_2() -> None:
    prediction, truth = pair()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    p, t = (X2CT.to_unit(hu).double().numpy() for hu in (prediction, truth))
    value = perx2ct(prediction, truth)["ssim_3d_perx2ct_compat"]
    assert value == pytest.approx(structural_similarity(p, t, data_range=2.0, **options), abs=1e-4)
    assert value > evaluate_volume(prediction, truth)["ssim_3d_x2ct"]


def test_seed_doubles_mae_keeps_psnr_and_changes_ssim() -> None:
    prediction, truth = pair()
    ours, theirs = evaluate_volume(prediction, truth), seed(prediction, truth)
    assert theirs["mae_seed_compat"] == pytest.approx(2 * ours["mae_wide"], rel=1e-5)
    assert theirs["psnr_seed_compat"] == pytest.approx(ours["psnr_wide"], abs=1e-4)
    p, t = (2 * WIDE.to_unit(hu).double().numpy() - 1 for hu in (prediction, truth))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert theirs["ssim_3d_seed_compat"] == pytest.approx(structural_similarity(p, t, data_range=2.0, **options), abs=1e-4)


def test_a_mask_leaves_the_rest_out() -> None:
    prediction, truth = pair()
    mask = torch.zeros(truth.shape, dtype=torch.bool)
    mask[2:15] = True
    wrong = torch.where(mask, prediction, 900.0)
    for compat in (x2ct, perx2ct, seed):
        a, b = compat(prediction, truth, mask), compat(wrong, truth, mask)
        assert np.allclose(list(a.values()), list(b.values()))
