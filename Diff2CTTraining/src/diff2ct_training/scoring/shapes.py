"""What a surgeon measures on vertebrae, taken from label maps: heights, canal, pedicles, lordosis and Cobb angle.

Label maps are (D, H, W) in TotalSegmentator's numbers on a grid along the patient's axes: D to the head, H to the back, W to
the left. Lengths are averages over rows of voxels, so that they are finer than a voxel. A vertebra whose label encloses no
canal, or that an edge cuts, is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from diff2ct_training.labels import NUMBERS
from diff2ct_training.scoring.canal import Canal, find_canal, pedicle_runs
from diff2ct_training.scoring.vertebrae import whole_vertebrae

Endplate = tuple[np.ndarray, np.ndarray]
"""(place, height), each (N,) [mm]."""

_FIRST, _LAST = NUMBERS["L5"], NUMBERS["C1"]
"""Numbers of vertebrae, from below to above."""
_BAND_MM = 6.0  # to either side of the middle: where heights are measured
_LEAST_ROWS = 5  # of an endplate, for a line through it
_FIFTHS = (("anterior", 0), ("middle", 2), ("posterior", 4))
"""Of the body, from its front to its back, of which a height is the median: the outermost column may cut a corner only."""


@dataclass(frozen=True, eq=False)
class VertebraShape:
    """canal: of one vertebra, with its bone. spacing_mm: (i, j, k)."""

    canal: Canal
    spacing_mm: Sequence[float]

    @property
    def lengths_mm(self) -> dict[str, float]:
        """height_anterior, height_middle, height_posterior: of the body near its middle, at right angles to its endplates;
        canal: its width from front to back; pedicle: its width where it is narrowest, mean of both sides."""
        return {**self._heights_mm, "canal": self._canal_mm, "pedicle": self._pedicle_mm}

    @cached_property
    def sagittal_deg(self) -> tuple[float, float]:
        """How much the upper and the lower endplate rise toward the back."""
        upper, lower = (_tilt(places + self.canal.lean * heights, heights) for places, heights in self._sagittal)
        return upper, lower

    @cached_property
    def coronal_deg(self) -> tuple[float, float]:
        """How much they rise toward the left."""
        filled = np.flatnonzero(self._body.any(axis=(0, 2)))
        quarter = len(filled) // 4
        rows = self.canal.bone[:, filled[quarter : len(filled) - quarter]]
        upper, lower = (_tilt(*endplate) for endplate in _endplates(rows, 1, self.spacing_mm[0], self.spacing_mm[2]))
        return upper, lower

    @cached_property
    def _sagittal(self) -> tuple[Endplate, Endplate]:
        return _endplates(self._body, 2, self.spacing_mm[1], self.spacing_mm[2])

    @cached_property
    def _body(self) -> np.ndarray:
        """Bone in front of the canal, near the middle."""
        rows, columns = np.nonzero(self.canal.opening)
        near = np.abs(np.arange(self.canal.bone.shape[2]) - columns.mean()) * self.spacing_mm[0] <= _BAND_MM
        return self.canal.bone[:, : rows.min()][:, :, near]

    @cached_property
    def _heights_mm(self) -> dict[str, float]:
        (places, upper), (_, lower) = self._sagittal
        if len(places) < _LEAST_ROWS:
            return {f"height_{name}": math.nan for name, _ in _FIFTHS}
        lean = math.atan(self.canal.lean)  # of the columns that are measured along
        across = math.cos(lean + math.radians(float(np.mean(self.sagittal_deg)))) / math.cos(lean)
        fifths = np.array_split(upper - lower, 5)
        return {f"height_{name}": float(np.median(fifths[n])) * across for name, n in _FIFTHS}

    @cached_property
    def _canal_mm(self) -> float:
        opening = self.canal.opening
        middle = round(np.nonzero(opening)[1].mean())
        depths = opening[:, max(0, middle - 1) : middle + 2].sum(axis=0)
        return float(depths.mean()) * self.spacing_mm[1] * math.cos(math.atan(self.canal.lean))

    @cached_property
    def _pedicle_mm(self) -> float:
        """Beside the front half of the canal, the mean over the thicker half of the slices of how thick the bone is, where that
        is least."""
        runs = pedicle_runs(self.canal.bone, self.canal.opening, self.spacing_mm[0])
        sides = [min((_upper_half(row) for row in of_side.T if row.any()), default=math.nan) for of_side in runs]
        return float(np.mean(sides)) * self.spacing_mm[0]


def shapes_of(labels: np.ndarray, spacing_mm: Sequence[float], mask: np.ndarray | None = None) -> dict[int, VertebraShape]:
    """By number, from below to above, each whole vertebra that can be measured."""
    found = {}
    for number in whole_vertebrae(labels, mask):
        if _FIRST <= number <= _LAST:
            (box,) = ndimage.find_objects((labels == number).astype(np.uint8))
            canal = find_canal(labels[box] == number, spacing_mm)
            if canal is not None:
                found[number] = VertebraShape(canal, spacing_mm)
    return found


def score_shapes(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], mask: np.ndarray | None = None
) -> dict[str, float]:
    """Mean absolute errors over the vertebrae that can be measured in both maps: vertebra_NAME_error_mm of the lengths, and
    vertebra_tilt_error_deg of endplates in the sagittal plane. lordosis_error_deg, cobb_error_deg: of the angles over all of
    these vertebrae, from the uppermost endplate to the lowest, and the largest between any two. NaN where there are none."""
    mine, true = (shapes_of(labels, spacing_mm, mask) for labels in (prediction, truth))
    common = [number for number in true if number in mine]
    names = [f"height_{name}" for name, _ in _FIFTHS] + ["canal", "pedicle"]
    scores = {
        f"vertebra_{name}_error_mm": _mean([mine[n].lengths_mm[name] - true[n].lengths_mm[name] for n in common])
        for name in names
    }
    tilts = [a - b for n in common for a, b in zip(mine[n].sagittal_deg, true[n].sagittal_deg, strict=True)]
    scores["vertebra_tilt_error_deg"] = _mean(tilts)
    scores["lordosis_error_deg"] = scores["cobb_error_deg"] = math.nan
    if len(common) > 1:
        scores["lordosis_error_deg"] = abs(lordosis_deg(mine, common) - lordosis_deg(true, common))
        scores["cobb_error_deg"] = abs(cobb_deg(mine, common) - cobb_deg(true, common))
    return scores


def lordosis_deg(shapes: dict[int, VertebraShape], numbers: Sequence[int]) -> float:
    """Between the upper endplate of the uppermost and the lower endplate of the lowest of `numbers` (ascending), in the
    sagittal plane; above 0 if the spine is hollow at the back."""
    return shapes[numbers[0]].sagittal_deg[1] - shapes[numbers[-1]].sagittal_deg[0]


def cobb_deg(shapes: dict[int, VertebraShape], numbers: Sequence[int]) -> float:
    """The largest angle between the upper endplate of one of `numbers` (ascending) and the lower endplate of a lower one, in
    the coronal plane; 0 or more."""
    tilts = [shapes[n].coronal_deg for n in numbers]
    return max(abs(tilts[high][0] - tilts[low][1]) for high in range(len(tilts)) for low in range(high))


def _endplates(bone: np.ndarray, averaged: int, step_mm: float, slice_mm: float) -> tuple[Endplate, Endplate]:
    """The upper and the lower one along the rows or columns of bone (D, H, W) that are mostly filled. averaged: axis, 1 or 2,
    over which their heights are averaged."""
    filled = bone.any(axis=0)
    count = filled.sum(axis=averaged - 1)
    used = np.flatnonzero(count >= max(1, count.max(initial=0) / 2))
    upper, lower = (
        (used * step_mm, (surface * filled).sum(axis=averaged - 1)[used] / count[used] * slice_mm)
        for surface in (len(bone) - bone[::-1].argmax(axis=0), bone.argmax(axis=0))
    )
    return upper, lower


def _tilt(places: np.ndarray, heights: np.ndarray) -> float:
    """Angle [deg] of a line through the inner 80 % of an endplate; NaN for too few rows."""
    if len(places) < _LEAST_ROWS:
        return math.nan
    rim = len(places) // 10
    inner = slice(rim, len(places) - rim)
    return math.degrees(math.atan(np.polyfit(places[inner], heights[inner], 1)[0]))


def _upper_half(runs: np.ndarray) -> float:
    """The mean of the larger half of those above 0."""
    ordered = np.sort(runs[runs > 0])
    return float(ordered[len(ordered) // 2 :].mean())


def _mean(differences: Sequence[float]) -> float:
    finite = [abs(d) for d in differences if math.isfinite(d)]
    return float(np.mean(finite)) if finite else math.nan
