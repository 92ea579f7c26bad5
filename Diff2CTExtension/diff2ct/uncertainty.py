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

from diff2ct.metrics import BONE_DICE_HU, METAL_HU, SKIN_HU, body_mask
from diff2ct.smooth import smooth_volume
from diff2ct.units import HU_WINDOW

LEVELS = (0.5, 0.8, 0.9)
"""Coverages that a calibration is made for."""
PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Quantiles that bound the central intervals of `LEVELS`, and the median."""
HU_KNOTS = (-1000.0, -800.0, -500.0, -250.0, -120.0, -40.0, 20.0, 70.0, 150.0, 300.0, 600.0, 1200.0)
SD_KNOTS = (0.0, 8.0, 15.0, 22.0, 30.0, 45.0, 70.0, 110.0, 200.0)
SD_SMOOTHING_VOXELS = 2.0
"""The SD of a few samples is itself noisy; its neighbours' are as good a measure."""
PRIOR_CELLS = 8

_LEAST_PRIOR_HU = 100.0
_EMPTY_BIN = 500.0  # voxels: a bin with fewer takes most of its error from all bins of the same HU
_VOXELS_PER_CASE = 150_000


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
    bounds: by figure of `figures_of` and by level, "0.8": half width of the conformal interval.
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
            if np.any(np.diff(getattr(self, name)) <= 0):
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted are increasing numbers")
        for name in ("error_hu", "single_error_hu", "prior_sd_hu"):
            if np.min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: got {np.min(getattr(self, name))}, accepted are numbers above 0 [HU]")
        if np.any(np.diff(self.quantiles, axis=1) < 0):
            raise ValueError("quantiles: got decreasing ones, accepted are rows that do not decrease")


def expected_error(mean_hu: Tensor, sd_hu: Tensor | None, calibration: Calibration) -> Tensor:
    """(D, H, W) root mean square error to be expected of each voxel [HU]: the calibrated SD.

    mean_hu: mean of the samples. sd_hu: their SD as it comes, None for a single sample.
    """
    row, along_rows = _position(mean_hu, calibration.hu_knots)
    if sd_hu is None:
        table = mean_hu.new_tensor(calibration.single_error_hu)
        return torch.lerp(table[row], table[row + 1], along_rows)
    column, along_columns = _position(smooth_volume(sd_hu, SD_SMOOTHING_VOXELS), calibration.sd_knots)
    return _bilinear(mean_hu.new_tensor(calibration.error_hu), row, column, along_rows, along_columns)


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


def coverage(truth_hu: Tensor, lower: Tensor, upper: Tensor, region: Tensor) -> float:
    """Share of the voxels of `region` (bool) whose truth lies in [lower, upper]; NaN if there are none."""
    return float(((lower <= truth_hu) & (truth_hu <= upper))[region].double().mean())


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


# Figures of a patient, and how far off they may be


def figures_of(hu: Tensor, voxel_ml: float) -> dict[str, float]:
    """What one may want to read off a volume: amounts of bone, metal and body [ml], mean of the body and of its bone [HU]."""
    body = body_mask(hu)
    bone = (hu > BONE_DICE_HU) & body
    return {
        "body_ml": float(body.sum()) * voxel_ml,
        "bone_ml": float(bone.sum()) * voxel_ml,
        "metal_ml": float((hu > METAL_HU).sum()) * voxel_ml,
        "gas_ml": float((body & (hu < SKIN_HU)).sum()) * voxel_ml,
        "body_mean_hu": float(hu[body].mean()),
    }


def conformal_radius(errors: Sequence[float], level: float) -> float:
    """Half width that a new case's |error| stays within with probability >= `level`: the ceil((n + 1) level)-th smallest of n
    held-out ones (split conformal prediction). inf if they are too few for that level."""
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    return math.inf if rank > len(errors) else float(np.sort(np.abs(errors))[max(rank, 1) - 1])


def check_num_cases(count: int) -> None:
    """ValueError if a calibration cannot be made of so few."""
    if count < 3:
        raise ValueError(f"cases: got {count}, accepted are 3 or more; bounds at 90 % need 9")


