"""Calibration on cases made so that the right answer is known: errors of a given size, given shape and given place."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from diff2ct.uncertainty import LEVELS, Calibration, expected_error, interval, quantile_volume, supported_by_xrays
from diff2ct_training.calibration_fit import CalibrationFit, conformal_radius

SIZE = (32, 32, 32)
BODY = torch.zeros(SIZE, dtype=torch.bool)
BODY[:, 4:28, 4:28] = True
KNOWN = torch.ones(SIZE, dtype=torch.bool)


def made_up_case(seed: int, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(samples (4, D, H, W), truth): true errors are `spread` times the SD of the samples, which is 45 HU left and 8 HU
    right; a dense block in the middle is off by 300 HU more."""
    generator = torch.Generator().manual_seed(seed)
    sd = torch.full(SIZE, 8.0)
    sd[:, :, :16] = 45.0
    mean = torch.where(BODY, 20.0, -1000.0)
    mean[12:20, 12:20, 12:20] = 600.0
    noise = torch.randn(4, *SIZE, generator=generator)
    noise -= noise.mean(0)
    samples = mean + torch.where(BODY, sd * noise / (3 / 4) ** 0.5, 0)  # SD of four is unbiased in variance
    error = spread * sd * torch.randn(SIZE, generator=generator)
    error[12:20, 12:20, 12:20] += 300 * torch.randn(8, 8, 8, generator=generator).abs()
    return samples, torch.where(BODY, mean + error, -1000.0)


def coverage(truth: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor, region: torch.Tensor) -> float:
    """Share of the voxels of `region` whose truth lies between."""
    return float(((lower <= truth) & (truth <= upper))[region].double().mean())


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    fit = CalibrationFit()
    for seed in range(10):
        fit.add(*made_up_case(seed), KNOWN, 0.008)
    return fit.result(num_samples=4, num_steps=3, provenance={"cases": "made up"})


def test_expected_error_is_the_error_that_was_put_in(calibration: Calibration) -> None:
    samples, _ = made_up_case(77)
    error = expected_error(samples.mean(0), samples.std(0), calibration)
    assert float(error[:, 8:24, 6:10].median()) == pytest.approx(135, rel=0.1)
    assert float(error[:, 8:24, 22:26].median()) == pytest.approx(24, rel=0.25)
    assert float(error[14:18, 14:18, 13:15].median()) > 250
    assert float(error[~BODY].median()) < 20


@pytest.mark.parametrize("level", LEVELS)
def test_coverage_holds_on_cases_not_calibrated_on(calibration: Calibration, level: float) -> None:
    shares, raw = [], []
    for seed in range(100, 104):
        samples, truth = made_up_case(seed)
        error = expected_error(samples.mean(0), samples.std(0), calibration)
        shares.append(coverage(truth, *interval(samples.mean(0), error, level, calibration), BODY))
        z = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(0.5 + level / 2)))
        raw.append(coverage(truth, *(samples.mean(0) + s * z * samples.std(0) for s in (-1, 1)), BODY))
    assert np.mean(shares) == pytest.approx(level, abs=0.04)
    fit = CalibrationFit()
    for seed in range(4):
        fit.add(*made_up_case(seed), KNOWN, 0.008)
    assert np.mean([shares[str(level)] for shares in fit.held_out_coverage()]) == pytest.approx(level, abs=0.05)
    assert np.mean(raw) < level - 0.2, "the SD of the samples itself is three times too small here"


def test_a_case_counts_by_its_weight() -> None:
    """One case whose samples know less among eight: the intervals are as wide as what it and they are worth together."""
    covered = {}
    for weight in (0.05, 0.2):  # of 150,000 voxels; the volume has 32,768
        fit = CalibrationFit()
        for seed in range(9):
            odd = seed == 8
            fit.add(*made_up_case(seed, 12.0 if odd else 3.0), KNOWN, 0.008, weight=weight if odd else 0.05)
        calibration = fit.result(num_samples=4, num_steps=3, provenance={})
        samples, truth = made_up_case(50, 12.0)
        error = expected_error(samples.mean(0), samples.std(0), calibration)
        covered[weight] = coverage(truth, *interval(samples.mean(0), error, 0.8, calibration), BODY)
    assert covered[0.05] + 0.05 < covered[0.2] < 0.8


