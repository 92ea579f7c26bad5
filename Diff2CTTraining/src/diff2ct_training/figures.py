"""Figures a person can judge a reconstruction by. Display is radiological: the patient's left on the image's right, head up,
the front of the patient up in axial and to the left in sagittal slices. Volumes are on axis-aligned LPS grids (the model
grid is)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diff2ct.atomic import replacing_file
from diff2ct.radiograph import Radiograph
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.pictures import WINDOW_HU

DIFFERENCE_HU = 600.0
BONE_HU = 300.0
STEP_MM = 30.0
"""Distance of the planes that are shown where there is no truth to be shown."""
NOTICE = "synthetic - research use only - not for diagnosis"
PLANES = ("axial", "coronal", "sagittal")

_BACKGROUND, _TEXT, _FAINT = "#101214", "#f2f2f2", "#9aa0a6"


@dataclass(frozen=True)
class Shown:
    """Which voxel (k, j, i) the three planes go through."""

    k: int
    j: int
    i: int

    @classmethod
    def center(cls, grid: VolumeGrid) -> Shown:
        """Through the middle of the grid, i.e. the isocentre."""
        depth, height, width = grid.size
        return cls(depth // 2, height // 2, width // 2)

    @classmethod
    def through_spine(cls, volume: CtVolume) -> Shown:
        """Through the bone near the middle: each plane is the one with most bone among those within a quarter of the grid's
        extent of its middle; sagittal is the middle of the bone behind the coronal plane, where the canal is. No bone: the
        isocentre."""
        depth, height, width = volume.grid.size
        middle = tuple(slice(n // 4, n - n // 4) for n in (depth, height, width))
        bone = np.zeros(volume.grid.size, dtype=bool)
        bone[middle] = volume.hu[middle] > BONE_HU
        if not bone.any():
            return cls.center(volume.grid)
        columns = np.nonzero(bone)[2]
        return cls(int(bone.sum((1, 2)).argmax()), int(bone.sum((0, 2)).argmax()), int(np.median(columns)))

    def moved(self, voxels: int, grid: VolumeGrid) -> Shown:
        """Higher, further back and further left by that many voxels, at most to the grid's last plane."""
        k, j, i = (min(max(n + voxels, 0), size - 1) for n, size in zip((self.k, self.j, self.i), grid.size, strict=True))
        return Shown(k, j, i)


def plane(hu: np.ndarray, name: str, at: Shown) -> np.ndarray:
    """One slice (rows, columns) of (D, H, W), turned for display."""
    if name == "axial":
        return hu[at.k]
    if name == "coronal":
        return hu[::-1, at.j]
    if name == "sagittal":
        return hu[::-1, :, at.i]
    raise ValueError(f"plane: got {name!r}, accepted are {', '.join(PLANES)}")


def reconstruction_figure(
    path: Path,
    radiographs: Sequence[Radiograph],
    prediction: CtVolume,
    truth: CtVolume | None = None,
    *,
    text: Sequence[tuple[str, str]] = (),
    title: str = "Diff2CT: two X-rays in, one CT volume out",
    at: Shown | None = None,
) -> None:
    """X-rays on the left; to their right reconstruction, truth and difference in three planes, or, without `truth`, the
    reconstruction in three planes each.

    text: (name, value) lines below the X-rays. The suffix of `path` says the format; an existing file is replaced.
    """
    at = at or Shown.through_spine(truth or prediction)
    figure = Figure(figsize=(13.2, 9.96), facecolor=_BACKGROUND)
    top = 1 - 0.75 / figure.get_figheight()
    cells = figure.add_gridspec(
        3, 5, width_ratios=(1, 0.11, 1, 1, 1), hspace=0.03, wspace=0.03, left=0.015, right=0.935, top=top, bottom=0.015
    )
    for r, radiograph in enumerate(radiographs):
        _show_radiograph(figure.add_subplot(cells[r, 0]), radiograph)
    _show_text(figure.add_subplot(cells[2, 0]), text)
    for r, row in enumerate(_rows(prediction, truth, at)):
        for c, name in enumerate(PLANES):
            axes = figure.add_subplot(cells[r, c + 2])
            drawn = _show_plane(axes, row.hu, name, row.at, prediction.grid, row.style)
            if r == 0:
                axes.set_title(name, color=_TEXT, fontsize=11)
            if c == 0:
                axes.set_ylabel(row.label, color=_TEXT, fontsize=12)
            _mark_sides(axes, name)
        place = axes.get_position()
        bar = figure.add_axes((0.942, place.y0 + 0.02, 0.011, place.height - 0.05))
        figure.colorbar(drawn, cax=bar).ax.tick_params(colors=_FAINT, labelsize=8)
        bar.set_title("HU", color=_FAINT, fontsize=8)
    _title(figure, title)
    _save(figure, path)


