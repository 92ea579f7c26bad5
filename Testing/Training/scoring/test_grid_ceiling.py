"""The ceiling of the grid: nothing where nothing is lost, and the scan's own voxels wherever they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diff2ct.metrics import evaluate_volume, region_masks
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import inside_grid, resample
from diff2ct_training.scoring.grid_ceiling import part_in, score_on_scan

COARSE = VolumeGrid.centered((24, 26, 28), 4.0)
TURNED = ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, -1.0))


def everywhere(grid: VolumeGrid) -> np.ndarray:
    return np.ones(grid.size, bool)


def ramp(grid: VolumeGrid) -> CtVolume:
    """HU that are linear in place, so that interpolation anywhere is exact."""
    k, j, i = np.indices(grid.size)
    x, y, z, _ = np.tensordot(grid.ijk_to_lps, np.stack([i, j, k, np.ones_like(i)]), 1)
    return CtVolume(300 + 2.0 * x - 1.5 * y + 3.0 * z, grid)


def test_on_one_grid_it_is_the_protocol() -> None:
    rng = np.random.default_rng(0)
    truth = np.where(np.hypot(*np.indices((26, 28)) - 13) < 10, rng.normal(200, 150, COARSE.size), -1000).astype(np.float32)
    prediction = truth + rng.normal(0, 80, COARSE.size).astype(np.float32)
    body = region_masks(torch.from_numpy(truth))["body"].numpy()
    scan = part_in(CtVolume(truth, COARSE), COARSE)
    assert scan is not None and scan.grid == COARSE
    found = score_on_scan(CtVolume(prediction, COARSE), scan, everywhere(COARSE), body)
    expected = evaluate_volume(torch.from_numpy(prediction), torch.from_numpy(truth))
    assert set(found) == {"mae_hu_body", "mae_hu_bone", "bone_dice", "psnr_wide", "ssim_3d_wide", "ssim_3d_body"}
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=2e-4), name


@pytest.mark.parametrize("direction", [VolumeGrid.centered().direction, TURNED], ids=["upright", "oblique"])
def test_what_is_linear_in_place_loses_nothing(direction: tuple[tuple[float, float, float], ...]) -> None:
    """A shift by half a voxel, or what lies beyond the grid or the scan, would show."""
    fine = VolumeGrid((70, 60, 64), (1.3, 1.3, 0.9), (0.0, 0.0, 0.0), direction)
    middle = fine.center_lps
    scan = ramp(replace(fine, origin_lps=(-middle[0], -middle[1], 5.0 - middle[2])))  # in k it ends inside the cube
    known = inside_grid(scan, COARSE)
    truth = CtVolume(np.where(known, ramp(COARSE).hu, -1000), COARSE)
    part = part_in(scan, COARSE)
    assert part is not None and part.hu.size <= scan.hu.size
    scores = score_on_scan(truth, part, known, known)
    assert scores["mae_hu_body"] < 0.01 and scores["bone_dice"] > 0.999 and scores["ssim_3d_body"] > 0.9999


def test_detail_finer_than_the_grid_is_lost() -> None:
    fine = VolumeGrid.centered((96, 104, 112), 1.0)
    stripes = CtVolume(np.where(np.arange(112) % 2, 900.0, 100.0) * np.ones(fine.size), fine)
    part = part_in(stripes, COARSE)
    assert part is not None and part.grid.size == (92, 100, 108), "between the outermost centres of the grid"
    scores = score_on_scan(resample(stripes, COARSE), part, everywhere(COARSE), everywhere(COARSE))
    assert scores["mae_hu_body"] == pytest.approx(400, rel=0.01)
    assert scores["bone_dice"] == pytest.approx(2 / 3, rel=0.01) and scores["ssim_3d_body"] < 0.5


def test_a_scan_that_hardly_reaches_into_the_cube_has_none() -> None:
    beside = VolumeGrid.centered((60, 60, 60), 1.0, (80.0, 0.0, 0.0))
    assert part_in(ramp(beside), COARSE) is None


def test_without_bone_or_body_there_are_no_figures_of_them() -> None:
    air = CtVolume(np.full(COARSE.size, -1000.0), COARSE)
    scores = score_on_scan(air, air, everywhere(COARSE), ~everywhere(COARSE))
    assert scores["psnr_wide"] == np.inf and scores["ssim_3d_wide"] == pytest.approx(1.0)
    assert np.isnan([scores[name] for name in ("mae_hu_body", "mae_hu_bone", "bone_dice", "ssim_3d_body")]).all()
