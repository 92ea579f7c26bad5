"""The detector model against Beer-Lambert, Poisson statistics and contrast known by hand."""

import math
from dataclasses import replace

import pytest
import torch

from diff2ct.simulate import LOG_RANGE, REFERENCE_LINE_INTEGRAL, DetectorModel, acquire, random_detector
from diff2ct.standardize import standardize
from tiny import line_integrals

IDEAL = DetectorModel()
PIXEL_MM = 1.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shoot(value: torch.Tensor, model: DetectorModel) -> torch.Tensor:
    return acquire(value, PIXEL_MM, model, generator())[0]


def line_integral_of(pixel_value: torch.Tensor, model: DetectorModel) -> torch.Tensor:
    """Beer-Lambert backwards where the tone is "linear" or "log"; noise, scatter and blur stay in."""
    signal = (pixel_value / (1 if model.bits is None else 2**model.bits - 1) - model.offset) / model.gain
    signal = (1.0 - signal if model.bright_is_dense else signal) ** (1.0 / model.gamma)
    attenuation = (1.0 - signal) * LOG_RANGE if model.tone == "log" else -signal.log()
    return attenuation / (1.0 - model.beam_hardening * attenuation)


# There and back ---------------------------------------------------------------------------------------------------------


def test_the_ideal_detector_is_beer_lambert():
    line_integral = line_integrals()
    pixel_value, valid = acquire(line_integral, PIXEL_MM, IDEAL, generator())
    assert torch.equal(pixel_value, torch.exp(-line_integral))
    assert valid.all()


@pytest.mark.parametrize("tone", ["linear", "log"])
@pytest.mark.parametrize("bright_is_dense", [False, True])
def test_every_step_of_the_picture_can_be_undone(tone, bright_is_dense):
    line_integral = line_integrals()
    model = DetectorModel(tone=tone, bright_is_dense=bright_is_dense, gain=700.0, offset=30.0, gamma=0.7, beam_hardening=0.04)
    if tone == "linear":
        model = replace(model, gamma=1.0, gain=0.8, offset=0.01)
    recovered = line_integral_of(shoot(line_integral, model), model)
    assert torch.allclose(recovered, line_integral, atol=2e-3)


def test_sixteen_bits_round_to_half_a_step():
    line_integral = line_integrals()
    model = DetectorModel(bits=16)
    pixel_value = shoot(line_integral, model)
    assert torch.equal(pixel_value, pixel_value.round())
    assert pixel_value.max() == 65535
    # d(-ln I) = dI / I with |dI| <= half a step
    bound = 0.5 / 65535 * line_integral.exp() * 1.05 + 1e-5
    assert ((line_integral_of(pixel_value, model) - line_integral).abs() <= bound).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_bits_clip_what_the_scale_does_not_hold(bits):
    pixel_value = shoot(line_integrals(), DetectorModel(bits=bits, gain=1.5, offset=-0.1))
    assert pixel_value.min() == 0
    assert pixel_value.max() == 2**bits - 1


