"""Screws in CTs without labels, checked on phantoms: their vertebrae are known, and the code under test does not see them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from diff2ct.phantom import LABELS, LumbarPhantom, PhantomImage, make_phantom
from diff2ct.phantom.canvas import Pose
from diff2ct.phantom.vertebra import pedicle_axis
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training import ct_screws
from diff2ct_training.ct_screws import (
    _screw,
    _trajectories,
    _Trajectory,
    best_comb,
    draw_screws,
    find_levels,
    insert_screws,
    neighbours,
    sample,
)
from diff2ct_training.ct_spine import CANAL_BEHIND_MM, Spine, best_path, bone_density, find_spine, longest_run, smooth

SEEDS = (1, 3, 10004)
SIDES = {"left": 1.0, "right": -1.0}


@cache
def phantom(seed: int) -> LumbarPhantom:
    return make_phantom(seed, num_screws=0)


@cache
def trunk(seed: int) -> PhantomImage:
    """From thigh to chest, skin included."""
    grid = phantom(seed).body_grid(3.0)
    return phantom(seed).render(grid)


def distance_to_axis(point: np.ndarray, seed: int, level: str, side: str) -> float:
    """From the axis of a known pedicle [mm]."""
    vertebra = phantom(seed).anatomy.vertebra(level)
    middle, axis = pedicle_axis(vertebra, SIDES[side])
    offset = vertebra.pose.from_lps(point) - middle
    return float(np.linalg.norm(offset - (offset @ axis) * axis))


def labels_along(seed: int, points_lps: np.ndarray) -> np.ndarray:
    """(N,) vertebra labels at (N, 3) points."""
    grid = trunk(seed).hu.grid
    i, j, k = np.rint((points_lps - grid.origin_lps) / grid.spacing_mm).astype(int).T
    return trunk(seed).labels[k, j, i]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_line_runs_through_the_vertebral_bodies(seed: int) -> None:
    spine = find_spine(trunk(seed).hu)
    assert spine is not None
    for vertebra in phantom(seed).anatomy.vertebrae[:8]:  # L5 to T10; the scan may end above
        center = vertebra.pose.center_lps
        found = [np.interp(center[2], spine.bodies_lps[:, 2], line) for line in spine.bodies_lps.T]
        assert np.linalg.norm(found - center) < 9, vertebra.name


@pytest.mark.parametrize("seed", SEEDS)
def test_every_lumbar_level_is_found_once(seed: int) -> None:
    ct = trunk(seed).hu
    spine = find_spine(ct)
    assert spine is not None
    levels = np.array(find_levels(bone_density(ct.hu), ct.grid, spine))
    for name in ("L4", "L3", "L2", "L1"):
        vertebra = phantom(seed).anatomy.vertebra(name)
        pedicle = vertebra.pose.to_lps(pedicle_axis(vertebra, 1.0)[0])[2]
        assert (np.abs(levels - pedicle) < 10).sum() == 1, name


@pytest.mark.parametrize("seed", SEEDS)
def test_screws_go_through_pedicles_into_bodies(seed: int) -> None:
    _, screws = insert_screws(trunk(seed).hu, np.random.default_rng(seed))
    in_bone = []
    assert len(screws) >= 4 and len(screws) % 2 == 0
    for screw in screws:
        middle = screw.head_lps + 0.6 * screw.length_mm * screw.axis_lps
        level = min(LABELS.keys() - {"S1"}, key=lambda name: distance_to_axis(middle, seed, name, screw.side))
        for point in (screw.head_lps, middle, screw.tip_lps):
            assert distance_to_axis(point, seed, level, screw.side) < 12
        shaft = screw.head_lps + np.linspace(0.3, 0.9, 20)[:, None] * screw.length_mm * screw.axis_lps
        in_bone.append((labels_along(seed, shaft) == LABELS[level]).mean())
        assert screw.axis_lps[1] < -0.8 and 5.5 <= screw.diameter_mm <= 7.5 and 35 <= screw.length_mm <= 55
    assert min(in_bone) > 0.6 and np.mean(in_bone) > 0.85
    levels = [screw.level for screw in screws]
    assert levels == sorted(levels) and [screw.side for screw in screws] == ["left", "right"] * (len(screws) // 2)


def test_metal_is_drawn_where_the_screws_are_and_nowhere_else() -> None:
    before = trunk(1).hu
    ct, screws = insert_screws(before, np.random.default_rng(5))
    grid = ct.grid
    new = np.argwhere(ct.hu != before.hu)[:, ::-1] * grid.spacing_mm + np.array(grid.origin_lps)
    for screw in screws:
        shaft = screw.head_lps + np.linspace(0.1, 0.8, 20)[:, None] * screw.length_mm * screw.axis_lps
        assert np.median(sample(torch.from_numpy(ct.hu), grid, shaft)) > 1500
    ends = np.array([point for screw in screws for point in (screw.head_lps, screw.tip_lps)])
    assert (new > ends.min(axis=0) - 30).all() and (new < ends.max(axis=0) + 30).all()
    assert before.hu.max() < 2500  # the scan that was given is left alone


def test_the_generator_decides() -> None:
    first, again, other = (insert_screws(trunk(1).hu, np.random.default_rng(n)) for n in (7, 7, 8))
    np.testing.assert_array_equal(first[0].hu, again[0].hu)
    assert [s.to_dict() for s in first[1]] == [s.to_dict() for s in again[1]]
    assert not np.array_equal(first[0].hu, other[0].hu)


@pytest.mark.parametrize("what", ["air", "water", "bone rod", "small"])
def test_without_a_spine_nothing_is_inserted(what: str) -> None:
    grid = VolumeGrid.centered((60, 60, 80), 4.0) if what != "small" else VolumeGrid.centered(8, 4.0)
    hu = np.full(grid.size, -1000.0 if what == "air" else 40.0, dtype=np.float32)
    if what == "bone rod":
        hu[:, 36:46, 35:45] = 500.0
    ct, screws = insert_screws(CtVolume(hu, grid), np.random.default_rng(0))
    assert screws == ()
    np.testing.assert_array_equal(ct.hu, hu)


def test_best_path_follows_a_bent_ridge() -> None:
    score = torch.zeros(20, 9, 9)
    columns = np.clip(np.arange(20) // 2, 0, 8)
    score[range(20), 4, columns] = 1.0
    score[10, 0, 0] = 3.0  # far away: not worth the detour
    path = best_path(score, 0.01)
    np.testing.assert_array_equal(path, np.column_stack([np.full(20, 4), columns]))


def test_best_comb_keeps_the_spacing() -> None:
    heights = np.arange(0.0, 200.0, 2.0)
    gain = np.cos(2 * np.pi * (heights - 10) / 36.0)
    gain[20] = 1.5  # a lone peak between two levels
    assert heights[best_comb(gain, heights, np.full(100, 36.0))].tolist() == pytest.approx([10, 46, 82, 118, 154, 190], abs=6)


def test_runs_of_levels() -> None:
    assert neighbours([True, False, True, True, True, False, True, True]) == [(2, 5), (6, 8)]
    assert neighbours([]) == []
    assert longest_run([True, False, True, True]) == (2, 4)
    assert longest_run([False]) == (0, 0)


def test_smoothing_keeps_constants_and_spreads_points() -> None:
    volume = torch.zeros(9, 5, 5)
    volume[4, 2, 2] = 1.0
    spread = smooth(volume, 0, 1.0)
    assert spread[4, 2, 2] == pytest.approx(0.399, abs=0.01) and spread.sum() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(smooth(torch.ones(9, 5, 5), 1, 2.0), torch.ones(9, 5, 5))


def test_density_is_sampled_where_the_point_is_and_is_none_outside() -> None:
    grid = VolumeGrid((7, 9, 12), (2.0, 3.0, 4.0), (-10.0, 5.0, 20.0))
    k, j, i = np.indices(grid.size)
    x, y, z = (o + s * n for o, s, n in zip(grid.origin_lps, grid.spacing_mm, (i, j, k), strict=True))
    density = torch.from_numpy(0.1 * x + 0.02 * y + 0.003 * z).float()
    points = np.array([[[-10.0, 5.0, 20.0], [12.0, 29.0, 44.0]], [[0.7, 17.2, 30.9], [-9.1, 6.4, 43.0]]])
    np.testing.assert_allclose(sample(density, grid, points), points @ [0.1, 0.02, 0.003], rtol=1e-4, atol=1e-5)
    assert sample(density, grid, np.array([[-13.0, 5.0, 20.0], [0.0, 0.0, 50.0]])).tolist() == [0, 0]


def test_best_comb_widens_with_the_vertebrae() -> None:
    """Levels lie 24, 26, 28 ... mm apart from foot to head."""
    steps = 24.0 + 2.0 * np.arange(8)
    levels = np.concatenate([[10.0], 10.0 + np.cumsum(steps)])
    heights = np.arange(0.0, levels[-1] + 10.0, 2.0)
    gain = np.exp(-(((heights[:, None] - levels) / 4) ** 2)).sum(axis=1) - 0.3
    step_there = np.interp(heights, levels[1:], steps)
    assert heights[best_comb(gain, heights, step_there)].tolist() == pytest.approx(levels.tolist(), abs=2)


def straight_spine() -> Spine:
    """Upright, from -100 to 100 mm, of mean size, the middle of its canal at x = y = 0."""
    z = np.arange(-100.0, 101.0, 2.0)
    canal = np.column_stack([0 * z, 0 * z, z])
    return Spine(canal - [0, CANAL_BEHIND_MM, 0], canal, np.ones(101), np.ones(101))


def test_levels_have_bone_on_both_sides_and_room_for_the_rod_above_and_below() -> None:
    """Pedicles are 36 mm apart; between them there is bone on the left only, and more of it."""
    grid = VolumeGrid.centered((101, 20, 30), 2.0)
    x, z = 2.0 * (np.arange(30) - 14.5), 2.0 * (np.arange(101) - 50.0)
    pedicles, lone = (np.exp(-(((z[:, None] - at) / 5) ** 2) / 2).sum(axis=1) for at in (np.arange(-90, 91, 36), [-36, 0, 36]))
    density = torch.from_numpy(pedicles[:, None] + 2 * lone[:, None] * (x > 0)).float()
    found = find_levels(density[:, None].expand(101, 20, 30).contiguous(), grid, straight_spine())
    assert found == pytest.approx([-54, -18, 18, 54], abs=1)


def test_a_level_with_wings_as_the_sacrum_has_gets_no_screws(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = VolumeGrid.centered((51, 25, 31), 4.0)
    x, z = np.abs(4.0 * (np.arange(31) - 15.0)), 4.0 * (np.arange(51)[:, None, None] - 25.0)
    hu = 250.0 * sum(np.exp(-(((z - at) / 5) ** 2) / 2) for at in (-54, -18, 18, 54)) * (x < 26)
    wings = 250.0 * (np.abs(z + 54) < 10) * (x > 26)
    monkeypatch.setattr(ct_screws, "find_spine", lambda ct: straight_spine())
    ct = CtVolume(np.broadcast_to(hu + wings, grid.size), grid)
    heads = [screw.head_lps[2] for seed in range(5) for screw in draw_screws(ct, np.random.default_rng(seed))]
    assert min(heads) == pytest.approx(-18, abs=10)


def test_where_bone_does_not_tell_screws_converge_as_usual() -> None:
    grid = VolumeGrid.centered((60, 70, 60), 2.0)
    left, right = _trajectories(torch.ones(grid.size), grid, straight_spine(), 4.0)
    turn = np.radians(10.0 + 6.0 * 0.15 / 0.25)  # of scale 1, between 10 degrees at 0.85 and 16 at 1.1
    np.testing.assert_allclose(left.pedicle, [14, -9, 0], atol=1e-9)
    np.testing.assert_allclose(left.axis, [-np.sin(turn), -np.cos(turn), 0], atol=1e-9)
    np.testing.assert_allclose([right.pedicle, right.axis], np.array([left.pedicle, left.axis]) * [-1, 1, 1])


@pytest.mark.parametrize(("scale", "diameter"), [(0.6, 5.5), (0.93, 6.5), (1.0, 7.0), (1.2, 7.5)])
def test_a_small_vertebra_gets_a_thin_screw(scale: float, diameter: float) -> None:
    ahead = _Trajectory(Pose(np.eye(3), np.zeros(3)), scale, np.zeros(3), np.array([0.0, -1.0, 0.0]), 0.5, 0.0)
    assert _screw(np.random.default_rng(0), ahead, 7.5, "1", "left").diameter_mm == diameter


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_a_screw_is_as_long_as_the_body_is_deep_on_its_way(degrees: float) -> None:
    """15.1 mm to the pedicle on average, and from there 80 % of the way to the front wall, which is 26.8 mm ahead."""
    turn = np.radians(degrees)
    axis = np.array([-np.sin(turn), -np.cos(turn), 0.0])
    aslant = _Trajectory(Pose(np.eye(3), np.zeros(3)), 0.8, np.zeros(3), axis, 0.5, 0.0)
    lengths = [_screw(np.random.default_rng(seed), aslant, 6.0, "1", "left").length_mm for seed in range(300)]
    assert np.mean(lengths) == pytest.approx(15.1 + 0.8 * 26.8 / np.cos(turn), abs=0.5)
