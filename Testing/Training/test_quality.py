from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diff2ct.phantom import make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.quality import COLUMNS, measure
from diff2ct_training.scanner_table import find_body


def quality(ct: CtVolume, **options: str) -> dict[str, Any]:
    return measure(ct, ct, find_body(ct), **options)


def slab(size: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    hu = np.full(size, -1000.0)
    hu[:, 10:30, 10:30] = 40
    hu[:, 20, 20] += np.arange(size[0])  # no two slices are the same
    return hu


def test_a_plain_scan() -> None:
    grid = VolumeGrid.centered(40, 4.0)
    figures = quality(CtVolume(slab(), grid))
    assert set(figures) == {*COLUMNS, "flags"}
    assert (figures["size"], figures["spacing_mm"], figures["extent_mm"]) == ("40 x 40 x 40", "4 x 4 x 4", "160 x 160 x 160")
    assert figures["orientation"] == "LPS" and figures["contrast"] == "unknown"
    assert figures["flags"] == ["voxels of 4 mm", "shorter than the cube", "no spine found"]


def test_what_is_unusual_is_flagged() -> None:
    hu = slab()
    hu[:, 10:30, 30:] = 40  # out of the field of view on the left
    hu[:, 12:20, 12:20] = 3071
    hu[20] = hu[21]
    hu[30] = -1000
    hu[10] = hu[11]
    figures = quality(CtVolume(hu, VolumeGrid.centered(40, 2.0)))
    assert figures["cut_sides"] == "left" and figures["clipped_voxels"] == 39 * 64
    assert figures["repeated_slices"] == 2 and figures["empty_slices"] == 1
    assert figures["metal_ml"] == pytest.approx(39 * 64 * 8 / 1e3, abs=0.01)
    assert {"HU clipped", "metal", "repeated slices", "empty slices", "body cut at left"} <= set(figures["flags"])


def test_a_round_field_of_view_that_cuts_the_body() -> None:
    j, i = np.indices((80, 80)) - 39.5
    circle = np.hypot(j, i) < 40
    for radius, cut in ((30, ""), (42, "rim")):
        plane = np.where(circle, np.where(np.abs(j) < 20, np.where(np.abs(i) < radius, 40.0, -990.0), -990.0), -1024.0)
        hu = np.repeat(plane[None], 20, axis=0)
        hu[:, :, [0, -1]] = -1024
        assert quality(CtVolume(hu, VolumeGrid.centered((20, 80, 80), 4.0)))["cut_sides"] == cut


def test_orientation_and_obliqueness() -> None:
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    grid = VolumeGrid((40, 40, 40), (4.0, 4.0, 4.0), (0, 0, 0), ((-c, s, 0), (s, c, 0), (0, 0, 1)))
    whole = CtVolume(slab(), VolumeGrid.centered(40, 4.0))
    figures = measure(CtVolume(slab(), grid), whole, find_body(whole))
    assert figures["orientation"] == "RPS" and figures["oblique_deg"] == pytest.approx(10.0, abs=0.1)
    assert "oblique" in figures["flags"]


@pytest.mark.parametrize("seed", [3, 4])
def test_contrast_medium_is_told_from_the_blood(seed: int) -> None:
    phantom = make_phantom(seed, num_screws=0)
    grid = phantom.body_grid(4.0)
    figures = quality(phantom.render(grid).hu)
    assert figures["contrast"] == ("yes" if phantom.abdomen.contrast else "no")
    assert figures["blood_hu"] == pytest.approx(phantom.vessels.artery_hu, abs=30)
    assert figures["spine_mm"] > 150


def test_what_dicom_says_counts() -> None:
    ct = CtVolume(slab(), VolumeGrid.centered(40, 4.0))
    assert quality(ct, contrast_agent="iodine")["contrast"] == "yes"
    assert quality(ct, contrast_agent="")["contrast"] == quality(ct, contrast_agent="NONE")["contrast"] == "unknown"
