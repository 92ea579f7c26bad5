"""A calibration by hand: what is told of a voxel is what its tables say there."""

from dataclasses import asdict, replace

import pytest
import torch

from diff2ct.uncertainty import Calibration, expected_error, interval, quantile_volume, supported_by_xrays

SIZE = (16, 16, 16)
CALIBRATION = Calibration(
    hu_knots=(-1000.0, 0.0, 1000.0),
    sd_knots=(0.0, 100.0),
    error_hu=((10.0, 30.0), (40.0, 80.0), (200.0, 400.0)),
    single_error_hu=(20.0, 60.0, 300.0),
    quantiles=((-2.0, -1.5, -0.5, 0.0, 0.5, 1.5, 2.0),) * 2 + ((-1.0, -0.5, 0.5, 1.0, 1.5, 2.5, 3.0),),
    prior_sd_hu=(((200.0,) * 8,) * 8,) * 8,
    bounds={},
    num_cases=3,
    num_samples=2,
    num_steps=2,
)


def volume(value: float) -> torch.Tensor:
    return torch.full(SIZE, value)


@pytest.mark.parametrize(
    ("hu", "sd", "expected"),
    [(0.0, 0.0, 40.0), (0.0, 50.0, 60.0), (500.0, 50.0, 180.0), (-3000.0, 0.0, 10.0), (3000.0, 900.0, 400.0)],
)
def test_expected_error_is_interpolated_in_value_and_spread_and_held_at_the_ends(hu: float, sd: float, expected: float) -> None:
    assert torch.allclose(expected_error(volume(hu), volume(sd), CALIBRATION), volume(expected))


def test_a_single_sample_has_an_expected_error_too() -> None:
    assert torch.allclose(expected_error(volume(500.0), None, CALIBRATION), volume(180.0))


def test_intervals_are_quantiles_of_the_error_about_the_mean() -> None:
    lower, upper = interval(volume(0.0), volume(50.0), 0.8, CALIBRATION)
    assert torch.allclose(lower, volume(-75.0)) and torch.allclose(upper, volume(75.0))
    assert torch.allclose(quantile_volume(volume(1000.0), volume(100.0), 0.5, CALIBRATION), volume(1100.0))
    with pytest.raises(ValueError, match="probability"):
        quantile_volume(volume(0.0), volume(50.0), 0.99, CALIBRATION)
    with pytest.raises(ValueError, match="level"):
        interval(volume(0.0), volume(50.0), 0.95, CALIBRATION)


@pytest.mark.parametrize(("error", "support"), [(0.0, 1.0), (100.0, 0.75), (200.0, 0.0), (900.0, 0.0)])
def test_support_is_the_share_of_the_prior_variance_that_is_settled(error: float, support: float) -> None:
    assert torch.allclose(supported_by_xrays(volume(error), CALIBRATION), volume(support))


def test_bad_tables_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="hu_knots"):
        replace(CALIBRATION, hu_knots=CALIBRATION.hu_knots[::-1])
    with pytest.raises(ValueError, match=r"hu_knots: got .* two numbers or more"):
        replace(
            CALIBRATION, hu_knots=(0.0,), error_hu=CALIBRATION.error_hu[:1], single_error_hu=(9.0,),
            quantiles=CALIBRATION.quantiles[:1],
        )  # fmt: skip
    with pytest.raises(ValueError, match="single_error_hu"):
        replace(CALIBRATION, single_error_hu=(0.0,) * 3)
    with pytest.raises(ValueError, match="quantiles"):
        Calibration(**{**asdict(CALIBRATION), "quantiles": tuple(row[::-1] for row in CALIBRATION.quantiles)})
