"""Standardised images have zero mean and unit deviation, whatever gain, offset, metal and dead pixels there were."""

import math

import pytest
import torch

from diff2ct.simulate import DetectorModel, acquire
from diff2ct.standardize import STANDARD_LIMIT, location_and_scale, quantiles, standardize
from tiny import line_integrals


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_standardize_has_zero_mean_and_unit_deviation_inside_and_zero_outside():
    image, valid = acquire(line_integrals(), 1.5, DetectorModel(tone="log", collimation=(0.2, 0.1, 0.1, 0.1)), generator())
    z = standardize(image, valid)
    assert (z[~valid] == 0).all()
    for view in range(2):
        assert float(z[view][valid[view]].mean()) == pytest.approx(0, abs=0.02)
        assert float(z[view][valid[view]].std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (4095.0, 100.0), (0.7, -2.0), (30.0, 65.0)])
def test_standardize_is_invariant_to_gain_and_offset(gain, offset):
    image = line_integrals()
    valid = torch.rand(image.shape, generator=generator()) > 0.3
    assert torch.allclose(standardize(offset + gain * image, valid), standardize(image, valid), atol=1e-5)


def test_standardize_ignores_what_is_not_valid_and_other_views():
    image, valid = line_integrals(), torch.ones(2, 48, 40, dtype=torch.bool)
    valid[0, :10] = False
    expected = standardize(image, valid)
    image[0, :10] = math.nan
    assert torch.equal(standardize(image, valid), expected)
    assert torch.equal(standardize(image[1], valid[1]), expected[1])


def test_metal_and_a_dead_pixel_do_not_set_the_scale():
    image, valid = line_integrals(), torch.ones(2, 48, 40, dtype=torch.bool)
    expected = standardize(image, valid)
    image[:, 20:22, 18:20] += 6.0  # 0.2 % metal
    image[0, 0, 0] = 1e6
    z = standardize(image, valid)
    untouched = (image == line_integrals()) & valid
    assert (z - expected)[untouched].abs().max() < 0.05
    assert z[0, 0, 0] == STANDARD_LIMIT
    assert 2 < float(z[1, 20, 18]) < STANDARD_LIMIT  # metal keeps its value


def test_an_image_without_contrast_or_valid_pixels_is_zero():
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[1] = False
    z = standardize(torch.full((2, 8, 8), 1000.1), valid)
    assert torch.equal(z, torch.zeros(2, 8, 8))


def test_standardize_has_the_gradient_of_an_invariant_function():
    image = line_integrals(1, 12, 10).double().requires_grad_()
    valid = torch.ones(1, 12, 10, dtype=torch.bool)
    valid[:, 0] = False
    weight = torch.rand(1, 12, 10, generator=generator()).double()
    (gradient,) = torch.autograd.grad((standardize(image, valid) * weight).sum(), image)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0.1
    assert (gradient[:, 0] == 0).all()
    # No change of gain or offset can change the result.
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-9)
    assert float((gradient * image.detach()).sum()) == pytest.approx(0, abs=1e-9)


def test_bad_images_are_refused_by_name():
    with pytest.raises(ValueError, match="image, valid"):
        standardize(torch.zeros(2, 4, 4), torch.ones(4, 4, dtype=torch.bool))


def test_two_levels_become_minus_one_and_one():
    image = torch.tensor([[2.0, 6.0, 2.0], [6.0, 6.0, 2.0]])
    assert torch.allclose(standardize(image, torch.ones(2, 3, dtype=torch.bool)), (image - 4) / 2, atol=1e-6)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    assert torch.allclose(standardize(image, valid), torch.where(valid, (image - 4) / 2, 0.0), atol=1e-6)


def test_a_dead_pixel_is_as_harmless_dark_as_bright():
    image, valid = line_integrals(), torch.ones(2, 48, 40, dtype=torch.bool)
    bright, dark = image.clone(), image.clone()
    bright[:, 20, 20], dark[:, 20, 20] = 1e6, -1e6
    expected, seen_dark, seen_bright = (standardize(x, valid) for x in (image, dark, bright))
    assert (seen_bright[:, 20, 20] == STANDARD_LIMIT).all() and (seen_dark[:, 20, 20] == -STANDARD_LIMIT).all()
    for seen in (seen_dark, seen_bright):
        seen[:, 20, 20] = expected[:, 20, 20]
        assert torch.allclose(seen, expected, atol=0.01)


def test_half_a_percent_at_either_end_does_not_count():
    """Of 1001 values 5 lie beyond the 0.5 and 5 beyond the 99.5 percentile; they count as the next one."""
    image = torch.linspace(-1.0, 1.0, 1001)
    expected = image.clamp(image[5], image[995])
    shuffled = image[torch.randperm(1001, generator=generator())][None]
    mean, sd = location_and_scale(shuffled, torch.ones(1, 1001, dtype=torch.bool))
    assert float(mean) == pytest.approx(0, abs=1e-6)
    assert float(sd) == pytest.approx(float(expected.square().mean().sqrt()), rel=1e-5)


def test_quantiles_are_the_nearest_of_the_valid_values():
    image = torch.tensor([[50.0, -1.0, 20.0, 40.0], [99.0, 30.0, 10.0, 99.0]])
    valid = (image > 0) & (image < 99)
    shares = (0.0, 0.1, 0.2, 0.4, 0.5, 0.995, 1.0)
    assert [float(q) for q in quantiles(image, valid, shares)] == [10.0, 10.0, 20.0, 30.0, 30.0, 50.0, 50.0]
