"""Table removal: the table goes, the patient stays to the last voxel."""

from __future__ import annotations

import numpy as np
import pytest

from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.scanner_table import find_body, without_table

GRID = VolumeGrid.centered((60, 110, 130), 4.0)
_K, _J, _I = np.indices(GRID.size)
X, Y, Z = (axis * 4.0 + start for axis, start in zip((_I, _J, _K), GRID.origin_lps, strict=True))


def patient() -> np.ndarray:
    """A trunk of changing width with lungs, a fold of skin, and two arms that are not parallel to the table."""
    hu = np.full(GRID.size, -1000.0)
    width = 130 + 20 * np.sin(Z / 60)
    hu[(X / width) ** 2 + (Y / 90) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((X - side * 55) / 35) ** 2 + ((Y + 10) / 45) ** 2 + ((Z - 60) / 55) ** 2 < 1] = -850
        hu[np.hypot(X - side * (190 + 0.15 * Z), Y - 10) < 24] = 50
    hu[np.hypot(X, Y - 60) < 20] = 400
    return hu


def table(gap_mm: float) -> np.ndarray:
    """A bowed hollow shell behind the patient, 500 mm wide, its upper sheet `gap_mm` behind the lowest point of the back."""
    upper = 92 + gap_mm + 0.0006 * X**2
    sheet = np.abs(Y - upper) < 3
    lower = np.abs(Y - upper - 44) < 3
    return (sheet | lower) & (np.abs(X) < 250)


@pytest.mark.parametrize("gap_mm", [8.0, 1.0])
def test_the_table_is_removed_and_the_patient_is_kept(gap_mm: float) -> None:
    hu = patient()
    body = hu > -900
    with_table = np.where(table(gap_mm) & ~body, -50.0, hu)
    with_table[(Y > 96 + gap_mm + 0.0006 * X**2) & (Y < 136 + gap_mm + 0.0006 * X**2) & ~body] = -950  # its foam
    ct = CtVolume(with_table, GRID)
    outline = find_body(ct)
    clean = without_table(ct, outline).hu
    assert outline.has_table and outline.table_ml > 500
    lungs_and_body = body | (hu == -850)
    np.testing.assert_array_equal(clean[lungs_and_body], hu[lungs_and_body])
    left = (clean > -900) & ~body
    assert left.sum() < 0.02 * (table(gap_mm) & ~body).sum()


def test_without_a_table_nothing_changes() -> None:
    ct = CtVolume(patient(), GRID)
    outline = find_body(ct)
    assert not outline.has_table and outline.table_ml == 0
    np.testing.assert_array_equal(without_table(ct, outline).hu, ct.hu)


def test_a_lung_that_the_field_of_view_opens_stays() -> None:
    hu = patient()[:, :, 48:]  # through the lung on the right
    grid = VolumeGrid(hu.shape, GRID.spacing_mm, GRID.origin_lps)
    assert (hu[:, :, 0] == -850).any()
    clean = without_table(CtVolume(hu, grid), find_body(CtVolume(hu, grid))).hu
    np.testing.assert_array_equal(clean[hu == -850], -850)


def test_a_scan_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="thick as a body"):
        find_body(CtVolume(np.full((20, 20, 20), -1000.0), VolumeGrid.centered(20, 4.0)))
