"""A reconstruction beside the real CT: brought onto one grid, the difference, and the figures of `metrics`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from diff2ct.metrics import evaluate_volume
from diff2ct.volume import CtVolume
from diff2ct.volume_io import inside_grid, resample

MIN_OVERLAP_PERCENT = 5.0
"""How much of the grid a truth must cover; less is a mistake, not a comparison."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """truth: on the reconstruction's grid. difference_hu: (D, H, W) reconstruction - truth, 0 where the truth has no data.
    scores: `evaluate_volume` where it has; None for a figure over an empty region."""

    truth: CtVolume
    difference_hu: np.ndarray
    scores: dict[str, float | None]


def compare_volumes(volume: CtVolume, scan: CtVolume) -> Comparison:
    """`scan` may lie on any grid in the same frame of reference. Raises ValueError if the two hardly overlap."""
    covered = inside_grid(scan, volume.grid)
    percent = 100 * float(covered.mean())
    if percent < MIN_OVERLAP_PERCENT:
        raise ValueError(
            f"truth: it covers {percent:.1f} % of the reconstruction, accepted is {MIN_OVERLAP_PERCENT:g} % or more: "
            "is it in the X-rays' frame of reference?"
        )
    truth = resample(scan, volume.grid)
    scores = evaluate_volume(torch.from_numpy(volume.hu), torch.from_numpy(truth.hu), torch.from_numpy(covered))
    return Comparison(
        truth=truth,
        difference_hu=np.where(covered, volume.hu - truth.hu, np.float32(0)),
        scores={name: value if math.isfinite(value) else None for name, value in scores.items()},
    )