def test_quantiles_know_that_dense_voxels_are_too_low(calibration: Calibration) -> None:
    samples, _ = made_up_case(5)
    mean, dense = samples.mean(0), (slice(13, 19),) * 3
    error = expected_error(mean, samples.std(0), calibration)
    lower, middle, upper = (quantile_volume(mean, error, p, calibration)[dense] for p in (0.1, 0.5, 0.9))
    assert (lower <= middle).all() and (middle <= upper).all()
    assert float((middle - mean[dense]).mean()) > 100, "truth is higher there: |N(0, 300)| was added"
    with pytest.raises(ValueError, match="probability"):
        quantile_volume(mean, error, 0.99, calibration)


def test_support_is_one_where_errors_are_small_against_what_varies(calibration: Calibration) -> None:
    error = torch.full(SIZE, 1.0)
    assert float(supported_by_xrays(error, calibration).min()) > 0.9
    assert float(supported_by_xrays(torch.full(SIZE, 5000.0), calibration).max()) == 0
    prior = torch.tensor(calibration.prior_sd_hu)
    assert float(prior[4, 4, 1]) > 2 * float(prior[4, 4, 6]), "patients differ more on the left"


def test_support_is_one_minus_the_ratio_of_variances(calibration: Calibration) -> None:
    for prior, counted in ((200.0, 200.0), (50.0, 100.0)):
        told = replace(calibration, prior_sd_hu=(((prior,) * 8,) * 8,) * 8)
        for share in (0.0, 0.5, 1.0):
            found = supported_by_xrays(torch.full(SIZE, share * counted), told)
            torch.testing.assert_close(found, torch.full(SIZE, 1 - share**2))


def test_the_prior_is_how_far_a_new_patient_lies_from_the_mean_of_the_others() -> None:
    """Patients of 0, 60 and 120 HU all over: variance 3600, and a third more as three do not tell their mean better."""
    fit = CalibrationFit()
    for hu in (0.0, 60.0, 120.0):
        truth = torch.full(SIZE, hu)
        fit.add(torch.stack([truth - 5, truth + 5]), truth, KNOWN, 0.008)
    prior = fit.result(num_samples=2, num_steps=3, provenance={}).prior_sd_hu
    np.testing.assert_allclose(prior, math.sqrt(3600 * 4 / 3), rtol=1e-4)


