"""What is in a CT beside the patient, the table above all: found, and taken out.

A table is thin or hollow, wide, and the same in every slice; no part of a body is all three. Only what is proven to be table is
taken from the dense voxels: sheets that are thin and in the same place in most slices, also where the back lies on them, and
loose objects of constant cross-section that run from end to end of the scan. Around what is left everything becomes air; lungs
and bowel are inside the body's outline and stay as they are, also where the field of view cuts the body open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from diff2ct.metrics import SKIN_HU
from diff2ct.units import HU_AIR
from diff2ct.volume import CtVolume

THIN_MM = 6.0
"""Half edge of the largest cube that does not fit into a sheet of a table."""
NEAR_MM = 8.0
"""What is as near to something thick may be its skin."""
SHEET_MM = 100.0
"""A sheet is at least this wide from left to right."""
SHEET_SHARE, SHEET_FREE = 0.5, 0.2
"""Share of the slices not taken by the body in which a sheet is in the same place, and share of all that these are at least."""
LOOSE_CONSTANCY, LOOSE_THICK_CONSTANCY = 0.5, 0.9
"""How constant along the scan a loose object is at least, if it is to be table; limbs are thick and never so constant."""
ZONE_MM = 10.0
"""Loose objects this near to a sheet, or on its other side, are table."""
MARGIN_MM = 4.0
"""Kept around the body: skin is blurred over a voxel or two."""
SPECK_ML = 2.0
"""Smaller loose objects are neither body nor table."""
TABLE_ML = 20.0
"""Of table, above which a scan is said to show one."""


@dataclass(frozen=True, eq=False)
class BodyOutline:
    """outline: (D, H, W) bool, the body with all its cavities and a margin. table_ml: dense matter outside the body."""

    outline: np.ndarray
    table_ml: float

    @property
    def has_table(self) -> bool:
        return self.table_ml > TABLE_ML


def find_body(ct: CtVolume) -> BodyOutline:
    """The body in a CT on an axis-aligned isotropic grid. ValueError if nothing in it is as thick as a body."""
    spacing = ct.grid.spacing_mm[0]

    def voxels(mm: float) -> int:
        return max(1, round(mm / spacing))

    dense = ct.hu > SKIN_HU
    inner = _eroded(dense, voxels(THIN_MM))
    if not inner.any():
        raise ValueError("ct: nothing as thick as a body above -300 HU, accepted is a CT of a body")
    thick = _dilated(inner, voxels(THIN_MM))
    sheets = _sheets(dense, _dilated(thick, voxels(NEAR_MM)), SHEET_MM / spacing)
    body, *others = _parts(dense & ~(sheets & ~inner), SPECK_ML * 1e3 / spacing**3)
    zone = _dilated(_beyond(sheets, body)[None], voxels(ZONE_MM))[0]
    for part in others:
        if not _is_table(part, thick, zone):
            body |= part
    inside = _filled(body)
    table = dense & ~inside
    return BodyOutline(_dilated(inside, voxels(MARGIN_MM)) & ~table, float(table.sum()) * spacing**3 / 1e3)


def without_table(ct: CtVolume, body: BodyOutline) -> CtVolume:
    """The CT with air everywhere outside the body's outline."""
    return CtVolume(np.where(body.outline, ct.hu, np.float32(HU_AIR)), ct.grid)


def _sheets(dense: np.ndarray, near: np.ndarray, min_width: float) -> np.ndarray:
    """(H, W) bool: where sheets are, i.e. something wide that is not `near` to anything thick and stays in place along the
    scan. A place counts by the slices in which it is free of the body, if these are not too few."""
    thin, free = (dense & ~near).sum(axis=0), (~near).sum(axis=0)
    constant = thin >= SHEET_SHARE * np.maximum(free, SHEET_FREE * len(dense))
    numbers = sitk.GetArrayFromImage(sitk.ConnectedComponent(_image(constant), True))
    sheets = np.zeros_like(constant)
    for n in range(1, int(numbers.max()) + 1):
        if np.ptp(np.nonzero(numbers == n)[1]) >= min_width:
            sheets |= numbers == n
    return _dilated(sheets[None], 1)[0] & (thin > 0)


def _parts(mask: np.ndarray, min_voxels: float) -> list[np.ndarray]:
    """Connected parts of at least `min_voxels`, the largest first and at least that."""
    components = sitk.RelabelComponent(sitk.ConnectedComponent(_image(mask)), int(np.ceil(min_voxels)))
    numbers = sitk.GetArrayFromImage(components)
    return [numbers == n for n in range(1, max(1, int(numbers.max())) + 1)]


def _beyond(sheets: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(H, W) bool: `sheets` and all that is on their far side from the body, behind a patient who lies on the back."""
    if not sheets.any():
        return sheets
    behind = np.nonzero(sheets)[0].mean() > np.nonzero(body.any(axis=0))[0].mean()
    return np.logical_or.accumulate(sheets, axis=0) if behind else np.logical_or.accumulate(sheets[::-1], axis=0)[::-1]


def _is_table(part: np.ndarray, thick: np.ndarray, zone: np.ndarray) -> bool:
    """Whether a loose object is table: beyond a sheet, or the same from end to end of the scan."""
    count = part.sum()
    if (part & zone).sum() > 0.5 * count:
        return True
    end_to_end = part.any(axis=(1, 2)).mean() > 0.9
    needed = LOOSE_THICK_CONSTANCY if (part & thick).sum() > 0.1 * count else LOOSE_CONSTANCY
    return bool(end_to_end and _constancy(part) > needed)


def _constancy(part: np.ndarray) -> float:
    """Mean share of slices in which a voxel of the cross-section is there, 1 for a prism along the scan."""
    share = part.mean(axis=0)
    return float((share**2).sum() / share.sum())


def _filled(body: np.ndarray) -> np.ndarray:
    """Every axial slice with its holes filled. A side of the image counts as closed between the first and the last voxel of the
    body on it: a lung that the field of view cuts open is still inside."""
    filled = np.empty_like(body)
    for k, plane in enumerate(body):
        closed = np.pad(plane, 1)
        for side, edge in zip(_edges(closed, 0), _edges(closed, 1), strict=True):
            touching = np.flatnonzero(edge)
            if len(touching):
                side[touching[0] : touching[-1] + 1] = True
        outside = sitk.ConnectedThreshold(_image(np.pad(closed, 1)), [(0, 0)], 0, 0)
        filled[k] = sitk.GetArrayViewFromImage(outside)[2:-2, 2:-2] == 0
    return filled


def _edges(plane: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """The four lines of a plane that are `n` voxels inside its border."""
    return plane[n], plane[-1 - n], plane[:, n], plane[:, -1 - n]


def _eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """By a cube; the body goes on beyond the image."""
    return ~_dilated(~mask, radius)


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """By a cube of edge 2 radius + 1, one axis after the other; nothing comes in from beyond the image."""
    for axis in range(3):
        source, grown = np.moveaxis(mask, axis, 0), np.moveaxis(mask.copy(), axis, 0)
        for step in range(1, min(radius, len(source) - 1) + 1):
            grown[step:] |= source[:-step]
            grown[:-step] |= source[step:]
        mask = np.moveaxis(grown, 0, axis)
    return mask


def _image(mask: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(mask.astype(np.uint8))
