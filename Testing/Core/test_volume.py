import numpy as np
import pytest

from diff2ct.volume import CtVolume, VolumeGrid


def test_model_grid_is_centred() -> None:
    grid = VolumeGrid.centered()
    assert grid.size == (128, 128, 128)
    np.testing.assert_allclose(grid.center_lps, 0, atol=1e-12)
    np.testing.assert_allclose(grid.ijk_to_lps @ [0, 0, 0, 1], [-127, -127, -127, 1])


def test_index_and_world_agree_for_an_oblique_anisotropic_grid() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    grid = VolumeGrid((4, 5, 6), (0.5, 1.5, 3.0), (10, -20, 30), ((c, -s, 0), (s, c, 0), (0, 0, 1)))
    np.testing.assert_allclose(grid.lps_to_ijk @ grid.ijk_to_lps, np.eye(4), atol=1e-12)
    one_i = grid.ijk_to_lps @ [1, 0, 0, 1] - grid.ijk_to_lps @ [0, 0, 0, 1]
    np.testing.assert_allclose(one_i[:3], [0.5 * c, 0.5 * s, 0])  # axis i is 0.5 mm along the first column


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": (0, 4, 4)}, "size"),
        ({"spacing_mm": (1, 1, 0)}, "spacing_mm"),
        ({"origin_lps": (0, float("nan"), 0)}, "origin_lps"),
        ({"direction": ((1, 0, 0), (1, 0, 0), (0, 0, 1))}, "direction"),
    ],
)
def test_impossible_grids_are_refused_by_name(change: dict, named: str) -> None:
    values = {"size": (4, 4, 4), "spacing_mm": (1, 1, 1), "origin_lps": (0, 0, 0), **change}
    with pytest.raises(ValueError, match=named):
        VolumeGrid(**values)


def test_ct_refuses_wrong_shape_and_nan() -> None:
    grid = VolumeGrid.centered(4, 1.0)
    with pytest.raises(ValueError, match="shape"):
        CtVolume(np.zeros((4, 4, 5)), grid)
    hu = np.zeros((4, 4, 4))
    hu[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 voxels"):
        CtVolume(hu, grid)


def test_grids_compare_by_value() -> None:
    assert VolumeGrid.centered(8, 2.0) == VolumeGrid.centered((8, 8, 8), 2.0)
    assert VolumeGrid.centered(8, 2.0) != VolumeGrid.centered(8, 2.5)


def test_a_grid_lies_about_the_point_that_is_named() -> None:
    """10 voxels along x, 6 along y and 4 along z; the first centre is half of the rest of the way from the middle."""
    grid = VolumeGrid.centered((4, 6, 10), 3.0, (5.0, -6.0, 7.0))
    np.testing.assert_allclose(grid.origin_lps, [5 - 4.5 * 3, -6 - 2.5 * 3, 7 - 1.5 * 3])
    np.testing.assert_allclose(grid.center_lps, [5, -6, 7])


def test_ct_keeps_single_precision_and_no_infinity() -> None:
    grid = VolumeGrid.centered(4, 1.0)
    assert CtVolume(np.zeros((4, 4, 4), dtype=np.int16), grid).hu.dtype == np.float32
    with pytest.raises(ValueError, match="64 voxels"):
        CtVolume(np.full((4, 4, 4), -np.inf), grid)


def test_axes_of_unit_length_that_are_sheared_are_refused() -> None:
    with pytest.raises(ValueError, match="no shear"):
        VolumeGrid((4, 4, 4), (1, 1, 1), (0, 0, 0), ((1, 0.6, 0), (0, 0.8, 0), (0, 0, 1)))
