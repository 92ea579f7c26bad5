"""The lumbar phantom: the same on any grid, the right way round, at published sizes, with screws where it says."""

from functools import cache

import numpy as np
import pytest

from diff2ct.phantom import LABELS, LumbarPhantom, PhantomImage, make_phantom
from diff2ct.volume import VolumeGrid

LUMBAR = ("L5", "L4", "L3", "L2", "L1")
SEEDS = (1, 2, 5)
SPINE_GRID = VolumeGrid.centered((128, 64, 60), 2.0, (0.0, 15.0, 0.0))


@cache
def phantom(seed: int, num_screws: int = 0) -> LumbarPhantom:
    return make_phantom(seed, num_screws=num_screws)


@cache
def spine_image(seed: int, num_screws: int = 0) -> PhantomImage:
    return phantom(seed, num_screws).render(SPINE_GRID)


@cache
def body_image(seed: int) -> PhantomImage:
    return phantom(seed).render(phantom(seed).body_grid(4.0))


def points_of(mask: np.ndarray, grid: VolumeGrid) -> np.ndarray:
    """(N, 3) LPS positions [mm] of the marked voxels."""
    ijk = np.argwhere(mask)[:, ::-1]
    return ijk * np.array(grid.spacing_mm) + np.array(grid.origin_lps)


