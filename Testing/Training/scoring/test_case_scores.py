"""Figures that need more than one file of `scoring`."""

from __future__ import annotations

import numpy as np

from diff2ct.metrics import WIDE
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.cases import EvaluationCase
from diff2ct_training.evaluation.methods import Prediction
from diff2ct_training.scoring.case_scores import CaseScorer, ScoringOptions


def test_what_lies_beyond_the_window_is_covered_at_its_end(trunk: CtVolume, small_grid: VolumeGrid) -> None:
    """Gas below -1000 HU and metal above 4096 HU in the body, which samples cannot reach."""
    truth = resample(trunk, small_grid).hu.copy()
    body = np.argwhere(truth > 0)
    gas, metal = (tuple(body[n :: len(body) // 40].T) for n in (0, 1))
    truth[gas], truth[metal] = -1024.0, 6000.0
    radiographs = render_radiographs(trunk, BiplanarSetup(pixels=64).beams((0, 0, 0)), "trunk")
    case = EvaluationCase("any", "trunk", radiographs, CtVolume(truth, small_grid), np.ones(small_grid.size, bool))
    noise = np.random.default_rng(0).normal(0, 1, (4, *truth.shape)).astype(np.float32)
    samples = (truth.clip(WIDE.lo, WIDE.hi) + noise).clip(WIDE.lo, WIDE.hi)
    mean = samples.mean(axis=0)
    interval = ((mean - 10).clip(WIDE.lo, WIDE.hi), (mean + 10).clip(WIDE.lo, WIDE.hi))
    scores, _ = CaseScorer(case, ScoringOptions()).score(Prediction(mean, samples, {80: interval}), "any")
    assert scores["coverage_calibrated_80"] == 1.0 and scores["crps_hu"] < 1.0