class CalibrationFit:
    """Collects held-out cases one by one; `result` makes the calibration."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []  # per case (4, N): mean, smoothed SD, truth, in the body; of some voxels
        self._singles: list[np.ndarray] = []
        self._errors: dict[str, list[float]] = {}
        self._truths: list[Tensor] = []

    def add(self, samples_hu: Tensor, truth_hu: Tensor, known: Tensor, voxel_ml: float, *, weight: float = 1.0) -> None:
        """samples_hu: (K, D, H, W), K of 2 or more. known: (D, H, W) bool, where the truth is. weight: how much the case counts
        in the tables of errors and quantiles, so that a few CTs are heard among many phantoms; drawn in voxels, and so no more
        than a volume has."""
        if samples_hu.ndim != 4 or len(samples_hu) < 2 or samples_hu.shape[1:] != truth_hu.shape:
            got = f"{tuple(samples_hu.shape)} for a truth of {tuple(truth_hu.shape)}"
            raise ValueError(f"samples_hu: got {got}, accepted is (K, D, H, W) with K of 2 or more")
        if not 0 < weight < math.inf:
            raise ValueError(f"weight: got {weight}, accepted is a number above 0")
        truth_hu = torch.where(known, truth_hu, HU_WINDOW[0]).clamp(*HU_WINDOW)
        mean, sd = samples_hu.mean(0), smooth_volume(samples_hu.std(0), SD_SMOOTHING_VOXELS)
        body = body_mask(truth_hu)
        chosen = torch.nonzero(known.flatten())[:, 0]
        shuffle = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(len(self._rows)))
        chosen = chosen[shuffle[: round(weight * _VOXELS_PER_CASE)]]
        self._rows.append(torch.stack([a.flatten()[chosen].float() for a in (mean, sd, truth_hu, body)]).numpy())
        self._singles.append(samples_hu[0].flatten()[chosen].numpy())
        self._truths.append(torch.where(known, truth_hu, torch.nan).half())
        found = figures_of(torch.where(known, mean, HU_WINDOW[0]), voxel_ml)
        for name, value in figures_of(truth_hu, voxel_ml).items():
            self._errors.setdefault(name, []).append(value - found[name])

    def result(self, *, num_samples: int, num_steps: int, provenance: dict[str, Any]) -> Calibration:
        """Raises ValueError with fewer cases than `check_num_cases` accepts."""
        check_num_cases(len(self._rows))
        error_hu, quantiles = _tables(self._rows)
        single, truth = np.concatenate(self._singles), np.concatenate(self._rows, axis=1)[2]
        return Calibration(
            hu_knots=HU_KNOTS,
            sd_knots=SD_KNOTS,
            error_hu=_tuples(error_hu.tolist()),
            single_error_hu=_tuples(_rms_table(single, np.zeros_like(single), truth - single)[:, 0].tolist()),
            quantiles=_tuples(quantiles.tolist()),
            prior_sd_hu=self._prior_sd(),
            bounds={
                name: {str(level): radius for level in LEVELS if math.isfinite(radius := conformal_radius(errors, level))}
                for name, errors in self._errors.items()
            },
            num_cases=len(self._rows),
            num_samples=num_samples,
            num_steps=num_steps,
            provenance=provenance,
        )

    def held_out_coverage(self) -> list[dict[str, float]]:
        """Of each case by level, "0.9": share of its body voxels that the intervals of a calibration without it cover."""
        shares: list[dict[str, float]] = []
        for n, (mean, sd, truth, body) in enumerate(self._rows):
            error_hu, quantiles = _tables(self._rows[:n] + self._rows[n + 1 :])
            inside = body > 0
            ratio = ((truth - mean)[inside]) / _expected(mean[inside], sd[inside], error_hu)
            shares.append({})
            for level in LEVELS:
                low, high = (
                    np.interp(mean[inside], HU_KNOTS, quantiles[:, PROBABILITIES.index(round((1 + sign * level) / 2, 9))])
                    for sign in (-1, 1)
                )
                shares[-1][str(level)] = float(((low <= ratio) & (ratio <= high)).mean())
        return shares

    def _prior_sd(self) -> tuple[tuple[tuple[float, ...], ...], ...]:
        truths = torch.stack([truth.float() for truth in self._truths])  # NaN where not known
        count = (~truths.isnan()).sum(0)
        mean = truths.nanmean(0)
        square = torch.nan_to_num((truths - mean).square()).sum(0)
        # of n cases about their own mean; a new one lies sqrt((n + 1) / n) further
        variance = torch.where(count > 1, square / (count - 1).clamp(min=1) * (count + 1) / count.clamp(min=1), torch.nan)
        known = ~variance.isnan()
        pool = torch.nn.functional.adaptive_avg_pool3d
        share = pool(known.float()[None], PRIOR_CELLS)[0]
        cells = pool(torch.nan_to_num(variance)[None], PRIOR_CELLS)[0] / share.clamp(min=1e-6)
        overall = float(variance[known].mean())
        return _tuples(torch.where(share > 0.05, cells, overall).clamp(min=1.0).sqrt().tolist())


def _position(values: Tensor, knots: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(index of the knot below, share of the way to the next), held at both ends."""
    table = values.new_tensor(knots)
    index = (torch.bucketize(values, table, right=True) - 1).clamp(0, len(knots) - 2)
    return index, ((values - table[index]) / (table[index + 1] - table[index])).clamp(0, 1)


