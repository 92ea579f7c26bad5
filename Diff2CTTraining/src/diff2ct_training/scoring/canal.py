"""The spinal canal of one vertebra in a label map: what is open when one looks along the vertebra's own axis.

In axial slices the arch of a tilted or a thoracic vertebra hardly closes, and the rim of a hollow endplate does. Seen along its
axis a vertebra is one ring. (D, H, W) along the patient's axes: D to the head, H to the back, W to the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_LEANS_DEG = sorted(range(-40, 41, 2), key=abs)
_MIN_AREA_MM2 = 60.0
_BESIDE_MM = 8.0
"""From the opening to the pedicles, at most: the opening is what is free at every height."""


@dataclass(frozen=True, eq=False)
class Canal:
    """bone: (D, H + 2 margin, W) bool, each slice moved along H so that the canal is upright. opening: (H + 2 margin, W) bool,
    the canal seen from above. lean: how far back it runs per mm upward. slices: with pedicles on both sides, ascending."""

    bone: np.ndarray
    opening: np.ndarray
    lean: float
    slices: np.ndarray
    shifts: np.ndarray
    margin: int

    def voxels(self) -> np.ndarray:
        """(N, 3) (k, j, i) in the map of the canal's voxels between the pedicles."""
        rows, columns = np.nonzero(self.opening)
        return np.concatenate(
            [np.column_stack([np.full(len(rows), k), rows - self.margin + self.shifts[k], columns]) for k in self.slices]
        )


def find_canal(bone: np.ndarray, spacing_mm: Sequence[float]) -> Canal | None:
    """bone: (D, H, W) bool, a vertebra. spacing_mm: (i, j, k). None if it encloses no canal (arch removed, or cut off)."""
    di, dj, dk = spacing_mm
    best, widest = None, _MIN_AREA_MM2
    for deg in _LEANS_DEG:
        lean = float(np.tan(np.radians(deg)))
        shifts = np.rint(lean * (np.arange(len(bone)) - (len(bone) - 1) / 2) * dk / dj).astype(int)
        margin = int(np.abs(shifts).max())
        upright = np.zeros((len(bone), bone.shape[1] + 2 * margin, bone.shape[2]), bool)
        for plane, shift, target in zip(bone, shifts, upright, strict=True):
            target[margin - shift : margin - shift + bone.shape[1]] = plane
        opening = _largest_hole(np.asarray(upright.any(axis=0)))
        if opening.sum() * di * dj > widest:
            widest = float(opening.sum()) * di * dj
            best = upright, opening, lean, shifts, margin
    if best is None:
        return None
    upright, opening, lean, shifts, margin = best
    runs = pedicle_runs(upright, opening, di)
    slices = np.flatnonzero((runs > 0).any(axis=2).all(axis=0))
    return Canal(upright, opening, lean, slices, shifts, margin) if len(slices) else None


def pedicle_runs(upright: np.ndarray, opening: np.ndarray, spacing_mm: float) -> np.ndarray:
    """(2, D, rows) voxels of bone on the right and on the left of the canal, in each slice and each row of its front half;
    0 where there is none close by. spacing_mm: along W."""
    rows = np.flatnonzero(opening.any(axis=1))
    front = range(int(rows[0]), int(rows[0] + rows[-1]) // 2 + 1)
    reach = round(_BESIDE_MM / spacing_mm)
    runs = np.zeros((2, len(upright), len(front)), int)
    for side, (bone, hole) in enumerate(((upright[:, :, ::-1], opening[:, ::-1]), (upright, opening))):
        for n, row in enumerate(front):
            line = bone[:, row, int(np.flatnonzero(hole[row])[-1]) + 1 :]
            first = line.argmax(axis=1)
            for k in np.flatnonzero(line.any(axis=1) & (first <= reach)):
                rest = line[k, first[k] :]
                runs[side, k, n] = len(rest) if rest.all() else int(rest.argmin())
    return runs


def _largest_hole(image: np.ndarray) -> np.ndarray:
    """The largest enclosed part of (H, W) bool; empty if there is none."""
    numbered, count = ndimage.label(ndimage.binary_fill_holes(image) & ~image)
    if count == 0:
        return np.zeros_like(image)
    return numbered == np.bincount(numbered.ravel())[1:].argmax() + 1