# The beam ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 2.0, 5.0])
def test_noise_of_the_line_integral_has_variance_exp_of_it_over_the_open_count(level):
    photons = 2e4
    flat = torch.full((1, 300, 300), level)
    model = DetectorModel(photons_per_pixel=photons)
    noisy = line_integral_of(acquire(flat, PIXEL_MM, model, generator(1))[0], model)
    # Var(-ln I) = 1 / counts; delta method, so a little more at 135 counts. 9e4 samples: 0.5 % standard error.
    assert float(noisy.var()) == pytest.approx(math.exp(level) / photons, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(level, abs=0.01)


def test_few_photons_keep_the_mean_and_variance_of_poisson():
    model = DetectorModel(photons_per_pixel=1000.0)
    counts = 1000 * acquire(torch.full((1, 400, 400), -math.log(0.008)), PIXEL_MM, model, generator(1))[0]
    assert float(counts.mean()) == pytest.approx(8.0, rel=0.01)
    assert float(counts.var()) == pytest.approx(8.0, rel=0.04)
    assert counts.min() >= 0.5


def test_detector_blur_makes_noise_coarser_and_focal_blur_does_not():
    flat = torch.full((1, 128, 128), 2.0)
    white = DetectorModel(photons_per_pixel=1e4)
    plain, focal, detector = (
        float(shoot(flat, model).var())
        for model in (white, replace(white, focal_blur_mm=3.0), replace(white, detector_blur_mm=3.0))
    )
    assert focal == pytest.approx(plain, rel=0.05)
    # White noise through a Gaussian of s pixels keeps 1 / (4 pi s^2) of its variance; s = 2 here.
    assert detector == pytest.approx(plain / (4 * math.pi * 4), rel=0.25)


def test_blur_spreads_an_edge_by_its_sigma_in_mm():
    line_integral = torch.zeros(1, 40, 80)
    line_integral[..., 40:] = 20.0
    edge = shoot(line_integral, DetectorModel(focal_blur_mm=4.5))[0, 20]
    spread = -edge.diff()
    position = (torch.arange(79) + 0.5) * PIXEL_MM
    mean = (spread * position).sum() / spread.sum()
    assert float(((spread * (position - mean) ** 2).sum() / spread.sum()).sqrt()) == pytest.approx(4.5, rel=0.02)


def test_scatter_lowers_the_contrast_of_a_detail_by_the_scatter_fraction():
    line_integral = torch.full((1, 101, 101), REFERENCE_LINE_INTEGRAL)
    line_integral[0, 50, 50] += 0.2
    contrasts = []
    for fraction in (0.0, 0.5):
        transmission = shoot(line_integral, DetectorModel(scatter_fraction=fraction, scatter_sigma_mm=40.0))[0]
        contrasts.append(float(1 - transmission[50, 50] / transmission[50, 45]))
    assert contrasts[0] == pytest.approx(1 - math.exp(-0.2), rel=1e-4)
    assert contrasts[1] / contrasts[0] == pytest.approx(0.5, rel=1e-2)


def test_scatter_falls_where_the_object_is_and_grows_with_its_thickness():
    fraction = DetectorModel(scatter_fraction=0.4)
    assert torch.equal(shoot(torch.zeros(1, 20, 20), fraction), torch.ones(1, 20, 20))
    thick = torch.full((1, 20, 20), 8.0)
    assert float(shoot(thick, fraction).mean()) == pytest.approx(math.exp(-8) * (1 + 2 * 0.4 / 0.6), rel=1e-4)


def test_beam_hardening_is_monotone_and_weakest_for_thin_paths():
    line_integral = torch.linspace(0, 16, 400).reshape(1, 20, 20)
    measured = line_integral_of(shoot(line_integral, DetectorModel(beam_hardening=0.05)), IDEAL).flatten()
    assert (measured.diff() > 0).all()
    assert (measured.diff().diff() < 1e-4).all()
    assert float(measured[1] / line_integral.flatten()[1]) == pytest.approx(1.0, rel=0.01)


def test_collimation_gives_the_valid_mask_and_darkness_behind_it():
    pixel_value, valid = acquire(line_integrals(), PIXEL_MM, DetectorModel(collimation=(0.125, 0.25, 0.1, 0.0)), generator())
    expected = torch.zeros(2, 48, 40, dtype=torch.bool)
    expected[:, 6:36, 4:] = True
    assert torch.equal(valid, expected)
    assert (pixel_value[~valid] == 0).all()


def test_saturation_is_a_ceiling_on_transmission():
    line_integral = line_integrals()
    pixel_value = shoot(line_integral, DetectorModel(saturation=0.3))
    assert torch.equal(pixel_value, torch.exp(-line_integral).clamp(max=0.3))


# The picture ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tone", ["linear", "log", "film"])
@pytest.mark.parametrize("bright_is_dense", [False, True])
@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.7])
def test_tone_curves_are_monotone_and_run_the_way_the_polarity_says(tone, bright_is_dense, gamma):
    ramp = torch.linspace(0.1, 9.0, 400).reshape(1, 20, 20)
    model = DetectorModel(tone=tone, bright_is_dense=bright_is_dense, gamma=gamma)
    steps = shoot(ramp, model).flatten().double().diff()
    assert ((steps if bright_is_dense else -steps) >= -1e-6).all()
    assert steps.abs().sum() > 0.3


