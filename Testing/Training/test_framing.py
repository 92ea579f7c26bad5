from __future__ import annotations

import numpy as np
import pytest

from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.framing import acquired_spacing, axis_aligned_grid, body_center, cube_around, cut_grid
from tiny import tiny_body


def test_axis_aligned_grid_holds_an_oblique_one() -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = VolumeGrid((10, 20, 30), (1, 1, 3), (5, 6, 7), ((c, -s, 0), (s, c, 0), (0, 0, 1)))
    straight = axis_aligned_grid(oblique, 2.0)
    corners = np.array([[i, j, k, 1] for i in (0, 29) for j in (0, 19) for k in (0, 9)]) @ oblique.ijk_to_lps.T
    inside = corners @ straight.lps_to_ijk.T
    assert inside[:, :3].min() > -1e-6
    assert (inside[:, :3].max(0) <= np.array(straight.size[::-1])).all()


def test_body_center() -> None:
    ct = tiny_body()
    assert np.abs(np.array(body_center(ct)) - (8, 0, 0)).max() < 20
    with pytest.raises(ValueError, match="-300 HU"):
        body_center(CtVolume(np.full((4, 4, 4), -1000.0), VolumeGrid.centered(4, 1.0)))


def test_body_center_does_not_depend_on_how_a_scan_is_stored() -> None:
    ct = tiny_body(VolumeGrid.centered(16, 16.0, (100.0, -50.0, 30.0)))
    sagittal = VolumeGrid(ct.grid.size, ct.grid.spacing_mm, ct.grid.origin_lps, ((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    same = CtVolume(ct.hu.transpose(2, 0, 1), sagittal)  # k runs to the left, i back, j up
    np.testing.assert_allclose(body_center(same), body_center(ct), atol=1e-9)
    assert body_center(ct)[2] == pytest.approx(30.0)


def test_the_spacing_it_was_acquired_with() -> None:
    sagittal = VolumeGrid((4, 4, 4), (0.5, 0.7, 3.0), (0, 0, 0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)))  # i runs up
    assert acquired_spacing(sagittal) == {"pixel_spacing_mm": 1.85, "slice_spacing_mm": 0.5}


def test_a_cube_ends_where_the_scan_ends() -> None:
    grid = VolumeGrid((40, 300, 200), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    cut = cube_around(grid, (200.0, 300.0, 20.0))
    part = cut_grid(grid, cut)
    assert part.size == (40, 128, 128)
    np.testing.assert_allclose(part.center_lps[:2], (200.0, 300.0), atol=1.01)
    with pytest.raises(ValueError, match="a point in the scan"):
        cube_around(grid, (1000.0, 300.0, 20.0))
