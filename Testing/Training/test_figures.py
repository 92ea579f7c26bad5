"""Figures hang volumes as radiologists do, and show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.image import imread

from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.figures import Shown, plane, reconstruction_figure

GRID = VolumeGrid.centered((20, 24, 28), 4.0)


def seen_at(name: str, lps: tuple[float, float, float]) -> tuple[str, str]:
    """(top or bottom, left or right) half of the picture in which a bead at `lps` appears."""
    i, j, k = np.rint(GRID.lps_to_ijk @ [*lps, 1])[:3].astype(int)
    hu = np.full(GRID.size, -1000.0)
    hu[k, j, i] = 1000.0
    picture = plane(hu, name, Shown(k, j, i))
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    return "top" if row < picture.shape[0] / 2 else "bottom", "left" if column < picture.shape[1] / 2 else "right"


@pytest.mark.parametrize(
    ("name", "lps", "expected"),
    [
        ("axial", (30.0, -30.0, 0.0), ("top", "right")),  # the patient's left and front
        ("axial", (-30.0, 30.0, 0.0), ("bottom", "left")),
        ("coronal", (30.0, 0.0, 30.0), ("top", "right")),  # left and head
        ("coronal", (-30.0, 0.0, -30.0), ("bottom", "left")),
        ("sagittal", (0.0, -30.0, 30.0), ("top", "left")),  # front and head
        ("sagittal", (0.0, 30.0, -30.0), ("bottom", "right")),
    ],
)
def test_planes_hang_radiologically(name: str, lps: tuple[float, float, float], expected: tuple[str, str]) -> None:
    assert seen_at(name, lps) == expected


def test_unknown_plane_is_refused() -> None:
    with pytest.raises(ValueError, match="oblique"):
        plane(np.zeros((2, 2, 2)), "oblique", Shown(0, 0, 0))


def test_planes_go_through_the_bone() -> None:
    hu = np.full(GRID.size, 0.0)
    hu[7:10, 14:16, 12:17] = 600.0
    hu[8, 12:18, 14] = 600.0
    at = Shown.through_spine(CtVolume(hu, GRID))
    assert (at.k, at.i) == (8, 14) and at.j in (14, 15)
    assert Shown.through_spine(CtVolume(np.zeros(GRID.size), GRID)) == Shown(10, 12, 14)


def test_reconstruction_figure_shows_difference_only_with_truth(trunk: CtVolume, tmp_path: Path) -> None:
    radiographs = render_radiographs(trunk, BiplanarSetup(pixels=64).beams((0, 0, 0)), "trunk")
    volume = CtVolume(np.where(np.indices(GRID.size)[0] > 9, 40.0, -1000.0), GRID)
    reconstruction_figure(tmp_path / "alone.png", radiographs, volume)
    reconstruction_figure(tmp_path / "both.png", radiographs, volume, CtVolume(volume.hu - 500, GRID), text=[("MAE", "500 HU")])
    alone, both = (imread(tmp_path / f"{name}.png")[..., :3] for name in ("alone", "both"))
    reddish = [float((picture[..., 0] - picture[..., 2] > 0.3).mean()) for picture in (alone, both)]
    assert reddish[0] == 0.0 and reddish[1] > 0.05  # 500 HU too much is red


def test_planes_through_the_spine_are_not_called_middle_planes(trunk: CtVolume, tmp_path: Path) -> None:
    radiographs = render_radiographs(trunk, BiplanarSetup(pixels=64).beams((0, 0, 0)), "trunk")
    with rc_context({"svg.fonttype": "none"}):
        reconstruction_figure(tmp_path / "figure.svg", radiographs, CtVolume(np.zeros(GRID.size), GRID))
    words = (tmp_path / "figure.svg").read_text()
    assert all(f">{name}<" in words for name in ("axial", "coronal", "sagittal")) and "mid-" not in words
