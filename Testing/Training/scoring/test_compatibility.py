"""What other papers' conventions do to the same pair of volumes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from diff2ct.metrics import WIDE, X2CT, evaluate_volume
from diff2ct_training.scoring.compatibility import perx2ct, seed, x2ct

ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


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


def test_x2ct_counts_equal_volumes_as_100_db() -> None:
    _, truth = pair()
    assert x2ct(truth, truth) == {"psnr_slices_x2ct_compat": 100.0, "psnr_volume_x2ct_compat": 100.0}


def test_the_other_figures_of_x2ct_are_the_protocols() -> None:
    """Its SSIM hands scikit-image a volume whose channels are the slices, for each of three planes."""
    prediction, truth = pair()
    ours = evaluate_volume(prediction, truth)
    p, t = (X2CT.to_unit(hu).double().numpy() for hu in (prediction, truth))
    planes = [structural_similarity(p, t, data_range=1.0, channel_axis=axis) for axis in range(3)]
    assert ours["ssim_2d_x2ct"] == pytest.approx(np.mean(planes), abs=1e-4)
    assert ours["mae_x2ct"] == pytest.approx(np.abs(p - t).mean(), rel=1e-4)
    assert 10 ** (-ours["psnr_x2ct"] / 10) == pytest.approx(((p - t) ** 2).mean(), rel=1e-4)
    assert ours["cosine_x2ct"] == pytest.approx((p * t).sum() / (np.linalg.norm(p) * np.linalg.norm(t)), rel=1e-4)


def test_perx2ct_ssim_takes_the_volume_for_one_channel_and_the_range_for_2() -> None:
    prediction, truth = pair()
    p, t = (X2CT.to_unit(hu).double().numpy()[None] for hu in (prediction, truth))
    value = perx2ct(prediction, truth)["ssim_3d_perx2ct_compat"]
    assert value == pytest.approx(structural_similarity(p, t, data_range=2.0, channel_axis=0), abs=1e-4)
    assert value > evaluate_volume(prediction, truth)["ssim_3d_x2ct"] + 0.01


def test_perx2ct_psnr_is_that_of_x2ct_over_slices() -> None:
    """Its code has one PSNR per index of the last axis, and turns each axis to be the last once."""
    prediction, truth = pair()
    p, t = (2500 * X2CT.to_unit(hu).double() for hu in (prediction, truth))
    squared = (p.round().numpy() - t.round().numpy()) ** 2  # whole numbers already
    planes = [(20 * np.log10(4095 / np.sqrt(np.transpose(squared, o).mean((0, 1))))).mean() for o in ORDERS]
    value = perx2ct(prediction, truth)["psnr_slices_x2ct_compat"]
    assert value == pytest.approx(np.mean(planes), abs=1e-3) == x2ct(prediction, truth)["psnr_slices_x2ct_compat"]


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
