"""A calibration by hand: what is told of a voxel is what its tables say there."""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from diff2ct.uncertainty import (
    SD_SMOOTHING_VOXELS,
    Calibration,
    expected_error,
    interval,
    quantile_volume,
    supported_by_xrays,
)

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


@pytest.mark.parametrize(
    "bounds", [{"body_ml": {"0.8": math.inf}}, {"body_ml": {"0.8": -1.0}}, {"body_ml": 3.0}, None], ids=str
)
def test_bounds_that_are_no_half_widths_are_refused(bounds: Any) -> None:
    """They come from a file, and are told after minutes of work."""
    with pytest.raises(ValueError, match="bounds: got"):
        replace(CALIBRATION, bounds=bounds)


def test_the_widest_interval_is_that_of_nine_in_ten() -> None:
    lower, upper = interval(volume(0.0), volume(50.0), 0.9, CALIBRATION)
    assert torch.allclose(lower, volume(-100.0)) and torch.allclose(upper, volume(100.0))


def test_no_quantile_leaves_the_window_of_the_network() -> None:
    assert torch.equal(quantile_volume(volume(4000.0), volume(500.0), 0.95, CALIBRATION), volume(4096.0))
    assert torch.equal(quantile_volume(volume(-950.0), volume(500.0), 0.05, CALIBRATION), volume(-1000.0))


def test_the_spread_of_a_voxel_is_that_of_its_neighbourhood() -> None:
    sd = volume(0.0)
    sd[8, 8, 8] = 100.0
    in_the_middle = 100.0 / (math.sqrt(2 * math.pi) * SD_SMOOTHING_VOXELS) ** 3  # of a Gaussian in three dimensions
    error = expected_error(volume(0.0), sd, CALIBRATION)
    assert float(error[8, 8, 8]) == pytest.approx(40.0 + 0.4 * in_the_middle, abs=0.01)
    assert 40.0 < float(error[8, 8, 6]) < float(error[8, 8, 8])


def test_the_prior_is_interpolated_between_the_middles_of_its_cells() -> None:
    """Cells of 2 x 1 x 3 voxels; the prior grows by 100 HU per cell along one axis and stays what it is beyond the last."""
    for axis, voxels in enumerate((2, 1, 3)):
        cells = np.moveaxis(np.broadcast_to(200.0 + 100.0 * np.arange(8), (8, 8, 8)), 2, axis)
        cell = (torch.arange(8.0 * voxels) + 0.5) / voxels - 0.5
        prior = (200.0 + 100.0 * cell.clamp(0, 7)).reshape([-1 if n == axis else 1 for n in range(3)]).expand(16, 8, 24)
        support = supported_by_xrays(torch.full((16, 8, 24), 150.0), replace(CALIBRATION, prior_sd_hu=cells))
        assert torch.allclose(support, 1 - (150.0 / prior).square(), atol=1e-5)


def test_where_patients_hardly_differ_100_hu_are_taken_for_their_difference() -> None:
    alike = replace(CALIBRATION, prior_sd_hu=np.full((8, 8, 8), 10.0))
    assert torch.allclose(supported_by_xrays(volume(50.0), alike), volume(0.75))