def _tables(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(error_hu, quantiles) of a `Calibration` from the voxels of some cases, (4, N) each: mean, smoothed SD, truth, body."""
    mean, sd, truth, body = np.concatenate(rows, axis=1)
    error_hu = _rms_table(mean, sd, truth - mean)
    inside = body > 0
    ratio = (truth - mean)[inside] / _expected(mean[inside], sd[inside], error_hu)
    return error_hu, _quantile_table(mean[inside], ratio)


def _expected(mean: np.ndarray, smoothed_sd: np.ndarray, error_hu: np.ndarray) -> np.ndarray:
    """Bilinear look-up in a table at `HU_KNOTS` and `SD_KNOTS`, for single voxels (N,)."""
    row, along_rows = _position(torch.from_numpy(mean), HU_KNOTS)
    column, along_columns = _position(torch.from_numpy(smoothed_sd), SD_KNOTS)
    return _bilinear(torch.from_numpy(error_hu).float(), row, column, along_rows, along_columns).numpy()


def _bilinear(table: Tensor, row: Tensor, column: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
    low = torch.lerp(table[row, column], table[row, column + 1], along_columns)
    high = torch.lerp(table[row + 1, column], table[row + 1, column + 1], along_columns)
    return torch.lerp(low, high, along_rows)


def _nearest(values: np.ndarray, knots: Sequence[float]) -> np.ndarray:
    return np.searchsorted((np.array(knots)[1:] + np.array(knots)[:-1]) / 2, values)


def _rms_table(mean: np.ndarray, sd: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(len(HU_KNOTS), len(SD_KNOTS)) root mean square error at the nearest knots. A bin with few voxels leans on all bins of
    the same HU, and these on their neighbours."""
    bins = _nearest(mean, HU_KNOTS) * len(SD_KNOTS) + _nearest(sd, SD_KNOTS)
    size = len(HU_KNOTS) * len(SD_KNOTS)
    count = np.bincount(bins, minlength=size).reshape(len(HU_KNOTS), -1)
    total = np.bincount(bins, weights=error.astype(np.float64) ** 2, minlength=size).reshape(len(HU_KNOTS), -1)
    filled = count.sum(1) >= _EMPTY_BIN
    if not filled.any():
        filled = count.sum(1) > 0
    of_row = np.interp(HU_KNOTS, np.array(HU_KNOTS)[filled], total.sum(1)[filled] / count.sum(1)[filled])
    return np.sqrt((total + of_row[:, None] * _EMPTY_BIN) / (count + _EMPTY_BIN)).clip(min=1.0)


def _quantile_table(mean: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """(len(HU_KNOTS), len(PROBABILITIES)) quantiles of `ratio` at the nearest knots; of all where a knot has too few."""
    bins, overall = _nearest(mean, HU_KNOTS), np.quantile(ratio, PROBABILITIES)
    table = np.tile(overall, (len(HU_KNOTS), 1))
    for row in range(len(HU_KNOTS)):
        inside = bins == row
        if inside.sum() >= _EMPTY_BIN:
            table[row] = np.quantile(ratio[inside], PROBABILITIES)
    return table


def _tuples(values: Any) -> Any:
    return tuple(_tuples(v) for v in values) if isinstance(values, list) else round(float(values), 4)
