"""Vertebra by vertebra: overlap and surface distances of label maps, and bone overlap where a reconstruction has no labels.

Label maps are (D, H, W) integers, one number per vertebra, 0 elsewhere (TotalSegmentator's numbers in phantoms). Vertebrae
that the edge of the volume cuts are left out: the cut would count as a surface. Distances as in MONAI: from edge voxel to edge
voxel, in mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from diff2ct.metrics import BONE_DICE_HU

TOLERANCES_MM = (1, 2)
FOUND_WITHIN_MM = 20.0
"""A vertebra counts as found if its centroid is no further off than this (VerSe challenge, Sekuboyina et al. 2021)."""


def whole_vertebrae(labels: np.ndarray, mask: np.ndarray | None = None) -> list[int]:
    """Numbers of the vertebrae that neither the edge of the volume nor that of `mask` (D, H, W) cuts, ascending."""
    cut = {n for axis in range(3) for end in (0, -1) for n in np.unique(labels.take(end, axis))}
    if mask is not None:
        cut |= set(np.unique(labels[~ndimage.binary_erosion(mask)]))
    return [int(n) for n in np.unique(labels) if n > 0 and n not in cut]


def score_labels(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], mask: np.ndarray | None = None
) -> dict[str, float]:
    """Means over the true map's whole vertebrae: Dice, 95 % Hausdorff distance, mean surface distance, surface Dice within
    `TOLERANCES_MM`, centroid error and how many were found. A vertebra that the prediction lacks has Dice and surface Dice 0
    and no distances. spacing_mm: (i, j, k)."""
    scores: dict[str, list[float]] = {}
    sampling = tuple(spacing_mm[::-1])
    for number in whole_vertebrae(truth, mask):
        crop = _around(truth, prediction, number)
        one, other = prediction[crop] == number, truth[crop] == number
        of_one = {
            "dice": 2.0 * float((one & other).sum()) / float(one.sum() + other.sum()),
            **surface_scores(one, other, sampling),
        }
        centroids = [np.array(ndimage.center_of_mass(m)) * sampling for m in (one, other)] if one.any() else []
        of_one["centroid_mm"] = float(np.linalg.norm(centroids[0] - centroids[1])) if centroids else math.nan
        of_one["found"] = float(of_one["centroid_mm"] <= FOUND_WITHIN_MM)
        for name, value in of_one.items():
            scores.setdefault(f"vertebra_{name}", []).append(value)
    return {name: _nanmean(values) for name, values in scores.items()}


def surface_scores(one: np.ndarray, other: np.ndarray, sampling_mm: Sequence[float]) -> dict[str, float]:
    """hd95_mm (the larger of both directions), assd_mm (mean over both surfaces), nsd_1mm and nsd_2mm of two bool masks.
    sampling_mm: (k, j, i). NaN and 0 if one of them is empty."""
    if not one.any() or not other.any():
        return {"hd95_mm": math.nan, "assd_mm": math.nan, **{f"nsd_{mm}mm": 0.0 for mm in TOLERANCES_MM}}
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    there = ndimage.distance_transform_edt(~edges[1], sampling_mm)[edges[0]]
    back = ndimage.distance_transform_edt(~edges[0], sampling_mm)[edges[1]]
    both = np.concatenate([there, back])
    return {
        "hd95_mm": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "assd_mm": float(both.mean()),
        **{f"nsd_{mm}mm": float((both <= mm).mean()) for mm in TOLERANCES_MM},
    }


def score_bone_in_labels(
    prediction_hu: np.ndarray, truth_hu: np.ndarray, labels: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """For reconstructions without labels: Dice of what is above `BONE_DICE_HU` in both volumes, inside the true label of each
    vertebra, mean over vertebrae. It cannot see bone beside the vertebra."""
    one, other = prediction_hu > BONE_DICE_HU, truth_hu > BONE_DICE_HU
    values = []
    for number in whole_vertebrae(labels, mask):
        inside = labels == number
        total = int(one[inside].sum()) + int(other[inside].sum())
        values.append(2.0 * int((one & other)[inside].sum()) / total if total else math.nan)
    return {"bone_dice_in_true_vertebrae": _nanmean(values)}


def _around(a: np.ndarray, b: np.ndarray, number: int) -> tuple[slice, ...]:
    """The box around `number` in both maps, with a voxel to spare where there is one."""
    (box,) = ndimage.find_objects(((a == number) | (b == number)).astype(np.uint8))
    return tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)


def _nanmean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
