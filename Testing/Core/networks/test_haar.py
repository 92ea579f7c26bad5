import pytest
import torch

from diff2ct.networks.haar import haar, inverse_haar, space_to_depth


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_round_trip_and_energy(levels: int) -> None:
    x = torch.randn(2, 3, 8, 12, 16)
    bands = haar(x, levels)
    assert bands.shape == (2, 3 * 8**levels, *(n // 2**levels for n in (8, 12, 16)))
    torch.testing.assert_close(inverse_haar(bands, levels), x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())


def test_a_constant_lives_in_the_first_band() -> None:
    bands = haar(torch.ones(1, 2, 4, 4, 4))
    assert torch.allclose(bands[0, [0, 8]], torch.tensor(8**0.5))
    assert bands[0, 1:8].abs().max() == 0


def test_a_step_along_one_axis_lives_in_that_axis_band() -> None:
    x = torch.zeros(1, 1, 2, 2, 2)
    x[..., 0] = 1  # changes along W only
    assert haar(x).flatten().nonzero().flatten().tolist() == [0, 1]


def test_space_to_depth_keeps_each_block_together() -> None:
    x = torch.arange(64.0).view(1, 1, 4, 4, 4)
    bands = space_to_depth(x)
    assert bands[0, :, 0, 0, 0].tolist() == x[0, 0, :2, :2, :2].flatten().tolist()
    assert torch.equal(bands.mean(1), torch.nn.functional.avg_pool3d(x, 2)[:, 0])
