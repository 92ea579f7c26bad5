"""Breaches of a pedicle whose walls are planes at known places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diff2ct.volume import VolumeGrid
from diff2ct_training.scoring.breach import breach_mm, find_pedicles, grade
from diff2ct_training.scoring.screws import FoundScrew

GRID = VolumeGrid.centered((24, 80, 80), 1.0)


def vertebra() -> np.ndarray:
    """A ring of bone around a canal of 20 x 16 mm: body in front (-y), lamina behind, pedicles 10 mm wide at |x| 10..20."""
    labels = np.zeros(GRID.size, np.uint8)
    y, x = np.mgrid[-39.5:40, -39.5:40]
    ring = (np.abs(x) < 20) & (y > -30) & (y < 16)
    canal = (np.abs(x) < 10) & (y > -6) & (y < 10)
    labels[4:20] = 28 * (ring & ~canal)
    return labels


def screw_at(x: float) -> FoundScrew:
    return FoundScrew(np.array([x, 18.0, 0.0]), np.array([x, -27.0, 0.0]))


@pytest.mark.parametrize(("x", "expected"), [(15.0, 0.0), (17.5, 0.5), (18.5, 1.5), (11.0, 2.0), (8.0, 5.0)])
def test_the_breach_is_how_far_the_side_stands_out(x: float, expected: float) -> None:
    """A screw of 6 mm: its side is 3 mm from its axis, the walls are at 10 and 20 mm."""
    pedicles = find_pedicles(vertebra(), 28, GRID)
    assert pedicles is not None
    assert breach_mm(screw_at(x), 6.0, pedicles) == pytest.approx(expected, abs=0.3)


def test_the_breach_is_in_mm_whatever_the_voxels() -> None:
    flat = VolumeGrid(GRID.size, (1.0, 1.0, 2.5), (-39.5, -39.5, -28.75))
    pedicles = find_pedicles(vertebra(), 28, flat)
    assert pedicles is not None
    assert breach_mm(screw_at(8.0), 6.0, pedicles) == pytest.approx(5.0, abs=0.3)


def test_only_the_pedicle_counts_not_entry_and_tip() -> None:
    pedicles = find_pedicles(vertebra(), 28, GRID)
    assert pedicles is not None
    long = FoundScrew(np.array([15.0, 30.0, 0.0]), np.array([15.0, -38.0, 0.0]))  # sticks out behind and in front
    assert breach_mm(long, 6.0, pedicles) == 0.0
    beside = FoundScrew(np.array([15.0, 38.0, 0.0]), np.array([15.0, 20.0, 0.0]))
    assert math.isnan(breach_mm(beside, 6.0, pedicles))


def test_a_vertebra_without_a_closed_canal_has_no_grade() -> None:
    opened = vertebra()
    opened[:, 50:, 35:45] = 0
    assert find_pedicles(opened, 28, GRID) is None
    assert find_pedicles(opened, 27, GRID) is None


@pytest.mark.parametrize(
    ("mm", "expected"), [(0.0, 0), (0.4, 0), (1.9, 1), (2.0, 2), (3.9, 2), (4.1, 3), (6.0, 4), (math.nan, None)]
)
def test_grades(mm: float, expected: int | None) -> None:
    assert grade(mm) == expected


def test_the_canal_is_behind_the_body_and_not_in_a_hollow_endplate() -> None:
    """An arch that slopes closes in no axial slice; the rim of the endplate does. Seen along the axis it is one ring."""
    labels = np.zeros(GRID.size, np.uint8)
    z, y, x = np.meshgrid(np.arange(24) - 11.5, np.arange(80) - 39.5, np.arange(80) - 39.5, indexing="ij")
    body = (np.abs(x) < 20) & (y > -30) & (y < -6) & (np.abs(z) < 9)
    hollow = (np.abs(x) < 14) & (y > -26) & (y < -10) & (z > 6)
    pedicles = (np.abs(x) >= 10) & (np.abs(x) < 20) & (y >= -6) & (y < 10) & (z > -4) & (z < 6)
    lamina = (np.abs(x) < 20) & (y >= 10) & (y < 16) & (z < -5) & (z > -11)
    arms = (np.abs(x) >= 10) & (np.abs(x) < 20) & (y >= 6) & (y < 12) & (z > -11) & (z < 0)
    labels[(body & ~hollow) | pedicles | (lamina & (np.abs(z) > 5)) | arms] = 28
    found = find_pedicles(labels, 28, GRID)
    assert found is not None and found.canal_lps[:, 1].min() > -8.0
    assert breach_mm(screw_at(18.5), 6.0, found) == pytest.approx(1.5, abs=0.4)
