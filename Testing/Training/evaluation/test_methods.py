"""Methods that know the training patients: which of them, and how rows tell that they have changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diff2ct.checkpoint import load_checkpoint, save_checkpoint
from diff2ct.consistency import Consistency
from diff2ct.volume import VolumeGrid
from diff2ct.volume_io import resample
from diff2ct_training.cases import Case, write_case
from diff2ct_training.evaluation.cases import EvaluationCase
from diff2ct_training.evaluation.methods import (
    CheckpointUse,
    Prediction,
    plan_checkpoint,
    plan_nearest_neighbour,
    plan_train_mean,
    training_patients,
)
from diff2ct_training.scoring.case_scores import CaseScorer, ScoringOptions
from tiny import tiny_calibration

GRID = VolumeGrid.centered(8, 16.0)


def write(folder: Path, name: str, hu: int, split: str = "train", variant: int = 0) -> None:
    array = np.full(GRID.size, hu, np.int16)
    kind = name.partition("_")[0]
    write_case(folder, Case(name, kind, array, GRID, (0.0, 0.0, 0.0), "", split=split, record={"variant": variant}))


@pytest.fixture()
def cases(tmp_path: Path) -> Path:
    write(tmp_path, "ct_a_000", 10)
    write(tmp_path, "ct_a_001", 1000, variant=1)
    write(tmp_path, "ct_b_000", 30)
    write(tmp_path, "ct_c_000", 1000, split="test")
    write(tmp_path, "phantom_010000", 1000)
    return tmp_path


def test_training_patients_are_counted_once(cases: Path) -> None:
    assert [file.stem for file in training_patients(cases)] == ["ct_a_000", "ct_b_000", "phantom_010000"]


def test_the_mean_for_cts_is_of_training_cts(cases: Path, trunk_case: EvaluationCase) -> None:
    mean = plan_train_mean(1, GRID, training_patients(cases)).build()
    alone = plan_train_mean(1, GRID).build()
    for dataset in ("real CTs", "CTs, test split", "phantoms", "phantoms, test split"):
        case = replace(trunk_case, dataset=dataset)
        found, without = mean(case), alone(case)
        assert isinstance(found, np.ndarray) and isinstance(without, np.ndarray)
        assert (found == 20).all() if "CTs" in dataset else (found == without).all() and found.std() > 100


def test_cases_that_are_prepared_anew_are_another_method(cases: Path) -> None:
    before = training_patients(cases)
    mean, nearest = plan_train_mean(1, GRID, before).identity, plan_nearest_neighbour(1, before).identity
    write(cases, "ct_b_000", 31)
    assert plan_train_mean(1, GRID, before).identity != mean
    assert plan_nearest_neighbour(1, before).identity != nearest


def test_rows_of_an_evaluation_on_phantoms_are_kept() -> None:
    assert plan_train_mean(32, GRID).identity == "mean of 32 training phantoms"
    assert plan_nearest_neighbour(32).identity == "nearest of 32 training phantoms"


def test_agreement_with_the_xrays_is_told_before_and_after_data_consistency(
    tiny_checkpoint: Path, trunk_case: EvaluationCase, tmp_path: Path
) -> None:
    """Of the mean alone: what a sample would have been before is not known."""
    file = tmp_path / "calibrated.safetensors"
    save_checkpoint(file, replace(load_checkpoint(tiny_checkpoint), calibration=tiny_calibration()))
    scorer = CaseScorer(trunk_case, ScoringOptions())
    scores = {}
    for name, options in (
        ("with", Consistency(least_error_hu=0.0, noise=0.05)),
        ("nothing", Consistency(trust=0.0)),
        ("no", False),
    ):
        use = CheckpointUse(file=file, num_steps=2, num_samples=2, consistency=options)
        planned = plan_checkpoint(load_checkpoint(file), use)
        prediction = planned.build()(trunk_case)
        assert isinstance(prediction, Prediction)
        scores[name] = scorer.score(prediction, name)[0]
        assert not [column for column in scorer.score(prediction.first(), name)[0] if "before" in column]
    for view in ("frontal", "lateral"):
        before, after = (f"reprojection_{when}l2_{view}" for when in ("before_", ""))
        assert scores["with"][after] < scores["with"][before] == scores["nothing"][after]
        assert scores["with"][f"reprojection_before_ncc_{view}"] == scores["nothing"][f"reprojection_ncc_{view}"]
    assert not [column for column in scores["no"] if "before" in column]


def test_agreement_before_data_consistency_is_empty_where_it_would_be_of_other_voxels(
    tiny_checkpoint: Path, trunk_case: EvaluationCase, tmp_path: Path
) -> None:
    """What comes after is of the case's voxels."""
    file = tmp_path / "calibrated.safetensors"
    save_checkpoint(file, replace(load_checkpoint(tiny_checkpoint), calibration=tiny_calibration()))
    run = plan_checkpoint(load_checkpoint(file), CheckpointUse(file=file, num_steps=1, consistency=Consistency())).build()
    depth, height, width = trunk_case.grid.size
    for size, spacing in (((depth, height, width), 4.0), ((depth, height, width - 2), 8.0)):
        truth = resample(trunk_case.truth, VolumeGrid.centered(size, spacing))
        case = replace(trunk_case, truth=truth, mask=np.ones(size, bool), labels=None, screws=None)
        prediction = run(case)
        assert isinstance(prediction, Prediction)
        scores, _ = CaseScorer(case, ScoringOptions()).score(prediction, "")
        assert "reprojection_l2_frontal" in scores and not [column for column in scores if "before" in column]
