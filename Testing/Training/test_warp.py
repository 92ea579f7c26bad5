"""Deformations by hand: where a ball goes, and what comes in from outside."""

from __future__ import annotations

import numpy as np
import pytest

from diff2ct_training.warp import Warp, random_warp, warp

SIZE = (24, 30, 40)  # (D, H, W) voxels of 2 mm
HALF_MM = np.array(SIZE[::-1]) * 2.0 / 2


def by_hand(matrix_mm: np.ndarray | None = None, shift_mm: tuple[float, float, float] = (0, 0, 0)) -> Warp:
    """A voxel at p [mm] from the middle shows what was at matrix_mm p + shift_mm."""
    matrix = np.eye(3) if matrix_mm is None else np.diag(1 / HALF_MM) @ matrix_mm @ np.diag(HALF_MM)
    bend = np.broadcast_to((np.array(shift_mm) / HALF_MM)[:, None, None, None], (3, 5, 5, 5))[None]
    return Warp(matrix.astype(np.float32), bend.astype(np.float32))


def positions_mm() -> list[np.ndarray]:
    """x, y, z of every voxel from the middle, each (D, H, W)."""
    k, j, i = np.indices(SIZE)
    return [2.0 * (index - (n - 1) / 2) for index, n in zip((i, j, k), SIZE[::-1], strict=True)]


def ball(center_mm: tuple[float, float, float]) -> np.ndarray:
    distance = sum((p - c) ** 2 for p, c in zip(positions_mm(), center_mm, strict=True))
    return (1000 * np.exp(-distance / (2 * 4.0**2)) - 1000).astype(np.float32)


def middle_mm(hu: np.ndarray) -> list[float]:
    return [float(((hu + 1000.0) * p).sum() / (hu + 1000.0).sum()) for p in positions_mm()]


def test_a_body_is_displaced_along_the_axis_that_was_meant() -> None:
    shown = middle_mm(warp(ball((5, -3, 2)), by_hand(shift_mm=(6, -4, 2))))
    np.testing.assert_allclose(shown, [5 - 6, -3 + 4, 2 - 2], atol=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_body_turns_rigidly_in_a_scan_that_is_no_cube(axis: int) -> None:
    (a, b), turn, angle = [n for n in range(3) if n != axis], np.eye(3), np.radians(25)
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
    shown = middle_mm(warp(ball((6, -5, 4)), by_hand(turn)))
    np.testing.assert_allclose(turn @ shown, [6, -5, 4], atol=0.05)


def test_the_lattice_reaches_from_the_first_voxel_to_the_last() -> None:
    """A displacement that grows evenly from -3 mm to 3 mm stretches a ramp evenly."""
    x = positions_mm()[0]
    stretch = by_hand()
    stretch.bend[0, 0] = np.linspace(-3, 3, 5) / HALF_MM[0]
    shown = warp(x.astype(np.float32), stretch)
    np.testing.assert_allclose(shown[..., 2:-2], (x * (1 + 3 / 39))[..., 2:-2], atol=1e-3)


def test_air_moves_in_at_the_sides_and_the_end_slice_at_the_ends() -> None:
    hu = np.broadcast_to(np.arange(24.0, dtype=np.float32)[:, None, None], SIZE)
    for sideways in ((100, 0, 0), (0, -100, 0)):
        np.testing.assert_allclose(warp(hu, by_hand(shift_mm=sideways)), -1000)
    for shift, end in ((100, 23), (-100, 0)):
        shown = warp(hu, by_hand(shift_mm=(0, 0, shift)))
        np.testing.assert_allclose(shown, end, atol=1e-2)


def test_bodies_become_larger_by_18_percent_and_smaller_by_16_at_most() -> None:
    scales = []
    for seed in range(300):
        matrix = random_warp(np.random.default_rng(seed), SIZE).matrix
        scales.append(1 / np.linalg.svd(np.diag(HALF_MM) @ matrix @ np.diag(1 / HALF_MM))[1])
    assert 0.9 * 0.93 - 1e-3 < np.min(scales) < 0.86 and 1.15 < np.max(scales) < 1.1 * 1.07 + 1e-3
