import pytest
import torch

from diff2ct_training.edge_loss import edge_loss

VALID = torch.ones(1, 1, 40, 40, dtype=torch.bool)


def disc(row: float = 20, column: float = 20, radius: float = 8) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    distance = ((rows - row).square() + (columns - column).square()).sqrt()
    return torch.sigmoid(radius - distance)[None, None]


def test_the_same_edges_cost_nothing() -> None:
    torch.manual_seed(0)
    image = disc() + 0.1 * torch.randn(1, 1, 40, 40)
    assert float(edge_loss(image, image, VALID)) == pytest.approx(0, abs=1e-6)
    assert float(edge_loss(image, 5 + 0.3 * image, VALID)) == pytest.approx(0, abs=1e-5)


def test_no_edges_at_all_are_the_same_edges() -> None:
    assert float(edge_loss(torch.zeros(1, 1, 40, 40), torch.ones(1, 1, 40, 40), VALID)) == pytest.approx(0, abs=1e-6)


def test_opposite_edges_cost_most() -> None:
    assert float(edge_loss(disc(), -disc(), VALID)) == pytest.approx(2, abs=1e-4)


def test_the_further_an_edge_moves_the_more_it_costs() -> None:
    costs = [float(edge_loss(disc(), disc(20, 20 + shift), VALID)) for shift in (0, 0.5, 1, 2, 4)]
    assert costs == sorted(costs) and costs[1] > 0.003 and costs[-1] > 0.2


def test_a_faint_edge_counts_beside_a_strong_one() -> None:
    """Without normalisation a loss would not see that an edge of a twentieth of the contrast is gone."""
    faint, strong = 0.05 * disc(20, 10, 6), disc(20, 31, 4)
    assert float(edge_loss(faint + strong, strong, VALID)) > 0.02


def test_what_is_not_valid_does_not_count() -> None:
    valid = VALID.clone()
    valid[..., 30:] = False
    changed = disc()
    changed[..., 30:] = 7
    assert float(edge_loss(disc(), changed, valid)) == pytest.approx(0, abs=1e-6)
    assert float(edge_loss(disc(), changed, VALID)) > 0.1


def test_gradients_reach_the_styled_image() -> None:
    styled = disc(20, 22).requires_grad_()
    edge_loss(disc(), styled, VALID).backward()
    assert styled.grad is not None and torch.isfinite(styled.grad).all() and float(styled.grad.abs().max()) > 0
    flat = torch.zeros(1, 1, 40, 40, requires_grad=True)
    edge_loss(disc(), flat, VALID).backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="styled"):
        edge_loss(disc(), disc()[..., 1:], VALID)
