"""How far a reconstruction is from the truth, told beside it and checked on patients whose truth is known.

The spread of K samples says where a model is unsure but not by how much: a small model's samples agree with each other more
than with the truth. A `Calibration`, measured on held-out cases, turns value and spread of a voxel into the error to be
expected there and into quantiles. Voxels of a patient are not independent, so a coverage holds over many patients, not within
each; for single figures of a patient (bone volume, mean HU) `Calibration.bounds` are conformal and do hold for a patient like
those of the calibration (Vovk et al. 2005; that voxelwise bounds fail and metric-wise ones hold: arXiv 2404.15274).

All volumes are (D, H, W) on one grid, HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diff2ct.smooth import smooth_volume
from diff2ct.units import HU_WINDOW

LEVELS = (0.5, 0.8, 0.9)
"""Coverages that a calibration is made for."""
PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Quantiles that bound the central intervals of `LEVELS`, and the median."""
SD_SMOOTHING_VOXELS = 2.0
"""The SD of a few samples is itself noisy; its neighbours' are as good a measure."""
PRIOR_CELLS = 8

_LEAST_PRIOR_HU = 100.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What held-out cases taught about a checkpoint's errors, error = truth - reconstruction.

    hu_knots, sd_knots: reconstructed HU and SD of the samples (smoothed) at which the tables below stand; between them,
        interpolate.
    error_hu: (len(hu_knots), len(sd_knots)) root mean square error of the mean of the samples [HU].
    single_error_hu: (len(hu_knots),) of one sample, where there is no SD.
    quantiles: (len(hu_knots), len(PROBABILITIES)) of error / expected error inside the body, not decreasing.
    prior_sd_hu: (PRIOR_CELLS,) * 3 root mean square spread of the truth about the mean patient in cells of the model grid:
        what one would know without X-rays.
    bounds: by name of `patient_figures.figures_of`, such as "bone_ml", and by level, "0.8": half width of the conformal
        interval.
    num_cases, num_samples, num_steps: how it was measured. provenance: in words.
    """

    hu_knots: tuple[float, ...]
    sd_knots: tuple[float, ...]
    error_hu: tuple[tuple[float, ...], ...]
    single_error_hu: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    prior_sd_hu: tuple[tuple[tuple[float, ...], ...], ...]
    bounds: dict[str, dict[str, float]]
    num_cases: int
    num_samples: int
    num_steps: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, columns = len(self.hu_knots), len(self.sd_knots)
        for name, shape in (
            ("hu_knots", (rows,)),
            ("sd_knots", (columns,)),
            ("error_hu", (rows, columns)),
            ("single_error_hu", (rows,)),
            ("quantiles", (rows, len(PROBABILITIES))),
            ("prior_sd_hu", (PRIOR_CELLS,) * 3),
        ):
            try:
                values = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"{name}: got no table of numbers, accepted is one of shape {shape}") from None
            if values.shape != shape or values.size == 0 or not np.isfinite(values).all():
                raise ValueError(f"{name}: got shape {values.shape}, accepted are finite numbers of shape {shape}")
            object.__setattr__(self, name, _tuples(values.tolist()))
        for name in ("hu_knots", "sd_knots"):
            if len(getattr(self, name)) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted are two numbers or more, to go between")
            if np.any(np.diff(getattr(self, name)) <= 0):
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted are increasing numbers")
        for name in ("error_hu", "single_error_hu", "prior_sd_hu"):
            if np.min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: got {np.min(getattr(self, name))}, accepted are numbers above 0 [HU]")
        if np.any(np.diff(self.quantiles, axis=1) < 0):
            raise ValueError("quantiles: got decreasing ones, accepted are rows that do not decrease")
        try:
            are_widths = all(0 <= width < math.inf for by_level in self.bounds.values() for width in by_level.values())
        except (AttributeError, TypeError):  # no mappings, or no numbers in them
            are_widths = False
        if not are_widths:
            raise ValueError(f"bounds: got {self.bounds}, accepted are finite numbers of 0 or more by figure and level")


def expected_error(mean_hu: Tensor, sd_hu: Tensor | None, calibration: Calibration) -> Tensor:
    """(D, H, W) root mean square error to be expected of each voxel [HU]: the calibrated SD.

    mean_hu: mean of the samples. sd_hu: their SD as it comes, None for a single sample.
    """
    if sd_hu is None:
        row, along_rows = _position(mean_hu, calibration.hu_knots)
        table = mean_hu.new_tensor(calibration.single_error_hu)
        return torch.lerp(table[row], table[row + 1], along_rows)
    smoothed, table = smooth_volume(sd_hu, SD_SMOOTHING_VOXELS), mean_hu.new_tensor(calibration.error_hu)
    return error_at(mean_hu, smoothed, table, calibration.hu_knots, calibration.sd_knots)


def error_at(
    mean_hu: Tensor, smoothed_sd_hu: Tensor, error_hu: Tensor, hu_knots: Sequence[float], sd_knots: Sequence[float]
) -> Tensor:
    """Bilinear look-up of voxels, of any shape, in a table (len(hu_knots), len(sd_knots)), held beyond its ends."""
    row, along_rows = _position(mean_hu, hu_knots)
    column, along_columns = _position(smoothed_sd_hu, sd_knots)
    low = torch.lerp(error_hu[row, column], error_hu[row, column + 1], along_columns)
    high = torch.lerp(error_hu[row + 1, column], error_hu[row + 1, column + 1], along_columns)
    return torch.lerp(low, high, along_rows)


def quantile_volume(mean_hu: Tensor, error_hu: Tensor, probability: float, calibration: Calibration) -> Tensor:
    """(D, H, W) HU below which the truth lies with `probability`, one of 0.05 to 0.95; error_hu: of `expected_error`."""
    if not PROBABILITIES[0] <= probability <= PROBABILITIES[-1]:
        raise ValueError(f"probability: got {probability}, accepted is {PROBABILITIES[0]} to {PROBABILITIES[-1]}")
    at_knots = [float(np.interp(probability, PROBABILITIES, row)) for row in calibration.quantiles]
    row, along_rows = _position(mean_hu, calibration.hu_knots)
    table = mean_hu.new_tensor(at_knots)
    factor = torch.lerp(table[row], table[row + 1], along_rows)
    return (mean_hu + factor * error_hu).clamp(*HU_WINDOW)


def interval(mean_hu: Tensor, error_hu: Tensor, level: float, calibration: Calibration) -> tuple[Tensor, Tensor]:
    """(lower, upper), each (D, H, W) HU: they hold the truth of a share `level`, up to 0.9, of body voxels."""
    if not 0 < level <= LEVELS[-1]:
        raise ValueError(f"level: got {level}, accepted is above 0 and up to {LEVELS[-1]}")
    low, high = (round((1 + sign * level) / 2, 9) for sign in (-1, 1))
    return (
        quantile_volume(mean_hu, error_hu, low, calibration),
        quantile_volume(mean_hu, error_hu, high, calibration),
    )


def supported_by_xrays(error_hu: Tensor, calibration: Calibration) -> Tensor:
    """(D, H, W) in [0, 1]: the share of what varies between patients at a place that this reconstruction settles.

    1 - E^2 / P^2 (posterior against prior variance): E the expected error of the voxel, P how far patients of the calibration
    lie from their mean there, both root mean square; P counts as 100 HU at least, so that air where every patient has air is
    settled. 0: the two X-rays said no more than "a patient", all contrast seen there is the model's habit. 1: settled.
    Limits: P is known in coarse cells (1/8 of the cube) about the isocentre and of the calibration's population, so a patient
    placed or shaped otherwise gets too little or too much; E speaks of HU, not of whether an edge is in its place; and support
    through the model's knowledge of anatomy, for example a kidney where kidneys are, counts as support.
    """
    cells = error_hu.new_tensor(calibration.prior_sd_hu)[None, None].clamp(min=_LEAST_PRIOR_HU)
    depth, height, width = error_hu.shape
    prior = torch.nn.functional.interpolate(cells, (depth, height, width), mode="trilinear")[0, 0]
    return (1 - (error_hu / prior).square()).clamp(0, 1)


def _position(values: Tensor, knots: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(index of the knot below, share of the way to the next), held at both ends."""
    table = values.new_tensor(knots)
    index = (torch.bucketize(values, table, right=True) - 1).clamp(0, len(knots) - 2)
    return index, ((values - table[index]) / (table[index + 1] - table[index])).clamp(0, 1)


def _tuples(values: Any) -> Any:
    return tuple(_tuples(v) for v in values) if isinstance(values, list) else round(float(values), 4)