def nearest_voxels(image: PhantomImage, points_lps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels (N,) of the voxels nearest to the points (N, 3)."""
    grid = image.hu.grid
    i, j, k = np.rint((np.atleast_2d(points_lps) - grid.origin_lps) / grid.spacing_mm).astype(int).T
    return image.hu.hu[k, j, i], image.labels[k, j, i]


def test_same_seed_same_voxels() -> None:
    grid = VolumeGrid.centered(40, 4.0)
    first, second = make_phantom(7).render(grid), make_phantom(7).render(grid)
    np.testing.assert_array_equal(first.hu.hu, second.hu.hu)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert np.abs(make_phantom(8).render(grid).hu.hu - first.hu.hu).mean() > 50


def test_crop_of_render_is_render_of_crop() -> None:
    (k, j, i), size = (37, 11, 9), (50, 41, 40)
    whole = spine_image(2, 6)
    origin = np.array(SPINE_GRID.origin_lps) + 2.0 * np.array([i, j, k])
    part = phantom(2, 6).render(VolumeGrid(size, (2.0, 2.0, 2.0), (origin[0], origin[1], origin[2])))
    crop = np.s_[k : k + size[0], j : j + size[1], i : i + size[2]]
    # float32 coordinates differ in their last bits; beside metal 5000 HU hang on them
    np.testing.assert_allclose(part.hu.hu, whole.hu.hu[crop], atol=0.5)
    assert np.mean(part.labels != whole.labels[crop]) < 1e-4


def test_turned_grid_is_refused() -> None:
    turned = VolumeGrid((8, 8, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), ((0, 1, 0), (1, 0, 0), (0, 0, 1)))
    with pytest.raises(ValueError, match="axis-aligned"):
        phantom(1).render(turned)


@pytest.mark.parametrize("seed", SEEDS)
def test_vertebrae_in_order_with_l3_at_the_isocentre(seed: int) -> None:
    image = spine_image(seed)
    heights = [points_of(image.labels == LABELS[name], SPINE_GRID)[:, 2].mean() for name in ("S1", *LUMBAR, "T12")]
    assert heights == sorted(heights)  # caudal to cranial
    assert np.abs(phantom(seed).anatomy.vertebra("L3").pose.center_lps).max() < 12
    assert nearest_voxels(image, np.zeros(3))[1] == LABELS["L3"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["L2", "L4"])
def test_bodies_have_published_sizes(seed: int, name: str) -> None:
    """Height on the body's axis and largest width in front, measured on the labels. Panjabi 1992, Zhou 2000."""
    vertebra = phantom(seed).anatomy.vertebra(name)
    grid = VolumeGrid.centered((52, 52, 72), 1.0, tuple(vertebra.pose.center_lps))
    points = points_of(phantom(seed).render(grid).labels == LABELS[name], grid)
    x, y, z = vertebra.pose.from_lps(points).T
    column = z[(np.hypot(x, y) < 4) & (np.abs(z) < 22)]
    height = np.percentile(column, 99) - np.percentile(column, 1) + 1
    width = np.ptp(x[(y < 0) & (np.abs(z) < 18)]) + 1
    assert 16 < height < 33  # a wedge fracture may take a third
    assert 36 < width < 62  # osteophytes included
    assert height == pytest.approx(vertebra.size.height - 2 * vertebra.concavity_mm, abs=2.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_discs_separate_the_bodies(seed: int) -> None:
    for segment in phantom(seed).anatomy.segments[:5]:
        half = segment.disc_height / 2
        line = segment.pose.to_lps([[0.0, 0.0, z] for z in (-half - 6, 0.0, half + 6)])
        assert nearest_voxels(spine_image(seed), line)[1].tolist() == [LABELS[segment.lower], 0, LABELS[segment.upper]]


@pytest.mark.parametrize("seed", SEEDS)
def test_canal_is_free_of_bone(seed: int) -> None:
    for vertebra in phantom(seed).anatomy.vertebrae[:6]:
        middle = vertebra.size.depth / 2 + vertebra.size.canal_depth / 2
        around = vertebra.pose.to_lps([[x, middle + y, z] for x in (-4, 0, 4) for y in (-2, 2) for z in (-8, 0, 8)])
        hu, labels = nearest_voxels(spine_image(seed), around)
        assert hu.max() < 200
        assert not labels.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_arch_lies_around_the_canal(seed: int) -> None:
    for vertebra in phantom(seed).anatomy.vertebrae[1:5]:
        s = vertebra.size
        x, y, z = vertebra.pose.from_lps(points_of(spine_image(seed).labels == vertebra.label, SPINE_GRID)).T
        assert y.max() == pytest.approx(s.spinous_length, abs=6) or vertebra.laminectomy
        beside = x[(np.abs(y - s.depth / 2 - 4) < 2) & (np.abs(z - s.height / 2 + s.pedicle_height / 2 + 1) < 3)]
        for pedicle in (beside[beside > 0], -beside[beside < 0]):
            assert pedicle.min() == pytest.approx(s.canal_width / 2, abs=3)
            assert np.ptp(pedicle) + 2 > 0.7 * s.pedicle_width


@pytest.mark.parametrize("seed", SEEDS)
def test_tissues_have_their_hu(seed: int) -> None:
    image, anatomy = body_image(seed), phantom(seed).anatomy
    offsets = [[side * 46 * anatomy.size, y, z] for side in (1, -1) for y in (-3, 0, 3) for z in (-4, 0, 4)]
    psoas, _ = nearest_voxels(image, anatomy.vertebra("L4").pose.center_lps + offsets)
    assert 20 < np.median(psoas) < 75
    assert image.hu.hu.min() >= -1000
    assert image.hu.hu.max() <= 4096
    assert -115 < np.median(image.hu.hu[np.abs(image.hu.hu + 100) < 40]) < -85  # fat
    bone = spine_image(seed).hu.hu[spine_image(seed).labels > 0]
    assert 120 < bone.mean() < 600


@pytest.mark.parametrize("seed", SEEDS)
def test_liver_is_on_the_right(seed: int) -> None:
    """Right of the spine, above L1, more voxels have the HU of solid organs than left of it, where gut and lung lie too."""
    image = body_image(seed)
    points = points_of((image.hu.hu > 25) & (image.hu.hu < 160), image.hu.grid)
    above = points[np.abs(points[:, 2] - phantom(seed).anatomy.vertebra("L1").pose.center_lps[2] - 20) < 10]
    assert (above[:, 0] < -35).sum() > 1.1 * (above[:, 0] > 35).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_body_grid_has_air_beside_and_body_at_both_ends(seed: int) -> None:
    hu, grid = body_image(seed).hu.hu, body_image(seed).hu.grid
    for border in (hu[:, 0], hu[:, -1], hu[:, :, 0], hu[:, :, -1]):
        assert border.max() < -800
    for end in (hu[0], hu[-1]):
        assert (end > -400).mean() > 0.2
    width, depth, height = np.ptp(points_of(hu > -300, grid), axis=0)
    assert 280 < width < 450
    assert 185 < depth < 330
    assert height > 360


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 12])
def test_number_of_screws(count: int) -> None:
    screws = make_phantom(3, num_screws=count).screws
    assert len({(screw.level, screw.side) for screw in screws}) == len(screws) == count


