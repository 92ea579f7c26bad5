"""What held-out cases teach about a checkpoint's errors: makes the `Calibration` that `diff2ct.uncertainty` reads.

All volumes are (D, H, W) on one grid, HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diff2ct.metrics import body_mask
from diff2ct.patient_figures import figures_of
from diff2ct.smooth import smooth_volume
from diff2ct.uncertainty import LEVELS, PRIOR_CELLS, PROBABILITIES, SD_SMOOTHING_VOXELS, Calibration, error_at
from diff2ct.units import HU_WINDOW

HU_KNOTS = (-1000.0, -800.0, -500.0, -250.0, -120.0, -40.0, 20.0, 70.0, 150.0, 300.0, 600.0, 1200.0)
SD_KNOTS = (0.0, 8.0, 15.0, 22.0, 30.0, 45.0, 70.0, 110.0, 200.0)
_EMPTY_BIN = 500.0  # voxels: a bin with fewer takes most of its error from all bins of the same HU
_VOXELS_PER_CASE = 150_000


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
            error_hu=error_hu.tolist(),
            single_error_hu=_rms_table(single, np.zeros_like(single), truth - single)[:, 0].tolist(),
            quantiles=quantiles.tolist(),
            prior_sd_hu=self._prior_sd().tolist(),
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

    def _prior_sd(self) -> np.ndarray:
        """(PRIOR_CELLS,) * 3."""
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
        return torch.where(share > 0.05, cells, overall).clamp(min=1.0).sqrt().numpy()


def _tables(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(error_hu, quantiles) of a `Calibration` from the voxels of some cases, (4, N) each: mean, smoothed SD, truth, body."""
    mean, sd, truth, body = np.concatenate(rows, axis=1)
    error_hu = _rms_table(mean, sd, truth - mean)
    inside = body > 0
    ratio = (truth - mean)[inside] / _expected(mean[inside], sd[inside], error_hu)
    return error_hu, _quantile_table(mean[inside], ratio)


def _expected(mean: np.ndarray, smoothed_sd: np.ndarray, error_hu: np.ndarray) -> np.ndarray:
    """`error_at` the knots of this file, for single voxels (N,)."""
    table = torch.from_numpy(error_hu).float()
    return error_at(torch.from_numpy(mean), torch.from_numpy(smoothed_sd), table, HU_KNOTS, SD_KNOTS).numpy()


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