def test_film_contrast_is_highest_in_the_middle_of_the_curve():
    ramp = torch.linspace(0.0, 9.0, 400).reshape(1, 20, 20)
    film = DetectorModel(tone="film", bright_is_dense=True, film_contrast=6.0)
    steps = shoot(ramp, film).flatten().diff()
    assert steps[200] > 3 * steps[20] and steps[200] > 3 * steps[380]
    straight = shoot(ramp.double(), replace(film, film_contrast=0.01)).flatten().diff()[10:-10]
    assert float(straight.max()) == pytest.approx(float(straight.min()), rel=0.01)


def test_local_contrast_flattens_the_trunk_and_keeps_the_spine():
    line_integral = torch.full((1, 60, 100), 2.0) + torch.linspace(0, 4, 100)  # thicker and thicker
    line_integral[..., 48:52] += 0.5
    film = DetectorModel(tone="film", bright_is_dense=True, film_contrast=0.01)

    def detail_to_slope(model: DetectorModel) -> float:
        profile = shoot(line_integral, model)[0, 30]
        slope = (profile[70] - profile[30]) / 40
        return float((profile[48:52].mean() - (profile[45] + profile[54]) / 2) / slope)

    assert detail_to_slope(replace(film, local_contrast=0.6)) > 2 * detail_to_slope(film)


# Randomness -------------------------------------------------------------------------------------------------------------


def test_the_same_generator_gives_the_same_image_whatever_came_before_in_the_batch():
    images = line_integrals(), 1.3 * line_integrals()

    def batch(order: tuple[int, ...]) -> dict[int, torch.Tensor]:
        results = {}
        for sample in order:
            own = generator(100 + sample)
            model = random_detector(own)
            results[sample] = acquire(images[sample], PIXEL_MM, model, own)[0]
        return results

    forward, backward = batch((0, 1)), batch((1, 0))
    assert all(torch.equal(forward[sample], backward[sample]) for sample in (0, 1))
    assert torch.equal(batch((1,))[1], forward[1])


def test_other_seeds_give_other_noise_and_no_global_state_is_touched():
    model = DetectorModel(photons_per_pixel=1e4)
    state = torch.random.get_rng_state()
    first, second = (acquire(line_integrals(), PIXEL_MM, model, generator(seed))[0] for seed in (1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0] - first[0].mean(), first[1] - first[1].mean())


def test_strength_zero_is_a_noise_free_log_detector():
    line_integral = line_integrals()
    model = random_detector(generator(), strength=0.0)
    assert torch.allclose(line_integral_of(shoot(line_integral, model), model), line_integral, atol=1e-4)
    with pytest.raises(ValueError, match=r"strength: got 1\.5"):
        random_detector(generator(), strength=1.5)


def test_random_detectors_vary_keep_dense_bright_and_weaken_with_strength():
    strong, weak = ([random_detector(generator(seed), s) for seed in range(60)] for s in (1.0, 0.2))
    assert {m.tone for m in strong} == {"log", "film"}
    assert 15 < sum(m.tone == "film" for m in strong) < 45
    assert len({m.scatter_fraction for m in strong}) == 60
    assert max(m.scatter_fraction for m in weak) <= 0.2 * 0.6
    assert min(m.photons_per_pixel for m in weak) >= 25 * 10**4.7
    line_integral = line_integrals()
    truth = standardize(line_integral, torch.ones_like(line_integral, dtype=torch.bool))
    for seed, model in enumerate(strong):
        image, valid = acquire(line_integral, PIXEL_MM, model, generator(seed))
        assert image.isfinite().all()
        seen = standardize(image, valid)
        likeness = torch.corrcoef(torch.stack([seen[valid], truth[valid]]))[0, 1]
        assert likeness > 0.6, model  # the same object, never inverted


# Input ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scatter_fraction", 1.0),
        ("beam_hardening", -0.1),
        ("photons_per_pixel", 0.0),
        ("photons_per_pixel", math.nan),
        ("gain", -1.0),
        ("tone", "x-ray"),
        ("bits", 9),
        ("collimation", (0.5, 0.0, 0.0, 0.0)),
        ("gamma", 0.0),
    ],
)
def test_impossible_detectors_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        DetectorModel(**{field: value})


def test_bad_images_are_refused_by_name():
    with pytest.raises(ValueError, match=r"line_integral: got .*\(4, 4\)"):
        acquire(torch.zeros(4, 4), PIXEL_MM, IDEAL, generator())
    with pytest.raises(ValueError, match="pixel_mm"):
        acquire(torch.zeros(1, 4, 4), 0.0, IDEAL, generator())


