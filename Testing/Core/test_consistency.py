"""Data consistency: the solver against a direct solution, intensity fits that must be exact, and where nothing may change."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.consistency import (
    Consistency,
    StepCorrection,
    _edge_weights,
    _gradient,
    _gradient_adjoint,
    conjugate_gradients,
    consistency_from,
    consistency_from_words,
    correct_volume,
    fit_intensity,
    measured_views,
)
from diff2ct.geometry import BEAMS, Beam, ConeBeam, View, as_kind
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct.smooth import unit_power_matrix
from diff2ct.uncertainty import expected_error
from diff2ct.units import HuMap, hu_to_mu
from diff2ct.volume import VolumeGrid
from tiny import tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs

GRID = VolumeGrid.centered(32, 8.0)
OPTIONS = Consistency(share=0.0, least_error_hu=0.0, noise=0.02, correlation_mm=8.0, remainder_modes=2)


def body(metal_hu: float = 3000.0) -> torch.Tensor:
    """A trunk of water inside the cube, air around it, with a bone and a rod of metal."""
    _, j, i = torch.meshgrid(*(torch.arange(32.0),) * 3, indexing="ij")
    hu = torch.where(((j - 16) / 9) ** 2 + ((i - 16) / 12) ** 2 < 1, 20.0, -1000.0)
    hu = torch.where(((j - 19) ** 2 + (i - 16) ** 2 < 6), 400.0, hu)
    hu[10:22, 17:19, 19:21] = metal_hu
    return hu


def radiographs(
    hu: torch.Tensor, gain: float = 1.0, offset: float = 0.0, tilt_deg: float = 0.0, kind: str = "cone"
) -> list[Radiograph]:
    pair = []
    for view in (View.AP, View.LL):
        cone = ConeBeam.from_view(
            view, source_to_detector_mm=1400.0, source_to_isocenter_mm=1000.0, detector_spacing_mm=(11.2, 11.2),
            detector_size=(36, 36), secondary_angle_deg=tilt_deg,
        )  # fmt: skip
        beam: Beam = as_kind(cone, kind)
        image = project(hu_to_mu(hu), GRID, beam).numpy() * gain + offset
        pair.append(Radiograph(image, beam, scale_known=(gain, offset) == (1, 0), source=view.value))
    return pair


def uniform_error(hu: torch.Tensor, error_hu: float = 500.0) -> torch.Tensor:
    return torch.full_like(hu, error_hu)


def test_conjugate_gradients_solve_a_known_linear_problem() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 7, generator=generator, dtype=torch.float64)
    target = torch.randn(12, generator=generator, dtype=torch.float64)
    direct = torch.linalg.solve(matrix.T @ matrix + torch.eye(7), matrix.T @ target)
    u, norms = conjugate_gradients(
        lambda u: [matrix[:5] @ u, matrix[5:] @ u],
        lambda rows: matrix.T @ torch.cat(list(rows)),
        [target[:5], target[5:]],
        torch.zeros(7, dtype=torch.float64),
        20,
    )
    torch.testing.assert_close(u, direct, atol=1e-9, rtol=0)
    assert norms[0] == pytest.approx(float(target.norm()))
    assert norms[-1] == pytest.approx(float((target - matrix @ direct).norm()), rel=1e-9)
    assert len(norms) <= 12, "7 unknowns need 7 steps; then it stops"


@pytest.mark.parametrize("kind", BEAMS)
def test_residual_never_increases_and_the_volume_comes_nearer(kind: str) -> None:
    truth, model = body(3000.0), body(900.0)
    views = measured_views(radiographs(truth, kind=kind), GRID)
    corrected, norms = correct_volume(model, uniform_error(model), GRID, views, replace(OPTIONS, num_iterations=12))
    assert np.all(np.diff(norms) <= 1e-6 * norms[0]) and norms[-1] < 0.3 * norms[0]
    metal = truth > 2000
    assert float((corrected - truth)[metal].abs().mean()) < float((model - truth)[metal].abs().mean())


def test_where_errors_are_expected_the_residual_goes() -> None:
    truth, model = body(3000.0), body(900.0)
    error = torch.where(model > 600, 1500.0, 100.0)
    views = measured_views(radiographs(truth), GRID)
    options = replace(OPTIONS, least_error_hu=400.0, correlation_mm=2.0)
    corrected, _ = correct_volume(model, error, GRID, views, options)
    metal = truth > 2000
    assert float(corrected[metal].mean()) == pytest.approx(3000, abs=250)
    assert torch.equal(corrected[error < 400], model[error < 400]), "elsewhere nothing changes, to the bit"


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (37.0, -4.0)])
def test_consistent_data_change_nothing(gain: float, offset: float) -> None:
    truth = body()
    views = measured_views(radiographs(truth, gain, offset), GRID)
    corrected, norms = correct_volume(truth, uniform_error(truth), GRID, views, OPTIONS)
    assert float((corrected - truth).abs().max()) < 1.0
    assert norms[0] < 1e-2


def test_gain_and_offset_are_recovered_exactly() -> None:
    truth = body()
    for view, plain in zip(
        measured_views(radiographs(truth, 37.0, -4.0), GRID), measured_views(radiographs(truth), GRID), strict=True
    ):
        gain, remainder = fit_intensity(view, plain.image, 1)
        assert gain == pytest.approx(37.0, rel=1e-5)
        assert float(remainder.mean()) == pytest.approx(-4.0 / 37.0, abs=1e-5)


def test_smooth_tissue_beside_the_cube_is_no_reason_to_change_it() -> None:
    truth = body()
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 36), torch.linspace(-1, 1, 36), indexing="ij")
    beside = 1.5 * torch.exp(-2 * columns**2 - 0.5 * rows**2)
    pair = [replace(r, line_integral=r.line_integral + beside.numpy()) for r in radiographs(truth)]
    views = measured_views(pair, GRID)
    naive, fitted = (
        correct_volume(truth, uniform_error(truth), GRID, views, replace(OPTIONS, remainder_modes=modes))[0] - truth
        for modes in (1, 6)
    )
    assert float(naive.abs().mean()) > 10
    assert float(fitted.abs().mean()) < 0.1 * float(naive.abs().mean())


def test_an_implant_is_no_remainder() -> None:
    truth, model = body(3000.0), body(900.0)
    view = measured_views(radiographs(truth), GRID)[0]
    projected = project(hu_to_mu(model), GRID, view.beam)
    _, remainder = fit_intensity(view, projected, 6)
    missing = (view.image - projected)[view.used]
    assert float(remainder[view.used].abs().max()) < 0.2 * float(missing.abs().max())


def test_trust_radius_is_respected() -> None:
    truth, model = body(3000.0), body(0.0)
    views = measured_views(radiographs(truth), GRID)
    error = uniform_error(model, 450.0)
    corrected, _ = correct_volume(model, error, GRID, views, replace(OPTIONS, least_error_hu=400.0, trust=0.5))
    change = (corrected - model).abs()
    assert float(change.max()) <= 25.0 + 1e-3 and float(change.max()) > 20.0
    unchanged, _ = correct_volume(model, error, GRID, views, replace(OPTIONS, trust=0.0))
    assert torch.equal(unchanged, model)


def test_values_stay_in_the_window_and_saturated_pixels_only_pull_up() -> None:
    truth, model = body(3000.0), body(4000.0)
    pair = [replace(r, line_integral=np.minimum(r.line_integral, 3.0)) for r in radiographs(truth)]
    views = measured_views(pair, GRID)
    assert all(int(v.saturated.sum()) >= 20 for v in views)
    error = torch.where(model > 600, 1500.0, 0.0)
    corrected, _ = correct_volume(model, error, GRID, views, OPTIONS)
    assert float(corrected[model > 600].mean()) > 3500, "the detector ended there: less metal does not follow"
    assert corrected.min() >= -1000 and corrected.max() <= 4096


@pytest.mark.parametrize("pixels", [700, 701, 333])
def test_a_saturated_plateau_is_known_after_the_image_was_resized(pixels: int) -> None:
    image = np.full((pixels, pixels), 0.5, np.float32)
    image[pixels // 4 : 3 * pixels // 4, pixels // 4 : 3 * pixels // 4] = 2.7182817
    beam = ConeBeam.from_view(
        View.AP, source_to_detector_mm=1400.0, source_to_isocenter_mm=1000.0, detector_spacing_mm=(400 / pixels,) * 2,
        detector_size=(pixels, pixels),
    )  # fmt: skip
    (view,) = measured_views([Radiograph(image, beam, scale_known=True, source="AP")], GRID)
    inside = view.image > 2.7
    assert int(inside.sum()) > 20 and torch.equal(view.saturated, inside)


def test_weight_zero_and_total_variation() -> None:
    truth, model = body(3000.0), body(900.0)
    views = measured_views(radiographs(truth), GRID)
    unchanged, _ = correct_volume(model, uniform_error(model), GRID, views, OPTIONS, weight=0.0)
    assert torch.equal(unchanged, model)
    plain, smooth = (
        correct_volume(model, uniform_error(model), GRID, views, replace(OPTIONS, tv=tv, num_iterations=15))[0]
        for tv in (0.0, 3.0)
    )
    assert float(_gradient(smooth).abs().sum()) < 0.98 * float(_gradient(plain).abs().sum())


def test_the_weight_of_the_xrays_is_that_of_their_squared_residual() -> None:
    truth, model = body(3000.0), body(900.0)
    views = measured_views(radiographs(truth), GRID)
    lighter, noisier = (
        correct_volume(model, uniform_error(model), GRID, views, replace(OPTIONS, noise=noise), weight=weight)[0]
        for noise, weight in ((0.3, 0.25), (0.6, 1.0))
    )
    torch.testing.assert_close(lighter, noisier, rtol=1e-4, atol=0.1)


def test_estimates_on_the_way_are_corrected_as_far_as_they_are_without_noise() -> None:
    truth, model, hu_map = body(3000.0), body(900.0), HuMap()
    views, options = measured_views(radiographs(truth), GRID), replace(OPTIONS, noise=0.3)
    alpha_bar = torch.tensor([1.0, 0.8, 0.2, 0.0])
    correct = StepCorrection(views, GRID, hu_map, tiny_calibration(), options, alpha_bar, 1)
    for t, weight in ((3, 0.0), (2, 0.25), (1, 1.0)):
        found = hu_map.to_hu(correct(hu_map.to_x(model)[None, None], t))[0, 0]
        error = expected_error(model, None, tiny_calibration())
        expected, _ = correct_volume(model, error, GRID, views, options, weight=weight)
        torch.testing.assert_close(found, expected, rtol=0, atol=2.0)
    assert float((expected - model).abs().max()) > 100


def test_the_only_step_counts_whole_at_zero_snr() -> None:
    truth, model, hu_map = body(3000.0), body(900.0), HuMap()
    views = measured_views(radiographs(truth), GRID)
    correct = StepCorrection(views, GRID, hu_map, tiny_calibration(), OPTIONS, torch.tensor([1.0, 0.5, 0.0]), 2)
    found = hu_map.to_hu(correct(hu_map.to_x(model)[None, None], 2))[0, 0]
    expected, _ = correct_volume(model, expected_error(model, None, tiny_calibration()), GRID, views, OPTIONS)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.0)


def test_errors_of_neighbours_agree_over_mm_along_each_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, made = VolumeGrid((24, 26, 28), (4.0, 5.0, 8.0), (0.0, 0.0, 0.0)), []
    monkeypatch.setattr(
        "diff2ct.consistency.unit_power_matrix", lambda *given: made.append(unit_power_matrix(*given)) or made[-1]
    )
    correct_volume(torch.zeros(grid.size), torch.zeros(grid.size), grid, [], replace(OPTIONS, correlation_mm=16.0))
    for matrix, mm in zip(made, (8.0, 5.0, 4.0), strict=True):
        middle = len(matrix) // 2
        correlation = float((matrix @ matrix.T)[middle, middle + 1])
        assert correlation == pytest.approx(math.exp(-((mm / 16.0) ** 2) / 2), rel=1e-3)


def test_total_variation_weighs_a_step_by_its_height() -> None:
    hu = torch.zeros(6, 6, 6)
    hu[:, :, 3:] = 5000.0
    cost = (_edge_weights(hu, 2.0) * _gradient(hu)).square().sum(0)
    assert float(cost[2, 2, 2]) == pytest.approx(2.0 * 5000 / 100, rel=1e-3)


def test_gradient_and_its_adjoint() -> None:
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(5, 6, 7, generator=generator, dtype=torch.float64)
    parts = torch.randn(3, 5, 6, 7, generator=generator, dtype=torch.float64)
    assert float((_gradient(volume) * parts).sum()) == pytest.approx(float((volume * _gradient_adjoint(parts)).sum()))


@pytest.mark.parametrize(
    "option",
    [
        {"when": "always"},
        {"num_iterations": 0},
        {"num_iterations": 1.5},
        {"noise": 0.0},
        {"trust": -1.0},
        {"tv": float("nan")},
        {"remainder_modes": 99},
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(option: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        Consistency(**option)


def test_bad_shapes_are_refused() -> None:
    hu = body()
    views = measured_views(radiographs(hu), GRID)
    with pytest.raises(ValueError, match="error_hu"):
        correct_volume(hu, torch.zeros(3, 3, 3), GRID, views, OPTIONS)
    with pytest.raises(ValueError, match="weight"):
        correct_volume(hu, hu, GRID, views, OPTIONS, weight=2.0)


def test_views_that_cannot_tell_change_nothing() -> None:
    """One beside the cube, and one of another patient, in which dense is where the volume is thin."""
    truth, model = body(3000.0), body(900.0)
    high = replace(GRID, origin_lps=(GRID.origin_lps[0], GRID.origin_lps[1], 5000.0))
    assert measured_views(radiographs(truth), high) == []
    unchanged, _ = correct_volume(model, uniform_error(model), high, [], OPTIONS)
    assert torch.equal(unchanged, model)
    negative = [replace(r, line_integral=-r.line_integral, scale_known=False) for r in radiographs(truth)]
    unchanged, _ = correct_volume(model, uniform_error(model), GRID, measured_views(negative, GRID), OPTIONS)
    assert torch.equal(unchanged, model)
    good, bad = measured_views([radiographs(truth)[0], negative[1]], GRID)
    alone, both = (correct_volume(model, uniform_error(model), GRID, views, OPTIONS)[0] for views in ([good], [good, bad]))
    torch.testing.assert_close(both, alone, rtol=0, atol=0.1)


@pytest.mark.parametrize("gain", [0.004, 37.0, 50_000.0])
def test_gain_of_any_size_is_found_with_metal_that_the_volume_lacks(gain: float) -> None:
    truth, model = body(3000.0), body(900.0)
    for view in measured_views(radiographs(truth, gain, 3 * gain), GRID):
        fitted, _ = fit_intensity(view, project(hu_to_mu(model), GRID, view.beam), 4)
        assert fitted == pytest.approx(gain, rel=0.05)


# In reconstruct()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return replace(tiny_checkpoint(), calibration=tiny_calibration())


def test_options_from_words() -> None:
    assert consistency_from_words(["when=steps", "num_iterations=1", "tv=0.1"]) == Consistency(
        when="steps", num_iterations=1, tv=0.1
    )
    for word, message in (
        ("steps", "NAME=VALUE"),
        ("tv=much", "tv: got 'much'"),
        ("tv2=1", "unknown tv2"),
        ("trust=-1", "trust"),
    ):
        with pytest.raises(ValueError, match=message):
            consistency_from_words([word])


def test_options_from_json() -> None:
    assert consistency_from(None) is None and consistency_from(True) is True and consistency_from(False) is False
    assert consistency_from({"when": "steps", "noise": 1}) == Consistency(when="steps", noise=1)
    for value, word in (({"when": "now"}, "when"), ({"loudness": 1}, "loudness"), ({"noise": "much"}, "noise"), ("on", "on")):
        with pytest.raises(ValueError, match=word):
            consistency_from(value)


@pytest.mark.parametrize("when", ["end", "steps"])
def test_reconstruction_explains_its_radiographs_better(checkpoint: Checkpoint, when: str) -> None:
    pair = tiny_radiographs(tiny_body())
    options = Consistency(when=when, least_error_hu=0.0, noise=0.05, correlation_mm=16.0, remainder_modes=1)
    result = reconstruct(pair, checkpoint, num_steps=2, num_samples=2, consistency=options)
    assert result.reprojection_before is not None
    for before, after in zip(result.reprojection_before, result.reprojection, strict=True):
        assert after["relative_l2"] < before["relative_l2"]
    inside = ((result.samples_hu > -1000) & (result.samples_hu < 4096)).all(axis=0)
    np.testing.assert_allclose(result.samples_hu.mean(0)[inside], result.volume.hu[inside], atol=0.1, err_msg="all move alike")
    assert result.samples_hu.shape == (2, 16, 16, 16) and "noise=0.05" in result.provenance["Consistency"]
    assert result.support().max() <= 1 and result.interval_hu(0.8)[0].shape == (16, 16, 16)


def test_tilted_views_work_inside_the_sampler_too(checkpoint: Checkpoint) -> None:
    pair = [
        replace(r, geometry=replace(r.geometry, secondary_angle_deg=8.0, roll_deg=3.0)) for r in tiny_radiographs(tiny_body())
    ]
    options = Consistency(when="steps", least_error_hu=0.0)
    assert reconstruct(pair, checkpoint, num_steps=2, consistency=options).reprojection_before is not None


def test_off_is_as_before_and_uncalibrated_is_refused(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    without = reconstruct(pair, checkpoint, num_steps=2, seed=4, consistency=False)
    plain = reconstruct(pair, tiny_checkpoint(), num_steps=2, seed=4)
    np.testing.assert_array_equal(without.volume.hu, plain.volume.hu)
    assert without.reprojection_before is None and plain.error_hu is None
    first = reconstruct(pair, checkpoint, num_steps=2, seed=4, consistency=Consistency(trust=0.0))
    np.testing.assert_array_equal(first.volume.hu, plain.volume.hu)
    with pytest.raises(ValueError, match="consistency"):
        reconstruct(pair, tiny_checkpoint(), consistency=True)
    with pytest.raises(ValueError, match="calibration"):
        plain.support()


def test_default_is_on_where_line_integrals_are_known(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    assert reconstruct(pair, checkpoint, num_steps=1).reprojection_before is not None
    films = [replace(r, scale_known=False) for r in pair]
    assert reconstruct(films, checkpoint, num_steps=1).reprojection_before is None
    assert reconstruct([pair[0], films[1]], checkpoint, num_steps=1).reprojection_before is None
    assert reconstruct(films, checkpoint, num_steps=1, consistency=True).reprojection_before is not None


def test_the_expected_error_follows_the_spread_of_the_samples(checkpoint: Checkpoint) -> None:
    calibration = replace(tiny_calibration(), error_hu=((300.0, 500.0),) * 2)  # 300 + SD
    told = replace(checkpoint, calibration=calibration)
    result = reconstruct(tiny_radiographs(tiny_body()), told, num_steps=2, num_samples=2, consistency=False)
    expected = expected_error(*map(torch.from_numpy, (result.volume.hu, result.sd_hu)), calibration)
    np.testing.assert_allclose(result.error_hu, expected, atol=0.01)
    assert 300 < result.error_hu.max() < 600


@pytest.mark.gpu
def test_correction_runs_on_the_gpu() -> None:
    truth, model = body(3000.0), body(900.0)
    on_cpu, on_gpu = (
        correct_volume(
            model.to(device), uniform_error(model).to(device), GRID, measured_views(radiographs(truth), GRID, device), OPTIONS
        )[0].cpu()
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(on_cpu, on_gpu, atol=1.0, rtol=1e-3)


def test_double_precision_volume_keeps_its_type() -> None:
    truth, model = body(3000.0), body(900.0)
    views = measured_views(radiographs(truth), GRID)
    single, double = (correct_volume(m, uniform_error(m), GRID, views, OPTIONS)[0] for m in (model, model.double()))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), atol=1.0, rtol=1e-3)
