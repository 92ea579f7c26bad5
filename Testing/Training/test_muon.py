import pytest
import torch

from diff2ct_training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_directions_are_nearly_orthonormal_and_keep_their_subspace(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrix)
    values = torch.linalg.svdvals(found)
    assert found.shape == shape and found.dtype == matrix.dtype
    assert 0.3 < float(values[-1]) and float(values[0]) < 1.4
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert float((found * (u @ vh)).sum()) / (float(found.norm()) * float((u @ vh).norm())) > 0.95


def test_an_update_is_as_large_as_adams() -> None:
    """So that one learning rate serves both: about 0.2 of the rate per weight."""
    for shape in ((8, 4, 3, 3, 3), (64, 16)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=1e-2).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2e-2, rel=0.35)


def test_it_solves_a_badly_scaled_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 12, generator=generator) * torch.logspace(0, -2, 12)
    target = inputs @ torch.randn(12, 6, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(6, 12))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 150)
        loss = (inputs @ weight.T - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-3 * losses[0]