# Lengths, borders and limits --------------------------------------------------------------------------------------------


def test_scatter_spreads_by_its_sigma_in_mm():
    line_integral = torch.zeros(1, 20, 81)
    line_integral[..., 40] = 2.0
    model = DetectorModel(scatter_fraction=0.5, scatter_sigma_mm=6.0)
    scatter = (shoot(line_integral, model) - torch.exp(-line_integral))[0, 10]
    position = (torch.arange(81) - 40) * PIXEL_MM
    assert float(((scatter * position**2).sum() / scatter.sum()).sqrt()) == pytest.approx(6.0, rel=0.02)


def test_twice_the_pixel_and_twice_all_lengths_give_the_same_picture():
    model = DetectorModel(
        tone="film", scatter_fraction=0.4, scatter_sigma_mm=20.0, focal_blur_mm=2.0, detector_blur_mm=1.0,
        local_contrast=0.6, local_contrast_sigma_mm=9.0, photons_per_pixel=1e4,
    )  # fmt: skip
    doubled = replace(model, scatter_sigma_mm=40.0, focal_blur_mm=4.0, detector_blur_mm=2.0, local_contrast_sigma_mm=18.0)
    small, _ = acquire(line_integrals(), PIXEL_MM, model, generator())
    large, _ = acquire(line_integrals(), 2 * PIXEL_MM, doubled, generator())
    assert torch.allclose(small, large, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("local_contrast", [0.0, 0.6])
def test_a_film_is_processed_as_if_nothing_were_behind_the_collimator(local_contrast):
    line_integral = line_integrals()
    film = DetectorModel(tone="film", local_contrast=local_contrast, local_contrast_sigma_mm=15.0)
    pixel_value, _ = acquire(line_integral, PIXEL_MM, replace(film, collimation=(0.25, 0.125, 0.1, 0.2)), generator())
    cut = (slice(None), slice(12, 42), slice(4, 32))
    assert torch.allclose(pixel_value[cut], shoot(line_integral[cut], film), atol=1e-4)


@pytest.mark.parametrize("center", [0.35, 0.6])
def test_a_film_runs_from_the_1st_to_the_99th_percentile_and_is_steepest_at_its_center(center):
    ramp = torch.linspace(1.0, 9.0, 1001, dtype=torch.float64).reshape(1, 7, 143)
    film = shoot(ramp, DetectorModel(tone="film", bright_is_dense=True, film_contrast=6.0, film_center=center)).flatten()
    assert film[:11].abs().max() < 1e-9 < 1e-4 < film[11]
    assert (1 - film[990:]).abs().max() < 1e-9 < 1e-4 < 1 - film[989]
    assert int(film.diff().argmax()) == pytest.approx(10 + center * 980, abs=2)


def test_the_full_well_holds_what_the_blur_leaves():
    line_integral = torch.zeros(1, 20, 80)
    line_integral[..., 40:] = 20.0
    edge = shoot(line_integral, DetectorModel(saturation=0.3, detector_blur_mm=4.5))[0, 10]
    share = torch.special.ndtr((39.5 - torch.arange(80)) / 3.0)  # of a sharp edge, sigma 3 pixels
    assert torch.allclose(edge, share.clamp(max=0.3), atol=5e-3)


def test_line_integrals_below_zero_are_air():
    model = DetectorModel(scatter_fraction=0.4, beam_hardening=0.05)
    assert torch.equal(shoot(torch.full((1, 20, 20), -0.7), model), torch.ones(1, 20, 20))


def test_all_that_spoils_a_picture_shrinks_with_the_strength_and_films_become_rare():
    weak = [random_detector(generator(seed), 0.2) for seed in range(60)]
    for field, full in (("beam_hardening", 0.05), ("focal_blur_mm", 1.0), ("detector_blur_mm", 0.5)):
        values = [getattr(model, field) for model in weak]
        assert 0.1 * full < max(values) <= 0.2 * full, field
    assert 0.02 < max(max(model.collimation) for model in weak) <= 0.2 * 0.2
    assert 0 < sum(model.tone == "film" for model in weak) < 15
