"""What a scan is like, so that a person can decide whether to train on it: one row of the quality report."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from diff2ct.metrics import METAL_HU, SKIN_HU
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import HU_PADDING
from diff2ct_training.ct_spine import BODY_SEMI_MM, find_spine
from diff2ct_training.framing import CUBE_SIZE, SPACING_MM
from diff2ct_training.scanner_table import TABLE_ML, BodyOutline

CUBE_MM = CUBE_SIZE * SPACING_MM
THICK_MM = 3.5
"""Slices further apart than this blur endplates and screws."""
CONTRAST_HU = 100.0
"""Blood without contrast medium has 30 to 60 HU."""
_CLIP_FROM_HU = 1500.0
_CLIP_VOXELS = 100
_VESSEL_MM = 5.0
"""Radius of the disc that must fit into a vessel: aorta and vena cava."""
_EVEN_HU = 35.0
"""Largest standard deviation in it."""

COLUMNS = (
    "size", "spacing_mm", "extent_mm", "orientation", "oblique_deg", "hu_min", "hu_p1", "hu_p99", "hu_max", "clipped_voxels",
    "metal_ml", "cut_sides", "height_share_of_cube", "table_ml", "blood_hu", "contrast", "spine_mm", "repeated_slices",
    "empty_slices",
)  # fmt: skip
"""Keys of `measure` before "flags"."""


def measure(scan: CtVolume, whole: CtVolume, body: BodyOutline, contrast_agent: str | None = None) -> dict[str, Any]:
    """Figures of `COLUMNS` and "flags", a list of words about what is unusual.

    scan: as read, on its own grid. whole: the same on the prepared, axis-aligned grid, and its `body` there.
    contrast_agent: what DICOM says; without it contrast is told from the blood in front of the spine.
    """
    grid, hu = scan.grid, scan.hu
    extent = [n * s for n, s in zip(grid.size[::-1], grid.spacing_mm, strict=True)]
    height = whole.grid.size[0] * whole.grid.spacing_mm[2]
    low, high = np.percentile(hu[::2, ::2, ::2] if min(grid.size) > 4 else hu, (1, 99))
    highest = float(hu.max())
    clipped = int((hu == highest).sum()) if highest > _CLIP_FROM_HU else 0
    planes = _axial_planes(scan)
    empty = np.array([float(np.ptp(plane)) == 0 for plane in planes])
    repeated = np.array([np.array_equal(a, b) for a, b in pairwise(planes)]) & ~empty[1:]
    spine_mm, blood = _spine_and_blood(whole)
    figures: dict[str, Any] = {
        "size": _by(grid.size[::-1], "d"),
        "spacing_mm": _by(grid.spacing_mm, ".4g"),
        "extent_mm": _by(extent, ".0f"),
        "orientation": _orientation(grid),
        "oblique_deg": round(_oblique_deg(grid), 1),
        "hu_min": round(float(hu.min()), 1),
        "hu_p1": round(float(low), 1),
        "hu_p99": round(float(high), 1),
        "hu_max": round(highest, 1),
        "clipped_voxels": clipped if clipped >= _CLIP_VOXELS else 0,
        "metal_ml": round(float((hu > METAL_HU).sum()) * grid.voxel_ml, 2),
        "cut_sides": ", ".join(_cut_sides(whole, body)),
        "height_share_of_cube": round(height / CUBE_MM, 2),
        "table_ml": round(body.table_ml, 1),
        "blood_hu": None if blood is None else round(blood, 0),
        "contrast": _contrast(contrast_agent, blood),
        "spine_mm": round(spine_mm),
        "repeated_slices": int(repeated.sum()),
        "empty_slices": int(empty.sum()),
    }
    return {**figures, "flags": _flags(figures, max(grid.spacing_mm))}


def _flags(figures: dict[str, Any], coarsest_mm: float) -> list[str]:
    conditions = {
        f"voxels of {coarsest_mm:.3g} mm": coarsest_mm > THICK_MM,
        "shorter than the cube": figures["height_share_of_cube"] < 1,
        f"body cut at {figures['cut_sides']}": bool(figures["cut_sides"]),
        "HU clipped": figures["clipped_voxels"] > 0,
        "oblique": figures["oblique_deg"] > 1,
        "table": figures["table_ml"] > TABLE_ML,
        "metal": figures["metal_ml"] > 0.1,
        "contrast medium": figures["contrast"] == "yes",
        "no spine found": figures["spine_mm"] == 0,
        "repeated slices": figures["repeated_slices"] > 0,
        "empty slices": figures["empty_slices"] > 0,
        "no air": figures["hu_min"] > -500,
    }
    return [words for words, holds in conditions.items() if holds]


def _by(values: Any, form: str) -> str:
    return " x ".join(f"{value:{form}}" for value in values)


def _orientation(grid: VolumeGrid) -> str:
    """Toward which side of the patient i, j and k run, such as LPS."""
    flat = [value for row in grid.direction for value in row]
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(flat))


def _oblique_deg(grid: VolumeGrid) -> float:
    """Largest angle between a grid axis and the patient's axis next to it."""
    cosines = np.abs(np.array(grid.direction)).max(axis=0).clip(max=1)
    return float(np.degrees(np.arccos(cosines)).max())


