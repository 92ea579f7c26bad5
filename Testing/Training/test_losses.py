import pytest
import torch

from diff2ct_training.losses import axis_projection_loss, weighted_mse


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
