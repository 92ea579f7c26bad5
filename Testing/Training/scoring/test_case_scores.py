"""Figures that need more than one file of `scoring`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diff2ct.metrics import WIDE
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.cases import EvaluationCase
from diff2ct_training.evaluation.methods import Prediction
from diff2ct_training.scoring import case_scores
from diff2ct_training.scoring.case_scores import CaseScorer, ScoringOptions


@dataclass
class Difference:
    """Stands in for LPIPS, which needs larger slices: a multiple of the mean absolute difference."""

    name: str
    factor: float

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return self.factor * (prediction - truth).abs().mean(dim=(1, 2))


def case_of(trunk: CtVolume, truth: CtVolume) -> EvaluationCase:
    radiographs = render_radiographs(trunk, BiplanarSetup(pixels=64).beams((0, 0, 0)), "trunk")
    return EvaluationCase("any", "trunk", radiographs, truth, np.ones(truth.grid.size, bool))


def test_what_lies_beyond_the_window_is_covered_at_its_end(trunk: CtVolume, small_grid: VolumeGrid) -> None:
    """Gas below -1000 HU and metal above 4096 HU in the body, which samples cannot reach."""
    truth = resample(trunk, small_grid).hu.copy()
    body = np.argwhere(truth > 0)
    gas, metal = (tuple(body[n :: len(body) // 40].T) for n in (0, 1))
    truth[gas], truth[metal] = -1024.0, 6000.0
    case = case_of(trunk, CtVolume(truth, small_grid))
    noise = np.random.default_rng(0).normal(0, 1, (4, *truth.shape)).astype(np.float32)
    samples = (truth.clip(WIDE.lo, WIDE.hi) + noise).clip(WIDE.lo, WIDE.hi)
    mean = samples.mean(axis=0)
    interval = ((mean - 10).clip(WIDE.lo, WIDE.hi), (mean + 10).clip(WIDE.lo, WIDE.hi))
    scores, _ = CaseScorer(case, ScoringOptions()).score(Prediction(mean, samples, {80: interval}), "any")
    assert scores["coverage_calibrated_80"] == 1.0 and scores["crps_hu"] < 1.0


def test_each_trunk_of_lpips_has_columns_of_its_own(trunk: CtVolume, small_grid: VolumeGrid) -> None:
    case = case_of(trunk, resample(trunk, small_grid))
    distances = (Difference("alex", 1.0), Difference("vgg", 3.0))
    flat = Prediction(np.zeros_like(case.truth.hu), None, {})
    scores, _ = CaseScorer(case, ScoringOptions(), distances).score(flat, "any")  # type: ignore[arg-type]
    planes = ("axial", "coronal", "sagittal")
    assert scores["lpips_alex"] == pytest.approx(np.mean([scores[f"lpips_alex_{plane}"] for plane in planes]))
    assert scores["lpips_vgg"] == pytest.approx(3 * scores["lpips_alex"]) and scores["lpips_alex"] > 0
    assert "lpips" not in scores and "lpips_alex" not in CaseScorer(case, ScoringOptions()).score(flat, "any")[0]


def test_all_that_decides_a_score_is_in_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("alex.pth", "vgg.pth")]
    for file in files:
        torch.save({"name": torch.tensor(len(file.name))}, file)
    both = ScoringOptions(compat=("seed",), lpips=tuple(files))
    told = {options.identity("m", "c") for options in (ScoringOptions(), ScoringOptions(lpips=(files[0],)), both)}
    monkeypatch.setattr(case_scores, "COMPATIBILITY_VERSION", 99)
    assert len(told | {both.identity("m", "c")}) == 4
