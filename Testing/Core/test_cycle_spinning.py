import numpy as np
import pytest
import torch

from diff2ct.cycle_spinning import SHIFTS, moved_back, moved_grid, shift_of
from diff2ct.volume import VolumeGrid

GRID = VolumeGrid(
    (10, 12, 14), (2.0, 3.0, 4.0), (5.0, -6.0, 7.0), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
)  # turned about z


def positions(grid: VolumeGrid) -> np.ndarray:
    """(D, H, W, 3): of each voxel, in mm."""
    k, j, i = np.indices(grid.size)
    return np.stack([i, j, k, np.ones_like(i)], axis=-1) @ grid.ijk_to_lps[:3].T


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_what_is_moved_back_lies_where_it_was(shift: tuple[int, int, int]) -> None:
    there = torch.from_numpy(positions(moved_grid(GRID, shift)))
    back = moved_back(there.permute(3, 0, 1, 2), shift).permute(1, 2, 3, 0).numpy()
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(back[inner], positions(GRID)[inner], atol=1e-9)


def test_beyond_an_edge_it_is_as_at_the_edge() -> None:
    line = torch.arange(6.0).expand(1, 6, 6, 6)
    for by, expected in ((2, [2, 3, 4, 5, 5, 5]), (-1, [0, 0, 1, 2, 3, 4]), (0, [0, 1, 2, 3, 4, 5])):
        assert moved_back(line, (0, 0, by))[0, 0, 0].tolist() == expected


def test_each_axis_meets_all_four_places_of_a_block_and_the_first_sample_stays() -> None:
    for axis in range(3):
        assert sorted(shift[axis] % 4 for shift in SHIFTS) == [0, 1, 2, 3]
    assert shift_of(0) == (0, 0, 0) and [shift_of(n) for n in range(4, 8)] == list(SHIFTS)
    assert moved_grid(GRID, shift_of(0)) == GRID


def test_a_pattern_along_an_axis_is_gone_from_the_mean_and_any_other_weaker() -> None:
    pattern = torch.tensor([3.0, -1.0, 4.0, -6.0]).repeat(4)
    volume = pattern[:, None, None] + pattern[:, None] * pattern + torch.zeros(16, 16, 16)
    mean = torch.stack([moved_back(volume, shift) for shift in SHIFTS]).mean(0)[2:-2, 2:-2, 2:-2]
    separable = torch.stack([moved_back(pattern[:, None, None].expand(16, 16, 16), shift) for shift in SHIFTS]).mean(0)
    assert separable[2:-2].abs().max() < 1e-6
    assert mean.std() < 0.6 * volume.std()