_WINDOW: dict[str, Any] = {"cmap": "gray", "vmin": WINDOW_HU[0], "vmax": WINDOW_HU[1]}
_DIFFERENCE: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -DIFFERENCE_HU, "vmax": DIFFERENCE_HU}


@dataclass(frozen=True, eq=False)
class _Row:
    label: str
    hu: np.ndarray
    style: dict[str, Any]
    at: Shown


def _rows(prediction: CtVolume, truth: CtVolume | None, at: Shown) -> list[_Row]:
    """Reconstruction, truth and difference; without a truth the reconstruction before, at and behind the middle."""
    if truth is not None:
        return [
            _Row("reconstruction", prediction.hu, _WINDOW, at),
            _Row("truth", truth.hu, _WINDOW, at),
            _Row("reconstruction - truth", prediction.hu - truth.hu, _DIFFERENCE, at),
        ]
    step = round(STEP_MM / min(prediction.grid.spacing_mm))
    places = [
        (f"{sign * STEP_MM:+.0f} mm" if sign else "reconstruction", at.moved(sign * step, prediction.grid))
        for sign in (-1, 0, 1)
    ]
    return [_Row(label, prediction.hu, _WINDOW, place) for label, place in places]


def _show_plane(axes: Axes, hu: np.ndarray, name: str, at: Shown, grid: VolumeGrid, style: dict[str, Any]) -> Any:
    di, dj, dk = grid.spacing_mm
    aspect = {"axial": dj / di, "coronal": dk / di, "sagittal": dk / dj}[name]
    bare(axes)
    return axes.imshow(plane(hu, name, at), aspect=aspect, interpolation="bilinear", **style)


def _mark_sides(axes: Axes, name: str) -> None:
    left, right = ("A", "P") if name == "sagittal" else ("R", "L")
    for x, mark, align in ((0.03, left, "left"), (0.97, right, "right")):
        axes.text(x, 0.5, mark, color=_FAINT, fontsize=9, ha=align, va="center", transform=axes.transAxes)


def _show_radiograph(axes: Axes, radiograph: Radiograph) -> None:
    low, high = np.percentile(radiograph.line_integral[radiograph.valid], (1.0, 99.7))
    row_mm, column_mm = radiograph.geometry.patient_spacing_mm
    bare(axes)
    axes.imshow(radiograph.line_integral, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=row_mm / column_mm)
    axes.text(0.03, 0.97, radiograph.geometry.view.value, color=_TEXT, fontsize=11, va="top", transform=axes.transAxes)


def _show_text(axes: Axes, lines: Sequence[tuple[str, str]]) -> None:
    axes.set_axis_off()
    for n, (name, value) in enumerate(lines):
        y = 0.93 - 0.93 * n / max(len(lines), 11)
        axes.text(0.0, y, name, color=_FAINT, fontsize=9, va="top", transform=axes.transAxes)
        axes.text(1.0, y, value, color=_TEXT, fontsize=9, va="top", ha="right", transform=axes.transAxes)


def bare(axes: Axes) -> None:
    """Black and without ticks or frame, for an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _title(figure: Figure, title: str) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(0.015, 1 - 0.12 * inch, title, color=_TEXT, fontsize=14, va="top")
    figure.text(0.985, 1 - 0.15 * inch, NOTICE, color=_FAINT, fontsize=9, va="top", ha="right")


def _save(figure: Figure, path: Path) -> None:
    with replacing_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, facecolor=figure.get_facecolor())