def even_case(error_hu: float, sd_hu: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(two samples whose SD is `sd_hu`, truth): the mean of the samples is wrong by +-error_hu."""
    mean, off = torch.where(BODY, 20.0, -1000.0), torch.where(torch.arange(32) % 2 > 0, error_hu, -error_hu)
    apart = torch.as_tensor(sd_hu / math.sqrt(2))
    return torch.stack([mean - apart, mean + apart]), torch.where(BODY, mean + off, -1000.0)


def test_the_sd_of_two_samples_is_that_of_a_sample_in_fitting_and_in_use() -> None:
    """Divided by K instead of K - 1 it would be 32 HU in the table and 45 where it is looked up."""
    fit = CalibrationFit()
    for error_hu, sd_hu in ((135.0, 45.0), (24.0, 8.0), (24.0, 8.0)):
        fit.add(*even_case(error_hu, sd_hu), KNOWN, 0.008)
    calibration = fit.result(num_samples=2, num_steps=3, provenance={})
    samples, _ = even_case(135.0, 45.0)
    error = expected_error(samples.mean(0), samples.std(0), calibration)
    assert float(error[:, 8:24, 8:24].median()) == pytest.approx(135, rel=0.05)
    noisy = torch.where(torch.arange(32) % 2 > 0, 90.0, 0.0).expand(SIZE)
    smooth = expected_error(samples.mean(0), noisy, calibration)
    assert float(smooth[:, 8:24, 8:24].median()) == pytest.approx(135, rel=0.05), "its neighbours' SD is as good a measure"


def test_one_sample_is_further_off_than_their_mean() -> None:
    fit = CalibrationFit()
    for _ in range(3):
        fit.add(*even_case(30.0, 40.0 * math.sqrt(2)), KNOWN, 0.008)  # the samples are 40 HU off their mean
    samples, _ = even_case(30.0, 40.0 * math.sqrt(2))
    calibration = fit.result(num_samples=2, num_steps=3, provenance={})
    of_mean, of_one = (
        expected_error(samples.mean(0), samples.std(0), calibration),
        expected_error(samples[0], None, calibration),
    )
    assert float(of_mean[:, 8:24, 8:24].median()) == pytest.approx(30, rel=0.05)
    assert float(of_one[:, 8:24, 8:24].median()) == pytest.approx(50, rel=0.05)


def test_a_case_is_left_out_of_the_calibration_that_its_coverage_is_of() -> None:
    """The only one whose samples know less: no other tells that, so its intervals are too narrow."""
    fit = CalibrationFit()
    for seed in range(3):
        fit.add(*made_up_case(seed, 15.0 if seed == 2 else 3.0), KNOWN, 0.008)
    *others, odd = fit.held_out_coverage()
    assert odd["0.9"] < 0.4 < 0.95 < min(shares["0.9"] for shares in others)


def test_bounds_are_of_truth_minus_reconstruction() -> None:
    fit = CalibrationFit()
    for shift in (-10.0, 20.0, 30.0):
        samples, truth = even_case(0.0, 5.0)
        fit.add(samples + torch.where(BODY, shift, 0.0), truth, KNOWN, 0.008)
    bounds = fit.result(num_samples=2, num_steps=3, provenance={}).bounds
    assert bounds["body_mean_hu"] == {"0.5": pytest.approx(20.0, abs=0.1)}, "the second of three, and none for 80 %"
    assert bounds["body_ml"] == {"0.5": 0.0}


def test_a_single_sample_has_an_expected_error_too(calibration: Calibration) -> None:
    samples, _ = made_up_case(3)
    error = expected_error(samples[0], None, calibration)
    assert error.shape == SIZE and 50 < float(error[:, 6:26, 6:10].median()) < 150
    assert float(error[~BODY].median()) < 20


def test_conformal_radius_covers_a_new_case_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for level in (0.5, 0.8, 0.9):
        hits = [abs(rng.standard_t(3)) <= conformal_radius(rng.standard_t(3, size=19), level) for _ in range(2000)]
        assert level - 0.03 < np.mean(hits) < level + 0.08, "19 cases: rank 10, 16, 18 of 20 exactly"
    assert conformal_radius([1.0, -3.0, 2.0], 0.5) == 2.0
    assert conformal_radius([1.0, 2.0, 3.0], 0.9) == np.inf, "three cases cannot speak for nine in ten"


def test_bounds_exist_where_cases_suffice(calibration: Calibration) -> None:
    assert set(calibration.bounds["body_mean_hu"]) == {"0.5", "0.8", "0.9"}, "10 cases are enough for 90 %"
    assert calibration.bounds["body_mean_hu"]["0.5"] <= calibration.bounds["body_mean_hu"]["0.9"]


def test_unknown_voxels_teach_nothing() -> None:
    known = torch.ones(SIZE, dtype=torch.bool)
    known[:8] = False
    results = []
    for fill in (0.0, 4000.0):
        fit = CalibrationFit()
        for seed in range(3):
            samples, truth = made_up_case(seed)
            truth[:8] = fill
            fit.add(samples, truth, known, 0.008)
        results.append(fit.result(num_samples=4, num_steps=3, provenance={}))
    assert results[0] == results[1]


def test_bad_tables_and_cases_are_refused_by_name(calibration: Calibration) -> None:
    with pytest.raises(ValueError, match="hu_knots"):
        replace(calibration, hu_knots=calibration.hu_knots[::-1])
    with pytest.raises(ValueError, match="single_error_hu"):
        replace(calibration, single_error_hu=(0.0,) * len(calibration.hu_knots))
    with pytest.raises(ValueError, match="quantiles"):
        Calibration(**{**asdict(calibration), "quantiles": tuple(row[::-1] for row in calibration.quantiles)})
    fit = CalibrationFit()
    samples, truth = made_up_case(0)
    with pytest.raises(ValueError, match="weight: got 0"):
        fit.add(samples, truth, BODY, 1.0, weight=0)
    with pytest.raises(ValueError, match="samples_hu"):
        fit.add(samples[:1], truth, BODY, 1.0)
    with pytest.raises(ValueError, match="cases"):
        fit.result(num_samples=4, num_steps=3, provenance={})
