import pytest
import torch

from diff2ct_training.losses import axis_projection_loss, gradient_correlation, weighted_mse


def test_weighted_mse_counts_known_voxels_only() -> None:
    error = torch.zeros(2, 1, 2, 2, 2)
    error[0] = 2.0
    error[1] = 3.0
    known = torch.ones_like(error, dtype=torch.bool)
    known[0, 0, 0] = False  # half of the first sample
    error[0, 0, 0] = 100.0
    assert float(weighted_mse(error, torch.tensor([1.0, 10.0]), known)) == pytest.approx((4 + 90) / 2)


def test_projection_loss_of_a_constant() -> None:
    error = torch.full((1, 1, 4, 4, 4), 0.5)
    one = torch.ones(1)
    assert float(axis_projection_loss(error, one, "mean")) == pytest.approx(0.25)
    assert float(axis_projection_loss(error, one, "sum")) == pytest.approx(0.25 * 16)


def test_projection_loss_sees_only_what_projects() -> None:
    error = torch.ones(1, 1, 4, 4, 4)
    error[..., 1::2] = -1  # cancels along W, not along D and H
    assert float(axis_projection_loss(error, torch.ones(1), "mean")) == pytest.approx(2 / 3)


def test_sum_is_the_papers_heavy_reading() -> None:
    error = torch.randn(1, 1, 16, 16, 16)
    mean, total = (float(axis_projection_loss(error, torch.ones(1), r)) for r in ("mean", "sum"))
    assert total == pytest.approx(mean * 16**2, rel=1e-4)


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        axis_projection_loss(torch.zeros(1, 1, 2, 2, 2), torch.ones(1), "max")


def test_the_projection_loss_weighs_every_sample() -> None:
    error = torch.tensor([1.0, 2.0])[:, None, None, None, None].expand(2, 1, 4, 4, 4)
    assert float(axis_projection_loss(error, torch.tensor([1.0, 10.0]), "mean")) == pytest.approx((1 + 10 * 4) / 2)


def pictures() -> torch.Tensor:
    return torch.rand(2, 12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("gain", [0.01, 1.0, 300.0])
def test_gradients_correlate_whatever_the_gain_and_offset(gain: float) -> None:
    image = pictures()
    assert float(gradient_correlation(image, 7 + gain * image)) == pytest.approx(1)
    assert float(gradient_correlation(image, 7 - gain * image)) == pytest.approx(-1)


def test_a_ramp_does_not_change_how_gradients_correlate() -> None:
    image = pictures()
    ramp = 0.5 * torch.arange(12.0)[:, None] - 0.2 * torch.arange(9.0)
    assert float(gradient_correlation(image, image + ramp)) == pytest.approx(1)


def test_gradients_along_rows_and_along_columns_count_alike() -> None:
    """Of f(row) + g(column) and f(row) - g(column) those of one direction agree and those of the other are opposite."""
    down, across = pictures()[:, :, :1], pictures()[:, :1]
    assert float(gradient_correlation(down + across, down - across)) == pytest.approx(0, abs=1e-9)
    assert float(gradient_correlation(down + 0 * across, down - across)) == pytest.approx(0.5)


def test_an_image_without_edges_correlates_with_nothing() -> None:
    assert float(gradient_correlation(torch.ones(2, 12, 9), pictures().float())) == 0