@pytest.mark.parametrize("count", [-1, 13])
def test_wrong_number_of_screws_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="num_screws"):
        make_phantom(3, num_screws=count)


def test_random_number_of_screws_varies() -> None:
    counts = [len(make_phantom(seed).screws) for seed in range(12)]
    assert min(counts) < 3
    assert 4 < max(counts) <= 10


def test_two_patients_do_not_share_their_noise() -> None:
    grid = VolumeGrid.centered(16, 2.0, (0.0, -400.0, 0.0))  # in air, of which what is below -1000 HU is cut off
    noise = [make_phantom(seed, num_screws=0).render(grid).hu.hu.ravel() for seed in (1, 2)]
    assert min(map(np.ptp, noise)) > 1 and abs(np.corrcoef(noise)[0, 1]) < 0.3


def test_screws_lie_on_their_side_in_metal() -> None:
    anatomy, image = phantom(5, 8).anatomy, spine_image(5, 8)
    for screw in phantom(5, 8).screws:
        pose = anatomy.sacrum if screw.level == "S1" else anatomy.vertebra(screw.level).pose
        head, tip = pose.from_lps(np.stack([screw.head_lps, screw.tip_lps]))
        left = 1 if screw.side == "left" else -1
        assert left * head[0] > 5
        assert left * tip[0] > -6
        assert tip[1] < head[1]  # from back to front
        np.testing.assert_allclose(screw.head_lps + screw.length_mm * screw.axis_lps, screw.tip_lps, atol=1e-9)
        assert 5.5 <= screw.diameter_mm <= 7.5
        assert 35 <= screw.length_mm <= 55
        shaft = screw.head_lps + np.linspace(0, screw.length_mm - 8, 12)[:, None] * screw.axis_lps
        hu, _ = nearest_voxels(image, shaft)
        assert np.median(hu) > 2500
        assert (screw.rod_seat_lps - screw.head_lps) @ screw.axis_lps < -5, "in the tulip, behind the bone"
        assert hu.min() > 1500  # the nearest voxel may lie in the thread, half bone


def test_screw_ends_are_where_the_metal_ends() -> None:
    parts = phantom(5, 8)
    for screw in parts.screws[:3]:
        grid = VolumeGrid.centered(24, 0.75, tuple(screw.tip_lps))
        beside = points_of(parts.render(grid).hu.hu > 2500, grid) - screw.tip_lps
        along = beside @ screw.axis_lps
        near = np.linalg.norm(beside - along[:, None] * screw.axis_lps, axis=1) < 3.5
        assert abs(along[near].max()) < 2 * 0.75  # the point is thinner than a voxel


@pytest.mark.parametrize("seed", range(3, 11))
def test_drawn_parameters_stay_in_range(seed: int) -> None:
    anatomy = make_phantom(seed).anatomy
    assert 30 <= anatomy.lordosis_deg <= 75
    assert 0 <= anatomy.cobb_deg <= 25
    assert 40 <= anatomy.trabecular_hu <= 220
    up_s1, up_l1 = anatomy.sacrum.rotation[:, 2], anatomy.vertebra("L1").pose.rotation[:, 2]
    lordosis = np.degrees(np.arctan2(up_l1[1], up_l1[2]) - np.arctan2(up_s1[1], up_s1[2]))
    assert lordosis == pytest.approx(anatomy.lordosis_deg, abs=4)  # axial turn and scoliosis tilt the plane a little
    for segment in anatomy.segments[:5]:
        assert 2 < segment.disc_height < 17
