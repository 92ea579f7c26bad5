"""Are K samples as far apart as they are from the truth? Coverage, calibration and sharpness of an ensemble, voxel by voxel.

K samples (K, D, H, W) in HU and a truth (D, H, W), over a region (D, H, W) bool. If the truth is to the samples what they are
to each other (exchangeable), every interval below covers it as often as it says.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

LEVELS = (50, 80, 90)
"""Nominal coverages [%]."""
NUM_BINS = 15


def score_samples(samples: np.ndarray, truth: np.ndarray, region: np.ndarray) -> dict[str, float]:
    """All figures of this file. NaN where K is too small for a quantile.

    coverage_t_L: of Student's prediction interval mean +/- t SD sqrt(1 + 1/K), K - 1 degrees of freedom.
    coverage_q_L: of the interval between samples, see `coverage_of_quantiles`; takes K = 3, 9, 19 samples.
    ence: expected normalised calibration error (Levi et al. 2022): over bins of equal counts, mean |RMSE - SD| / SD.
    spread_skill_slope: of RMSE over SD in these bins, through the origin; 1 if calibrated, more if too sure.
    sd_error_spearman: does the SD say where the error is?
    ause: see `sparsification_error`.
    crps_hu: continuous ranked probability score, fair (Ferro 2014) [HU]; for one sample it would be the MAE.
    """
    if samples.ndim != 4 or len(samples) < 2 or samples.shape[1:] != truth.shape:
        raise ValueError(
            f"samples: got shape {samples.shape}, accepted is (K, {', '.join(map(str, truth.shape))}) with K of 2 or more"
        )
    x, y = np.sort(samples[:, region].astype(np.float64), axis=0), truth[region].astype(np.float64)
    mean, sd = x.mean(axis=0), x.std(axis=0, ddof=1)
    scores = {f"coverage_t_{level}": coverage_of_t(mean, sd, len(x), y, level) for level in LEVELS}
    scores |= {f"coverage_q_{level}": coverage_of_quantiles(x, y, level) for level in LEVELS}
    scores |= calibration(sd * math.sqrt(1 + 1 / len(x)), np.abs(y - mean))
    scores["ause"] = sparsification_error(sd, np.abs(y - mean))
    scores["crps_hu"] = fair_crps(x, y)
    return scores


def coverage_of_t(mean: np.ndarray, sd: np.ndarray, count: int, truth: np.ndarray, level: float) -> float:
    """Share of `truth` (N,) inside Student's prediction interval for one more value; mean, sd (N,) are of `count` samples."""
    half = stats.t.ppf(0.5 + level / 200, count - 1) * sd * math.sqrt(1 + 1 / count)
    return float((np.abs(truth - mean) <= half).mean()) if truth.size else math.nan


def coverage_of_quantiles(ordered: np.ndarray, truth: np.ndarray, level: float) -> float:
    """Share of `truth` (N,) between the samples themselves; ordered: (K, N), sorted along K.

    From the i-th least to the i-th greatest of K samples there are K + 1 - 2 i of the K + 1 gaps, each equally likely. A level
    between two such intervals is interpolated between their coverages; one above the widest is NaN.
    """
    gaps = len(ordered) + 1
    position = gaps * (1 - level / 100) / 2
    if position < 1 - 1e-9 or not truth.size:
        return math.nan
    outer = math.floor(position + 1e-9)

    def covered(i: int) -> float:
        return float(((ordered[i - 1] <= truth) & (truth <= ordered[gaps - i - 1])).mean()) if 2 * i < gaps else 0.0

    share = max(position - outer, 0.0)
    return (1 - share) * covered(outer) + share * covered(outer + 1)


def calibration(sd: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """ence, spread_skill_slope, sd_error_spearman of predicted SDs and absolute errors, (N,) each."""
    spread, skill = reliability_curve(sd, error)
    if not len(spread) or not (spread > 0).all():
        return dict.fromkeys(("ence", "spread_skill_slope", "sd_error_spearman"), math.nan)
    step = max(1, sd.size // 200_000)  # a rank correlation of millions is no better than of some 100,000
    return {
        "ence": float((np.abs(skill - spread) / spread).mean()),
        "spread_skill_slope": float((spread * skill).sum() / (spread**2).sum()),
        "sd_error_spearman": float(stats.spearmanr(sd[::step], error[::step]).statistic)
        if np.ptp(sd[::step]) > 0
        else math.nan,
    }


def reliability_curve(sd: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(root mean squared SD, RMSE) of `NUM_BINS` bins of equal counts, from small SD to large; empty if there are fewer."""
    if sd.size < NUM_BINS:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(sd, kind="stable")
    bins = np.array_split(order, NUM_BINS)
    spread = np.array([math.sqrt(float((sd[b] ** 2).mean())) for b in bins])
    skill = np.array([math.sqrt(float((error[b] ** 2).mean())) for b in bins])
    return spread, skill


def sparsification_error(sd: np.ndarray, error: np.ndarray) -> float:
    """Area between two curves (AUSE, Ilg et al. 2018): RMSE of what is left, as a share of all, when the voxels of the largest
    SD are taken away first, and when those of the largest error are, over the share taken away. 0: the SD ranks voxels as
    their errors do. sd, error: (N,); NaN where there is no error at all or nothing to rank."""
    total = float(np.square(error).sum())
    if error.size < NUM_BINS or total == 0:
        return math.nan
    left = np.arange(error.size, 0, -1)

    def curve(rank: np.ndarray) -> np.ndarray:
        squares = np.square(error[np.argsort(-rank, kind="stable")])
        rest = np.concatenate([[total], total - np.cumsum(squares)[:-1]]).clip(min=0)
        return np.sqrt(rest / left / (total / error.size))

    return float((curve(sd) - curve(error)).mean())


def fair_crps(ordered: np.ndarray, truth: np.ndarray) -> float:
    """mean |x - y| - mean |x - x'| / 2 over pairs of different samples; ordered: (K, N), sorted along K."""
    count = len(ordered)
    rank = 2 * np.arange(count) - count + 1
    between = 2 * (rank[:, None] * ordered).sum(axis=0) / (count * (count - 1))  # mean |x - x'|
    return float((np.abs(ordered - truth).mean(axis=0) - between / 2).mean()) if truth.size else math.nan
