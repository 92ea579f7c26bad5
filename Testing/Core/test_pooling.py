import numpy as np
import pytest
import torch

from diff2ct.pooling import pooled
from diff2ct.volume import VolumeGrid

GRID = VolumeGrid((5, 4, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))


def test_means_of_blocks_lie_where_the_blocks_do() -> None:
    """A ramp over the positions: the mean of a block is the ramp at its middle, whatever the directions."""
    k, j, i = np.indices(GRID.size)
    at = GRID.ijk_to_lps @ np.stack([i.ravel(), j.ravel(), k.ravel(), np.ones(k.size)])
    ramp = torch.from_numpy((at[0] + 10 * at[1] + 100 * at[2]).reshape(GRID.size))
    means, grid = pooled(ramp, GRID, (3, 2, 2))
    assert grid.size == tuple(means.shape) == (2, 2, 2) and grid.spacing_mm == (3.0, 4.0, 6.0)
    k, j, i = np.indices(grid.size)
    at = grid.ijk_to_lps @ np.stack([i.ravel(), j.ravel(), k.ravel(), np.ones(k.size)])
    assert np.allclose(means.numpy().ravel(), at[0] + 10 * at[1] + 100 * at[2])


def test_blocks_of_one_voxel_change_nothing() -> None:
    volume = torch.ones(GRID.size)
    assert pooled(volume, GRID, (1, 1, 1)) == (volume, GRID)


def test_a_volume_thinner_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"volume: \(5, 4, 6\) voxels are too thin for blocks of \(6, 1, 1\)"):
        pooled(torch.ones(GRID.size), GRID, (1, 1, 6))
