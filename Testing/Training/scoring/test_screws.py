"""Screws found in volumes where they are known: hand-drawn cylinders and the phantom's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from diff2ct.phantom import make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.scoring.screws import FoundScrew, find_screws, match_screws, score_screws

GRID = VolumeGrid.centered((48, 64, 64), 1.5)


def screw(head: tuple[float, float, float], tip: tuple[float, float, float]) -> FoundScrew:
    return FoundScrew(np.array(head), np.array(tip))


def drawn(*screws: FoundScrew, rod: bool = False, radius_mm: float = 3.0) -> CtVolume:
    """Titanium cylinders in bone of 300 HU, their edges as a blurred scanner shows them; with `rod` a bar along z through their
    heads."""
    k, j, i = np.mgrid[: GRID.size[0], : GRID.size[1], : GRID.size[2]]
    points = np.stack([i, j, k], -1) * 1.5 + GRID.origin_lps
    hu = np.full(GRID.size, 300.0)
    bars = [(s.head_lps, s.tip_lps) for s in screws]
    if rod:
        bars += [(s.head_lps + [0, 0, -20], s.head_lps + [0, 0, 20]) for s in screws]
    for start, end in bars:
        length = np.linalg.norm(end - start)
        along = (points - start) @ (end - start) / length
        across = np.linalg.norm(points - start - along[..., None] * (end - start) / length, axis=-1)
        outside = np.maximum(across - radius_mm, np.abs(along - length / 2) - length / 2)
        hu = np.maximum(hu, 300 + 3500 * np.clip(0.5 - outside / 1.5, 0, 1))
    return CtVolume(hu, GRID)


def test_a_cylinder_is_found_to_a_fraction_of_a_voxel() -> None:
    true = screw((-8.0, 22.0, 4.0), (3.0, -17.0, -4.0))
    (found,) = find_screws(drawn(true))
    (error,) = match_screws([found], [true])
    assert error.tip_mm < 0.75 and error.head_mm < 0.75 and error.axis_deg < 0.5


def test_screws_that_a_rod_joins_are_found_one_by_one() -> None:
    pair = [screw((10.0, 25.0, z), (2.0, -15.0, z)) for z in (-18.0, 18.0)]
    found = find_screws(drawn(*pair, rod=True))
    assert len(found) == 2
    assert [e.true for e in match_screws(found, pair)] == [0, 1]
    assert max(e.axis_deg for e in match_screws(found, pair)) < 1.0


def test_rods_and_bone_are_no_screws() -> None:
    rod = screw((0.0, 0.0, -30.0), (0.0, 5.0, 30.0))
    assert find_screws(drawn(rod)) == []
    assert find_screws(CtVolume(np.full(GRID.size, 1500.0), GRID)) == []
    assert find_screws(drawn(screw((0.0, 10.0, 0.0), (0.0, -5.0, 0.0)))) == []  # a stump


def test_a_volume_of_noise_has_no_screws() -> None:
    """And is not searched for hours."""
    grid = VolumeGrid.centered(64, 4.0)
    assert find_screws(CtVolume(np.random.default_rng(0).normal(0, 2500, grid.size), grid)) == []


def test_errors_of_a_displaced_and_turned_screw_are_those_put_in() -> None:
    true = screw((0, 20, 0), (0, -20, 0))
    turned = screw((0, 20, 2), (0, 20 - 40 * math.cos(0.1), 2 + 40 * math.sin(0.1)))
    (error,) = match_screws([turned], [true])
    assert error.head_mm == pytest.approx(2.0)
    assert error.axis_deg == pytest.approx(math.degrees(0.1))
    assert error.tip_mm == pytest.approx(math.hypot(40 - 40 * math.cos(0.1), 2 + 40 * math.sin(0.1)))


def test_matching_is_best_in_total_and_not_greedy() -> None:
    """The first is nearest to both true ones; taking it for the nearer one would leave the other 13 mm off."""
    true = [screw((x, 20, 0), (x, -20, 0)) for x in (0.0, 8.0)]
    found = [screw((x, 20, 0), (x, -20, 0)) for x in (3.0, -5.0)]
    assert [(e.found, e.true) for e in match_screws(found, true)] == [(1, 0), (0, 1)]


def test_a_screw_too_far_off_is_another_one() -> None:
    true = screw((0, 20, 0), (0, -20, 0))
    assert len(match_screws([screw((14, 20, 0), (14, -20, 0))], [true])) == 1
    assert match_screws([screw((16, 20, 0), (16, -20, 0))], [true]) == []


def test_counts() -> None:
    true = [screw((x, 20, 0), (x, -20, 0)) for x in (-30.0, 0.0, 30.0)]
    found = [true[0], screw((0, 20, 60), (0, -20, 60))]
    scores = score_screws(found, true)
    assert scores["screw_recall"] == pytest.approx(1 / 3) and scores["screw_precision"] == pytest.approx(1 / 2)
    assert scores["screw_tip_error_mm"] == 0.0
    nothing = score_screws([], true)
    assert (
        nothing["screw_recall"] == 0.0 and math.isnan(nothing["screw_precision"]) and math.isnan(nothing["screw_tip_error_mm"])
    )
    assert math.isnan(score_screws([], [])["screw_recall"])


@dataclass(frozen=True)
class _Floor:
    tip_mm: float = 2.0
    head_mm: float = 1.8
    axis_deg: float = 0.8


def test_every_screw_of_a_phantom_is_found_on_the_model_grid() -> None:
    """Screws, rods, cross-link and cages at 2 mm: what the detector itself gets wrong."""
    phantom = make_phantom(5, num_screws=6)
    grid = VolumeGrid((64, 64, 64), (2.0, 2.0, 2.0), (-64.0, -40.0, -20.0))
    true = [s for s in phantom.screws if np.all(np.abs((s.tip_lps + s.head_lps) / 2 - grid.center_lps) < 50)]
    found = find_screws(phantom.render(grid).hu)
    errors = match_screws(found, true)
    assert len(true) >= 4 and len(errors) == len(true)
    assert np.mean([e.tip_mm for e in errors]) < _Floor.tip_mm
    assert np.mean([e.head_mm for e in errors]) < _Floor.head_mm
    assert max(e.axis_deg for e in errors) < _Floor.axis_deg
