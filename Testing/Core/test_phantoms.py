"""The solids that judge the projector are judged first: against geometry that can be written down."""

import numpy as np
import pytest

import phantoms
from diff2ct.volume import VolumeGrid

TURNED = phantoms.rotation_from_angles(20.0, -35.0, 50.0)
SOLIDS = [
    phantoms.sphere((5.0, -3.0, 2.0), 12.0),
    phantoms.Ellipsoid((1.0, 2.0, -4.0), (14.0, 6.0, 9.0), rotation=TURNED),
    phantoms.Slab((-2.0, 1.0, 3.0), (5.0, 12.0, 8.0), rotation=TURNED),
]


def test_sphere_chord_follows_pythagoras() -> None:
    ball = phantoms.sphere((0.0, 0.0, 0.0), 10.0)
    offsets = np.array([0.0, 3.0, 6.0, 9.99, 10.5])
    start = np.stack([offsets, np.full(5, -50.0), np.zeros(5)], axis=-1)
    expected = 2.0 * np.sqrt(np.maximum(100.0 - offsets**2, 0.0))
    np.testing.assert_allclose(ball.chord_mm(start, start + [0.0, 100.0, 0.0]), expected, atol=1e-12)


def test_slab_chord_grows_with_the_slant() -> None:
    slab = phantoms.Slab((0.0, 0.0, 0.0), (1e3, 4.0, 1e3))
    slant = np.radians(30.0)
    end = np.array([np.sin(slant), np.cos(slant), 0.0]) * 100.0
    assert slab.chord_mm(-end, end) == pytest.approx(8.0 / np.cos(slant))
    assert slab.chord_mm(np.zeros(3), end) == pytest.approx(4.0 / np.cos(slant))  # the ray starts inside


@pytest.mark.parametrize("solid", SOLIDS, ids=["sphere", "ellipsoid", "slab"])
def test_parallel_rays_add_up_to_the_volume(solid: phantoms.Ellipsoid | phantoms.Slab) -> None:
    step = 0.25
    x, z = np.meshgrid(np.arange(-25.0, 25.0, step), np.arange(-25.0, 25.0, step))
    start = np.stack([x, np.full_like(x, -40.0), z], axis=-1)
    total = solid.chord_mm(start, start + [0.0, 80.0, 0.0]).sum() * step**2
    assert total == pytest.approx(solid.volume_mm3, rel=2e-3)


@pytest.mark.parametrize("solid", SOLIDS, ids=["sphere", "ellipsoid", "slab"])
def test_chord_agrees_with_points_along_the_ray(solid: phantoms.Ellipsoid | phantoms.Slab) -> None:
    start, end = np.array([[-30.0, -28.0, -5.0], [-26.0, 20.0, 3.0]]), np.array([[25.0, 30.0, 9.0], [30.0, -19.0, 1.0]])
    t = (np.arange(20_000) + 0.5)[:, None, None] / 20_000
    marched = solid.contains(start + t * (end - start)).mean(axis=0) * np.linalg.norm(end - start, axis=-1)
    assert marched.max() > 5.0
    np.testing.assert_allclose(solid.chord_mm(start, end), marched, atol=0.02)


@pytest.mark.parametrize("solid", SOLIDS, ids=["sphere", "ellipsoid", "slab"])
def test_voxelised_volume_and_centroid(solid: phantoms.Ellipsoid | phantoms.Slab) -> None:
    grid = VolumeGrid.centered((20, 24, 28), spacing_mm=2.0)
    values = phantoms.voxelise([solid], grid)
    assert values.sum() * 2.0**3 == pytest.approx(solid.volume_mm3, rel=1e-2)
    k, j, i = (np.average(index, weights=values) for index in np.indices(values.shape))
    np.testing.assert_allclose(grid.ijk_to_lps[:3] @ [i, j, k, 1.0], solid.center, atol=0.05)
