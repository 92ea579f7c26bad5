"""Baselines: what physics they must get right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample
from diff2ct_training import baselines
from diff2ct_training.cases import UNSCANNED, Case, list_cases, write_case
from diff2ct_training.drr import BiplanarSetup, render_radiographs

SETUP = BiplanarSetup(pixels=96)
ORIGIN = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def pair(trunk: CtVolume) -> tuple[Radiograph, Radiograph]:
    return render_radiographs(trunk, SETUP.beams(ORIGIN), "trunk")


def axes(grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z [mm], each broadcasting to (D, H, W)."""
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(grid.origin_lps[::-1], grid.spacing_mm[::-1], grid.size, strict=True))
    return x[None, None, :], y[None, :, None], z[:, None, None]


def test_hull_covers_the_body_and_is_a_box_around_it(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    hu = baselines.flat_body(pair, small_grid)
    assert set(np.unique(hu)) == {-1000.0, 40.0}
    x, y, z = axes(small_grid)
    body = np.broadcast_to((x / 94) ** 2 + (y / 69) ** 2 < 1, hu.shape)
    assert (hu[body] == 40.0).all()
    beside = ((abs(x) > 112) & (abs(y) < 90)) | ((abs(y) > 87) & (abs(x) < 90))
    assert (hu[beside & (abs(z) < 90)] == -1000.0).all()  # the cube's edges are off both detectors
    assert (hu[np.broadcast_to((abs(x) < 85) & (abs(y) < 60), hu.shape)] == 40.0).all()  # corners two views cannot rule out


def test_hull_is_the_same_at_any_gain_and_offset(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    changed = [replace(r, line_integral=7.0 * r.line_integral - 3.0, scale_known=False) for r in pair]
    assert np.array_equal(baselines.flat_body(changed, small_grid), baselines.flat_body(pair, small_grid))


def test_silhouette_survives_noise_and_metal(pair: tuple[Radiograph, ...]) -> None:
    rng = np.random.default_rng(0)
    noisy = pair[0].line_integral + rng.normal(0, 0.01, pair[0].line_integral.shape)
    noisy[40:44, 40:44] = 40.0
    difference = baselines.silhouette(replace(pair[0], line_integral=noisy)) ^ baselines.silhouette(pair[0])
    assert difference.mean() < 0.01


def test_hull_does_not_end_at_the_collimator(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    valid = np.ones(pair[0].line_integral.shape, bool)
    valid[:, :48] = False
    image = np.where(valid, pair[0].line_integral, 0.0)
    hu = baselines.flat_body([replace(pair[0], valid=valid, line_integral=image), pair[1]], small_grid)
    assert (hu >= baselines.flat_body(pair, small_grid)).all()
    assert hu[16, 16, 2] == 40.0  # 108 mm to the right: air for the whole AP view, unknown for the collimated one


def reprojection_error(hu: np.ndarray, grid: VolumeGrid, pair: tuple[Radiograph, ...]) -> float:
    errors = []
    for radiograph in pair:
        image = project(hu_to_mu(torch.from_numpy(hu)), grid, radiograph.geometry).numpy()
        errors.append(np.linalg.norm(image - radiograph.line_integral) / np.linalg.norm(radiograph.line_integral))
    return float(np.mean(errors))


def test_sirt_explains_the_radiographs_better_with_each_iteration(trunk: CtVolume, small_grid: VolumeGrid) -> None:
    """On a body that lies in the cube and is seen whole, so that the cube's own projection is all there is."""
    short = trunk.hu.copy()
    short[:25], short[75:] = -1000.0, -1000.0
    beams = BiplanarSetup(pixels=96, detector_mm=700.0).beams(ORIGIN)
    pair = render_radiographs(CtVolume(short, trunk.grid), beams, "short")
    errors = [reprojection_error(baselines.sirt(pair, small_grid, num_iterations=n), small_grid, pair) for n in (1, 5, 30)]
    assert errors[0] > 2 * errors[1]
    assert errors[1] > errors[2]
    assert errors[2] < 0.04  # what is left are the body's edges in voxels of 8 mm


def test_sirt_keeps_tissue_beside_the_cube_out_of_it() -> None:
    """A patient wider than the cube: what the lateral rays cross outside must not be pressed into the inside."""
    grid = VolumeGrid.centered((60, 40, 100), 4.0)
    x, y, _ = axes(grid)
    water = CtVolume(np.where(np.broadcast_to((abs(x) < 180) & (abs(y) < 70), grid.size), 0.0, -1000.0), grid)
    pair = render_radiographs(water, BiplanarSetup(pixels=96, detector_mm=600.0).beams(ORIGIN), "water")
    cube = VolumeGrid.centered(32, 8.0)
    center = (slice(12, 20), slice(10, 22), slice(8, 24))
    assert abs(baselines.sirt(pair, cube, num_iterations=20)[center].mean()) < 80.0


def test_backprojection_is_brightest_at_the_bead(small_grid: VolumeGrid) -> None:
    hu = np.full((64, 64, 64), -1000.0)
    grid = VolumeGrid.centered(64, 4.0)
    hu[40:42, 20:22, 44:46] = 3000.0
    bead = (grid.ijk_to_lps @ [44.5, 20.5, 40.5, 1])[:3]
    pair = render_radiographs(CtVolume(hu, grid), SETUP.beams(ORIGIN), "bead")
    found = baselines.backprojection(pair, small_grid)
    k, j, i = np.unravel_index(found.argmax(), found.shape)
    assert np.allclose((small_grid.ijk_to_lps @ [i, j, k, 1])[:3], bead, atol=8.0)


def test_backprojection_keeps_the_total_attenuation(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    hu = baselines.backprojection(pair, small_grid)
    x, y, z = axes(small_grid)
    inside = np.broadcast_to((x / 100) ** 2 + (y / 75) ** 2 + 0 * z < 1, hu.shape)
    assert -350 < hu[inside].mean() < 100  # the hull is a box of 1.27 times the ellipse's area


@pytest.mark.parametrize("method", [baselines.backprojection, baselines.sirt])
def test_uncalibrated_radiographs_are_refused(method, pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="scale"):
        method([replace(r, scale_known=False) for r in pair], small_grid)


def test_x_rays_of_any_scale_become_line_integrals(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    """From outlines alone, so whatever gain and offset were; in voxels of 8 mm a hull is thicker than it is taken for."""
    for gain, offset in ((7.0, -3.0), (0.01, 5.0)):
        changed = [replace(r, line_integral=gain * r.line_integral + offset, scale_known=False) for r in pair]
        for found, true in zip(baselines.scaled(changed, small_grid), pair, strict=True):
            assert found.scale_known
            slope, air = np.polyfit(true.line_integral.ravel(), found.line_integral.ravel(), 1)
            assert 0.9 < slope < 1.35 and abs(air) < 0.1  # of up to 5
    assert baselines.scaled(pair, small_grid) == list(pair)


def test_surrounding_grid_keeps_voxels_in_place(small_grid: VolumeGrid) -> None:
    wide = baselines.surrounding_grid(small_grid, (20.0, 0.0, 9.0))
    assert wide.size == (32 + 4, 32, 32 + 6)
    assert np.allclose((wide.ijk_to_lps @ [3, 0, 2, 1])[:3], small_grid.origin_lps)


def test_train_mean_is_the_mean(small_grid: VolumeGrid) -> None:
    from diff2ct.phantom import make_phantom

    coarse = VolumeGrid.centered(16, 16.0)
    expected = np.mean([make_phantom(seed).render(coarse).hu.hu for seed in (10000, 10001)], axis=0)
    assert np.allclose(baselines.train_mean((10000, 10001), coarse), expected, atol=0.01)
    with pytest.raises(ValueError, match="seeds"):
        baselines.train_mean((), coarse)


def test_the_nearest_neighbour_is_the_patient_again_wherever_the_isocentre_is() -> None:
    from diff2ct.phantom import make_phantom

    neighbours, grid = baselines.phantom_neighbours((10000, 10001)), VolumeGrid.centered(16, 16.0)
    phantom, isocenter = make_phantom(10001), np.array([30.0, -20.0, 500.0])
    body = phantom.render(phantom.body_grid(4.0)).hu
    pair = render_radiographs(
        CtVolume(body.hu, baselines.moved(body.grid, isocenter)), SETUP.beams((30.0, -20.0, 500.0)), "phantom"
    )
    louder = [replace(r, line_integral=3.0 * r.line_integral + 1.0, scale_known=False) for r in pair]
    found = baselines.nearest_neighbour(louder, baselines.moved(grid, isocenter), neighbours)
    np.testing.assert_allclose(found, phantom.render(grid).hu.hu, atol=1.0)
    with pytest.raises(ValueError, match="neighbours"):
        baselines.nearest_neighbour(pair, grid, [])


def test_prepared_cases_are_neighbours_about_their_centre(trunk: CtVolume, tmp_path: Path) -> None:
    center = (10.0, 20.0, -30.0)
    write_case(tmp_path, Case("ct_trunk", "ct", trunk.hu.round().astype(np.int16), trunk.grid, center, "made here"))
    (neighbour,) = baselines.case_neighbours(list_cases(tmp_path))
    grid = VolumeGrid.centered(8, 8.0)
    expected = resample(trunk, baselines.moved(grid, np.array(center))).hu
    np.testing.assert_allclose(neighbour.on_grid(grid), expected, atol=1.0)
    np.testing.assert_allclose(neighbour.body_grid.center_lps, trunk.grid.center_lps - center, atol=2.0)
    assert neighbour.hu.dtype == np.int16


def test_the_mean_of_prepared_cases_is_about_their_centres_and_of_those_that_were_scanned(tmp_path: Path) -> None:
    for n, (planes, center) in enumerate(((8, (0.0, 0.0, 0.0)), (4, (10.0, 20.0, 30.0)))):
        scan = VolumeGrid.centered((planes, 8, 8), 8.0)
        hu = np.full(scan.size, 100 * n, np.int16)
        hu[0] = UNSCANNED
        write_case(tmp_path, Case(f"ct_{n}", "ct", hu, baselines.moved(scan, np.array(center)), center, "made here"))
    mean = baselines.cases_mean(list_cases(tmp_path), VolumeGrid.centered((12, 8, 8), 8.0))
    assert [float(plane.mean()) for plane in mean] == [-1000, -1000, -1000, 0, 0, 50, 50, 50, 0, 0, -1000, -1000]


def test_less_variation_is_chambolles() -> None:
    restoration = pytest.importorskip("skimage.restoration")
    rng = np.random.default_rng(0)
    volume = np.zeros((10, 12, 14))
    volume[3:7, 4:9, 2:10] = 1.0
    noisy = volume + 0.1 * rng.normal(size=volume.shape)
    ours = baselines.lessen_variation(torch.from_numpy(noisy), 0.1, torch.zeros(3, *noisy.shape).double(), 400)
    theirs = restoration.denoise_tv_chambolle(noisy, weight=0.1, eps=1e-9, max_num_iter=2000)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=5e-3)


def test_total_variation_makes_sirt_flatter(pair: tuple[Radiograph, ...], small_grid: VolumeGrid) -> None:
    def variation(hu: np.ndarray) -> float:
        inside = hu[8:24, 10:22, 10:22]  # the hull's edges stay where they are
        return float(np.mean([np.abs(np.diff(inside, axis=axis)).mean() for axis in range(3)]))

    plain, flat = (baselines.sirt(pair, small_grid, num_iterations=20, tv_weight=w) for w in (0.0, 0.05))
    assert variation(flat) < 0.95 * variation(plain)
    assert np.abs(flat - plain).mean() < 60.0, "it still explains the X-rays"
