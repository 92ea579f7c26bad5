"""Metrics against scikit-image, torchmetrics, scipy and values known by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from diff2ct.metrics import (
    BODY,
    METRIC_NAMES,
    WIDE,
    X2CT,
    Window,
    _components,
    body_mask,
    cosine,
    dice,
    evaluate_volume,
    hu_errors,
    psnr,
    region_masks,
    reprojection_error,
)
from diff2ct.ssim import ssim_2d, ssim_3d, ssim_3d_uniform


def smooth_pair(size: tuple[int, int, int] = (28, 24, 20), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(prediction, truth) on [0, 1]: smooth structure, and the same with noise and a shift of level."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 6, 6, 6, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")[0, 0]
    return (truth + 0.05 * torch.randn(size, generator=generator) + 0.02).clip(0, 1), truth


def body_phantom() -> torch.Tensor:
    """HU (24, 40, 40): a trunk of 40 HU before fat, with a vertebra, a screw in it, and a lung cut by the top of the cube."""
    hu = torch.full((24, 40, 40), -1000.0)
    hu[:, 6:34, 4:36] = 40.0
    hu[:, 32:34, 4:36] = -100.0
    hu[:, 22:30, 16:24] = 250.0
    hu[:, 24:28, 18:22] = 600.0
    hu[10:12, 25, 19:21] = 3000.0
    hu[14:, 10:16, 8:14] = -800.0
    return hu


# SSIM -------------------------------------------------------------------------------------------------------------------


def test_ssim_3d_is_scikit_images_gaussian_ssim():
    prediction, truth = smooth_pair()
    expected = structural_similarity(
        prediction.double().numpy(),
        truth.double().numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(ssim_3d(prediction, truth)) == pytest.approx(expected, abs=1e-6)


def test_ssim_3d_is_torchmetrics_without_its_padded_border():
    prediction, truth = smooth_pair()
    _, full = structural_similarity_index_measure(
        prediction[None, None], truth[None, None], data_range=1.0, sigma=1.5, return_full_image=True
    )
    inner = full[0, 0, 5:-5, 5:-5, 5:-5]
    assert float(ssim_3d(prediction, truth)) == pytest.approx(float(inner.mean()), abs=1e-4)


def test_ssim_2d_is_scikit_images_default_on_slices_of_three_planes():
    prediction, truth = smooth_pair()
    planes = [
        np.mean([
            structural_similarity(p.double().numpy(), t.double().numpy(), data_range=1.0)
            for p, t in zip(prediction.unbind(axis), truth.unbind(axis), strict=True)
        ])
        for axis in range(3)
    ]  # fmt: skip
    assert float(ssim_2d(prediction, truth)) == pytest.approx(float(np.mean(planes)), abs=1e-6)


def test_ssim_3d_uniform_is_scikit_images_default_on_the_volume():
    prediction, truth = smooth_pair()
    expected = structural_similarity(prediction.double().numpy(), truth.double().numpy(), data_range=1.0)
    assert float(ssim_3d_uniform(prediction, truth)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ssim", [ssim_3d, ssim_2d, ssim_3d_uniform])
def test_float32_ssim_has_no_cancellation_in_bright_flat_regions(ssim):
    generator = torch.Generator().manual_seed(0)
    truth = 0.95 + 0.02 * torch.rand(24, 24, 24, generator=generator)  # variances of 3e-5 on values near 1
    prediction = (truth + 0.02 * torch.randn(truth.shape, generator=generator)).clip(0, 1)
    exact = float(ssim(prediction.double(), truth.double()))
    assert exact < 0.8
    assert float(ssim(prediction, truth)) == pytest.approx(exact, abs=1e-6)  # 4e-5 off without the common mean taken out


def test_a_window_cut_by_the_mask_uses_only_covered_voxels():
    prediction, truth = smooth_pair((11, 11, 11))  # one window
    mask = torch.rand(truth.shape, generator=torch.Generator().manual_seed(3)) > 0.4
    mask[5, 5, 5] = True
    tap = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = np.einsum("i,j,k->ijk", tap, tap, tap) * mask.numpy()
    weight /= weight.sum()
    p, t = prediction.double().numpy(), truth.double().numpy()
    mean_p, mean_t = (weight * p).sum(), (weight * t).sum()
    var_p, var_t = (weight * (p - mean_p) ** 2).sum(), (weight * (t - mean_t) ** 2).sum()
    cov = (weight * (p - mean_p) * (t - mean_t)).sum()
    expected = (2 * mean_p * mean_t + 1e-4) * (2 * cov + 9e-4) / ((mean_p**2 + mean_t**2 + 1e-4) * (var_p + var_t + 9e-4))
    assert float(ssim_3d(prediction, truth, mask)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ssim", [ssim_3d, ssim_2d, ssim_3d_uniform])
def test_a_full_mask_changes_nothing_and_values_outside_a_mask_do_not_count(ssim):
    prediction, truth = smooth_pair()
    assert float(ssim(prediction, truth, torch.ones_like(truth, dtype=torch.bool))) == pytest.approx(
        float(ssim(prediction, truth)), abs=1e-6
    )
    mask = torch.zeros_like(truth, dtype=torch.bool)
    mask[6:20] = True
    expected = float(ssim(prediction, truth, mask))
    prediction[~mask], truth[~mask] = math.nan, 17.0
    assert float(ssim(prediction, truth, mask)) == expected
    assert expected < 0.99


def test_ssim_of_a_region_looks_only_at_windows_centred_in_it():
    _, truth = smooth_pair((30, 24, 24))
    prediction = truth.clone()
    prediction[:10] = 1 - prediction[:10]
    region = torch.zeros_like(truth, dtype=torch.bool)
    region[15:] = True  # windows reach 5 voxels: from plane 10 on
    assert float(ssim_3d(prediction, truth, region=region)) == pytest.approx(1.0, abs=1e-6)
    assert float(ssim_3d(prediction, truth)) < 0.9
    assert math.isnan(ssim_3d(prediction, truth, region=torch.zeros_like(region)))


def test_ssim_refuses_volumes_smaller_than_its_window():
    with pytest.raises(ValueError, match="at least 11 voxels along axis 1"):
        ssim_3d(torch.zeros(12, 10, 12), torch.zeros(12, 10, 12))


# HU errors, PSNR and overlap --------------------------------------------------------------------------------------------


def test_a_constant_offset_has_known_scores():
    truth = body_phantom()
    truth[truth > 2500] = 600.0
    truth = truth.clip(-900.0, 1000.0)  # nothing is clipped by either window
    scores = evaluate_volume(truth + 50.96, truth)
    for region in ("whole", "body", "soft", "bone"):
        assert scores[f"mae_hu_{region}"] == pytest.approx(50.96, abs=1e-2)
        assert scores[f"rmse_hu_{region}"] == pytest.approx(50.96, abs=1e-2)
        assert scores[f"bias_hu_{region}"] == pytest.approx(50.96, abs=1e-2)
    assert scores["mae_wide"] == pytest.approx(0.01, abs=1e-5)
    assert scores["psnr_wide"] == pytest.approx(40.0, abs=1e-2)
    assert scores["psnr_x2ct"] == pytest.approx(20 * math.log10(2500 / 50.96), abs=1e-2)


def test_a_perfect_prediction_has_perfect_scores():
    truth = body_phantom()
    scores = evaluate_volume(truth.clone(), truth)
    assert tuple(scores) == METRIC_NAMES
    for name, value in scores.items():
        if "_hu_" in name or name.startswith("mae"):
            assert value == 0
        elif name.startswith("psnr"):
            assert value == math.inf
        else:
            assert value == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("window", [WIDE, X2CT, BODY])
def test_psnr_is_torchmetrics_psnr_in_the_window(window):
    prediction, truth = (3000 * v - 1200 for v in smooth_pair())
    expected = peak_signal_noise_ratio(window.to_unit(prediction), window.to_unit(truth), data_range=1.0)
    assert psnr(prediction, truth, window) == pytest.approx(float(expected), abs=1e-4)


def test_values_beyond_the_window_are_clipped_on_both_sides():
    truth = torch.full((12, 12, 12), 5000.0)
    scores = evaluate_volume(torch.full_like(truth, 4096.0), truth)
    assert scores["mae_hu_whole"] == 0
    scores = evaluate_volume(torch.full_like(truth, -3000.0), torch.full_like(truth, -1000.0))
    assert scores["bias_hu_whole"] == 0


def test_ssim_in_the_body_sees_bone_but_no_difference_in_lung_or_metal():
    truth = body_phantom()
    unseen = torch.where(truth > 2500, 1500.0, torch.where(truth == -800, -400.0, truth))  # all beyond the window
    scores = evaluate_volume(unseen, truth)
    assert scores["ssim_3d_body"] == pytest.approx(1.0, abs=1e-6)
    assert scores["ssim_3d_wide"] < 0.99
    assert evaluate_volume(torch.where(truth == 600, 250.0, truth), truth)["ssim_3d_body"] < 0.999


def test_ssim_in_the_body_has_no_windows_centred_outside():
    truth = body_phantom()
    truth = torch.nn.functional.pad(truth, (0, 8), value=-1000.0)
    prediction = truth.clone()
    prediction[..., 42:] = 500.0  # the skin is at 36, windows centred in the body end at 41
    scores = evaluate_volume(prediction, truth)
    assert scores["ssim_3d_body"] == pytest.approx(1.0, abs=1e-6)
    assert scores["ssim_3d_wide"] < 0.99


def test_hu_errors_have_the_sign_of_prediction_minus_truth():
    truth = torch.zeros(2, 2, 2)
    prediction = torch.tensor([3.0, -1.0] * 4).reshape(2, 2, 2)
    errors = hu_errors(prediction, truth, torch.ones_like(truth, dtype=torch.bool))
    assert errors == pytest.approx({"mae": 2.0, "rmse": math.sqrt(5.0), "bias": 1.0})
    region = prediction < 0
    assert hu_errors(prediction, truth, region) == pytest.approx({"mae": 1.0, "rmse": 1.0, "bias": -1.0})


def test_dice_counts_overlap_and_tells_empty_from_wrong():
    a, b = torch.zeros(10, dtype=torch.bool), torch.zeros(10, dtype=torch.bool)
    assert math.isnan(dice(a, b))
    a[:4], b[2:8] = True, True
    assert dice(a, b) == pytest.approx(2 * 2 / (4 + 6))
    assert dice(a, torch.zeros_like(b)) == 0


def test_bone_dice_counts_invented_bone_outside_the_body_but_not_the_table_in_the_truth():
    truth = body_phantom()
    clean = evaluate_volume(truth, truth)["bone_dice"]
    truth_with_table = truth.clone()
    truth_with_table[:, 38] = 400.0
    assert evaluate_volume(truth, truth_with_table)["bone_dice"] == clean == 1
    bone = int((truth > 200).sum())
    invented = truth_with_table[:, 38].numel()
    assert evaluate_volume(truth_with_table, truth)["bone_dice"] == pytest.approx(2 * bone / (2 * bone + invented))


def test_invented_metal_scores_zero_and_absent_metal_is_nan():
    truth = body_phantom().clip(max=600.0)
    scores = evaluate_volume(body_phantom(), truth)
    assert scores["metal_dice"] == 0
    assert all(math.isnan(scores[f"{error}_hu_metal"]) for error in ("mae", "rmse", "bias"))
    assert math.isnan(evaluate_volume(truth, truth)["metal_dice"])


def test_an_empty_scan_scores_nan_in_the_body_and_numbers_elsewhere():
    air = torch.full((12, 12, 12), -1000.0)
    scores = evaluate_volume(air + 10, air)
    assert math.isnan(scores["mae_hu_body"]) and math.isnan(scores["ssim_3d_body"]) and math.isnan(scores["bone_dice"])
    assert scores["mae_hu_whole"] == pytest.approx(10.0)


# Regions ----------------------------------------------------------------------------------------------------------------


def test_components_are_scipys():
    mask = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(0)) < 0.35  # near percolation: winding components
    structures = {(0, 1): ndimage.generate_binary_structure(3, 1), (1,): np.zeros((3, 3, 3), bool)}
    structures[(1,)][1] = ndimage.generate_binary_structure(2, 1)
    for axes, structure in structures.items():
        ours = _components(mask, axes)[mask].numpy()
        theirs, count = ndimage.label(mask.numpy(), structure)
        pairs = set(zip(ours.tolist(), theirs[mask.numpy()].tolist(), strict=True))
        assert len(pairs) == len(set(ours.tolist())) == count


def test_body_mask_keeps_the_trunk_with_its_gas_and_drops_table_and_arm():
    truth = body_phantom()
    trunk = torch.zeros_like(truth, dtype=torch.bool)
    trunk[:, 6:34, 4:36] = True
    truth[:, 37:39] = -100.0  # a table that does not touch
    truth[:, 10:20, 0:2] = 30.0  # an arm
    assert torch.equal(body_mask(truth), trunk)


def test_body_mask_keeps_a_lung_that_the_side_of_the_cube_cuts_open():
    truth = body_phantom()
    truth[:, 6:34, :4] = 40.0
    truth[:, 12:20, :6] = -850.0  # lung up to the left edge, chest wall before and behind it
    mask = body_mask(truth)
    assert mask[:, 12:20, :6].all()
    assert not mask[:, :6].any() and not mask[:, 34:].any()


def test_body_mask_leaves_out_a_hollow_of_the_back():
    truth = body_phantom()
    truth[:, 30:34, 18:22] = -1000.0
    assert not body_mask(truth)[:, 30:34, 18:22].any()
    assert not body_mask(torch.full((4, 5, 6), -1000.0)).any()


def test_regions_are_cut_at_their_thresholds():
    truth = body_phantom()
    truth[0, 8, 6:16] = torch.tensor([-201.0, -200.0, -150.0, -100.0, -30.0, -29.0, 0.0, 40.0, 40.0, 40.0])
    regions = region_masks(truth)
    count = {name: int(region.sum()) for name, region in regions.items()}
    lung = 10 * 6 * 6
    assert count["whole"] == truth.numel()
    assert count["body"] == 24 * 28 * 32
    assert count["bone"] == 24 * 4 * 4  # 600 and 3000 HU, not 250
    assert count["air"] == lung + 1
    assert count["fat"] == 24 * 2 * 32 + 4
    assert count["soft"] == count["body"] - count["bone"] - count["air"]
    assert count["metal"] == 4 * 3 * 4  # 2 x 1 x 2 voxels and their neighbours


# Mask -------------------------------------------------------------------------------------------------------------------


def test_nothing_outside_the_mask_is_looked_at():
    truth = body_phantom()
    prediction = truth + 30 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[:6], mask[-5:] = False, False
    expected = evaluate_volume(prediction, truth, mask)
    prediction[~mask] = math.nan
    truth[~mask] = 9999.0
    assert evaluate_volume(prediction, truth, mask) == pytest.approx(expected, nan_ok=True)


def test_masked_means_are_those_of_the_covered_block():
    truth = body_phantom()
    prediction = truth + 30 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros_like(truth, dtype=torch.bool)
    mask[6:19] = True
    masked, block = evaluate_volume(prediction, truth, mask), evaluate_volume(prediction[6:19], truth[6:19])
    for name in METRIC_NAMES:
        if not name.startswith("ssim"):  # windows of the block stop at its border
            assert masked[name] == pytest.approx(block[name], rel=1e-5), name
    assert masked["ssim_3d_wide"] == pytest.approx(block["ssim_3d_wide"], abs=0.05)


# Input ------------------------------------------------------------------------------------------------------------------


def test_regions_may_be_worked_out_once():
    truth = body_phantom()
    prediction = truth + 20
    assert evaluate_volume(prediction, truth, regions=region_masks(truth)) == pytest.approx(evaluate_volume(prediction, truth))


def test_bad_input_is_refused_by_name():
    good = torch.zeros(12, 12, 12)
    with pytest.raises(ValueError, match=r"truth: got .* \(D, H, W\)"):
        evaluate_volume(good[None], good[None])
    with pytest.raises(ValueError, match=r"prediction: got .*\(12, 12, 11\)"):
        evaluate_volume(good[..., 1:], good)
    with pytest.raises(ValueError, match=r"prediction: got torch\.int16"):
        evaluate_volume(good.short(), good)
    broken = good.clone()
    broken[3, 4, 5] = math.nan
    with pytest.raises(ValueError, match="prediction: 1 voxels are NaN"):
        evaluate_volume(broken, good)
    with pytest.raises(ValueError, match=r"mask: got .* with 0 voxels set"):
        evaluate_volume(good, good, torch.zeros_like(good, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask: got torch\.float32"):
        evaluate_volume(good, good, good)
    with pytest.raises(ValueError, match="lo < hi"):
        Window(10.0, 10.0)


# Re-projection ----------------------------------------------------------------------------------------------------------


def views(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 + torch.rand(2, 16, 12, generator=generator), torch.ones(2, 16, 12, dtype=torch.bool)


def test_reprojection_error_forgives_gain_and_offset_of_each_view():
    measured, valid = views()
    reprojected = (measured - torch.tensor([1.0, -2.0])[:, None, None]) / torch.tensor([2.0, 0.3])[:, None, None]
    relative, ncc = reprojection_error(measured, reprojected, valid)
    assert relative.tolist() == pytest.approx([0, 0], abs=1e-6)
    assert ncc.tolist() == pytest.approx([1, 1], abs=1e-6)


def test_reprojection_error_is_the_least_squares_residual():
    measured, valid = views()
    reprojected, _ = views(seed=1)
    valid[0, :5] = False
    measured[0, :5] = math.nan
    relative, ncc = reprojection_error(measured, measured.nan_to_num() * 0.7 + reprojected, valid)
    for view in range(2):
        m = measured[view][valid[view]].double()
        r = m * 0.7 + reprojected[view][valid[view]]
        design = torch.stack([r, torch.ones_like(r)], dim=1)
        fit = design @ torch.linalg.lstsq(design, m[:, None]).solution
        assert float(relative[view]) == pytest.approx(float((fit[:, 0] - m).norm() / m.norm()), rel=1e-4)
        assert float(ncc[view]) == pytest.approx(float(torch.corrcoef(torch.stack([m, r]))[0, 1]), abs=1e-5)


def test_an_inverted_reprojection_is_not_forgiven():
    measured, valid = views()
    relative, ncc = reprojection_error(measured, -measured, valid)
    assert ncc.tolist() == pytest.approx([-1, -1], abs=1e-6)
    deviation = (measured - measured.mean((1, 2), keepdim=True)).flatten(1).norm(dim=1) / measured.flatten(1).norm(dim=1)
    assert relative.tolist() == pytest.approx(deviation.tolist(), rel=1e-5)


def test_an_empty_reprojection_has_all_the_contrast_as_error():
    measured, valid = views()
    relative, ncc = reprojection_error(measured, torch.full_like(measured, 0.1), valid)
    deviation = (measured - measured.mean((1, 2), keepdim=True)).flatten(1).norm(dim=1) / measured.flatten(1).norm(dim=1)
    assert relative.tolist() == pytest.approx(deviation.tolist(), rel=1e-5)
    assert ncc.isnan().all()
    assert reprojection_error(measured, measured, torch.zeros_like(valid))[0].isnan().all()
    with pytest.raises(ValueError, match="three equal shapes"):
        reprojection_error(measured, measured[:1], valid)


def test_cosine_is_of_the_angle_to_zero_not_to_the_mean():
    a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert cosine(a, b) == pytest.approx(math.sqrt(0.5))
    assert cosine(a, 7 * a) == pytest.approx(1.0)
    assert cosine(a, 1 - a) == 0


@pytest.mark.parametrize(("ssim", "taps"), [(ssim_3d, 11), (ssim_3d_uniform, 7)])
def test_ssim_of_a_mask_averages_the_windows_centred_in_it(ssim, taps):
    prediction, truth = smooth_pair((taps + 2, taps, taps))  # three windows
    mask = torch.rand(truth.shape, generator=torch.Generator().manual_seed(4)) > 0.3
    middle = taps // 2
    mask[middle : middle + 3, middle, middle] = torch.tensor([True, False, True])
    windows = [ssim(*(v[k : k + taps] for v in (prediction, truth, mask))) for k in (0, 2)]
    assert float(ssim(prediction, truth, mask)) == pytest.approx(float(torch.stack(windows).mean()), abs=1e-6)


def test_ssim_2d_of_a_mask_is_the_mean_of_slice_means_of_windows_that_see_covered_voxels():
    prediction, truth = smooth_pair((8, 9, 10))
    mask = torch.rand(truth.shape, generator=torch.Generator().manual_seed(5)) > 0.4
    mask[2] = False
    planes = []
    for axis in range(3):
        p, t, m = (v.movedim(axis, 0).double().numpy() for v in (prediction, truth, mask))
        slices = []
        for p_slice, t_slice, m_slice in zip(p, t, m.astype(bool), strict=True):
            height, width = m_slice.shape
            corners = [(r, c) for r in range(height - 6) for c in range(width - 6) if m_slice[r + 3, c + 3]]
            scores = []
            for r, c in corners:
                window = np.s_[r : r + 7, c : c + 7]
                a, b = p_slice[window][m_slice[window]], t_slice[window][m_slice[window]]
                (aa, ab), (_, bb) = np.cov(a, b)  # N - 1 of the N voxels that are covered
                means = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                scores.append(means * (2 * ab + 9e-4) / (aa + bb + 9e-4))
            slices += [np.mean(scores)] if scores else []
        planes.append(np.mean(slices))
    assert float(ssim_2d(prediction, truth, mask)) == pytest.approx(float(np.mean(planes)), abs=1e-5)


def test_the_edge_of_metal_ends_where_the_mask_does():
    truth = body_phantom()
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[12:] = False  # the screw's last slice is 11
    metal = region_masks(truth, mask)["metal"]
    assert not metal[12:].any() and int(metal.sum()) == 3 * 3 * 4