def _axial_planes(scan: CtVolume) -> np.ndarray:
    """Axial planes: the array with the axis that runs along the patient first."""
    axis = 2 - int(np.abs(np.array(scan.grid.direction)[2]).argmax())
    return np.moveaxis(scan.hu, axis, 0)


def _cut_sides(whole: CtVolume, body: BodyOutline) -> list[str]:
    """Sides at which the field of view cuts the body: the array's, or the rim of a round reconstruction."""
    dense = (whole.hu > SKIN_HU) & body.outline
    sides = {"right": dense[:, :, 0], "left": dense[:, :, -1], "front": dense[:, 0, :], "back": dense[:, -1, :]}
    cut = [name for name, edge in sides.items() if edge.any(axis=1).mean() > 0.05]
    return cut or (["rim"] if _cut_at_rim(whole.hu, dense) else [])


def _cut_at_rim(hu: np.ndarray, dense: np.ndarray) -> bool:
    """True if the body reaches the circle beyond which a scanner writes padding only."""
    j, i = np.indices(hu.shape[1:])
    radius = np.hypot(j - (hu.shape[1] - 1) / 2, i - (hu.shape[2] - 1) / 2)
    rim = min(hu.shape[1:]) / 2
    outside, near = radius > rim + 2, (radius > rim - 4) & (radius < rim)
    if abs(hu.shape[1] - hu.shape[2]) > 2 or not outside.any() or hu[:, outside].max() > HU_PADDING + 40:
        return False
    return bool(dense[:, near].mean() > 0.02)


def _spine_and_blood(whole: CtVolume) -> tuple[float, float | None]:
    """(length of the spine that was found [mm], HU of the vessels beside and in front of it, None without a spine).

    In every slice the brightest even disc in front of the vertebral body's middle and outside the body is taken: aorta or vena
    cava; then the median.
    """
    spine = find_spine(whole)
    if spine is None:
        return 0.0, None
    grid, spacing = whole.grid, whole.grid.spacing_mm[0]
    disc = _disc(_VESSEL_MM / spacing)
    reach = disc.shape[-1] // 2
    brightest = []
    for body, scale in zip(spine.bodies_lps[::2], spine.scale[::2], strict=True):
        i, j, k = np.round((body - grid.origin_lps) / spacing).astype(int)
        left, front = (round(mm / spacing) for mm in (40, 50))
        rows, columns = slice(max(0, j - front), j + 1), slice(max(0, i - left), i + left + 1)
        plane = torch.from_numpy(np.ascontiguousarray(whole.hu[k, rows, columns]))[None, None]
        if min(plane.shape[2:]) < disc.shape[-1]:
            continue
        mean = torch.nn.functional.conv2d(plane, disc)[0, 0].numpy()
        square = torch.nn.functional.conv2d(plane.square(), disc)[0, 0].numpy()
        y, x = np.indices(mean.shape) + reach
        x_mm, y_mm = (x + columns.start - i) * spacing, (y + rows.start - j) * spacing
        a, b = (semi * float(scale) + _VESSEL_MM + 3 for semi in BODY_SEMI_MM)
        vessel = (square - mean**2 < _EVEN_HU**2) & (mean > 0) & ((x_mm / a) ** 2 + (y_mm / b) ** 2 > 1)
        if vessel.any():
            brightest.append(float(mean[vessel].max()))
    length = float(spine.z_range_mm[1] - spine.z_range_mm[0])
    return length, float(np.median(brightest)) if brightest else None


def _disc(radius: float) -> torch.Tensor:
    """(1, 1, n, n) mean over a disc."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = torch.from_numpy((np.hypot(x, y) <= radius).astype(np.float32))
    return (inside / inside.sum())[None, None]


def _contrast(agent: str | None, blood: float | None) -> str:
    """ "yes", "no" or "unknown"; DICOM counts only where it names an agent, as many scanners leave the tag out."""
    if agent and agent.strip().lower() not in ("none", "no"):
        return "yes"
    if blood is None:
        return "unknown"
    return "yes" if blood > CONTRAST_HU else "no"
