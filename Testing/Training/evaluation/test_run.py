"""Evaluation: every method on every case, scores where the truth is known, and nothing computed twice."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.patient_figures import figures_of
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_volume, write_volume
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation import run
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase, ct_case
from diff2ct_training.evaluation.methods import BASELINES, Prediction, plan_baseline
from diff2ct_training.evaluation.run import evaluate
from diff2ct_training.scoring.case_scores import ScoringOptions
from diff2ct_training.scoring.grid_ceiling import part_in


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; `test_report` looks at it."""
    monkeypatch.setattr(run, "write_report", lambda *arguments: None)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_perfect_and_biased_methods_score_as_such(planned, plan, tmp_path: Path) -> None:
    methods = plan(perfect=lambda case: case.truth.hu, plus_50=lambda case: case.truth.hu + np.float32(50))
    seen: list[tuple[str, str]] = []
    rows = evaluate([planned()], methods, tmp_path, on_result=lambda *what: seen.append(what))
    assert seen == [("trunk", "perfect"), ("trunk", "plus_50")]
    assert rows[0]["mae_hu_body"] == 0.0 and rows[0]["bone_dice"] == 1.0
    assert rows[1]["bias_hu_whole"] == pytest.approx(50.0, abs=0.5)
    written = read_csv(tmp_path / "per_case.csv")
    assert [row["method"] for row in written] == ["perfect", "plus_50"]
    assert float(written[1]["bias_hu_whole"]) == rows[1]["bias_hu_whole"]
    assert written[0]["pixel_spacing_mm"] == "0.5" and written[0]["bone_dice_in_true_vertebrae"] == "1.0"
    assert rows[0]["reprojection_ncc_frontal"] > 0.8 > 0.5 > rows[0]["reprojection_l2_lateral"]  # the rod leaves the cube
    assert rows[0]["screw_recall"] == 0.0 and [row["level"] for row in read_csv(tmp_path / "per_screw.csv")] == ["L4", "L4"]


def test_baselines_run_and_rank_as_physics_says(planned, plan, tmp_path: Path) -> None:
    others = ("sirt", "sirt-tv", "oracle-grid")  # test_baselines runs the first two; the last needs a scan
    quick = {name: method for name, method in BASELINES.items() if name not in others}
    rows = evaluate([planned()], plan(**quick), tmp_path)
    error = {row["method"]: row["mae_hu_whole"] for row in rows}
    assert error["oracle-truth"] < error["oracle-true-body-flat"] < error["flat-body"]  # a hull of two views is too large
    assert set(error) == set(quick)


def test_only_the_scanned_part_is_scored(trunk: CtVolume, small_grid: VolumeGrid, plan, tmp_path: Path) -> None:
    short = CtVolume(trunk.hu[40:60], VolumeGrid.centered((20, 60, 70), 4.0))
    write_volume(short, tmp_path / "short_ct.nii.gz")
    case = ct_case(tmp_path / "short_ct.nii.gz", small_grid, BiplanarSetup(pixels=64))
    assert 0.2 < case.mask.mean() < 0.4  # 80 of 256 mm

    def wrong_elsewhere(case: EvaluationCase) -> np.ndarray:
        return np.where(case.mask, case.truth.hu, np.float32(3000.0))

    (row,) = evaluate([PlannedCase("d", "short", "", lambda: case)], plan(wrong=wrong_elsewhere), tmp_path / "out")
    assert row["mae_hu_whole"] == 0.0


def test_the_ceiling_of_the_grid_is_of_cts_with_their_own_voxels(trunk: CtVolume, planned, plan, tmp_path: Path) -> None:
    case = planned()
    scan = part_in(trunk, case.make().grid)
    of_ct = replace(
        case, dataset="CTs", name="ct", make=lambda: replace(case.make(), name="ct", read_scan=lambda: scan), has_scan=True
    )
    methods = {**plan(perfect=lambda case: case.truth.hu), "oracle-grid": plan_baseline("oracle-grid")}
    rows = evaluate([case, of_ct], methods, tmp_path, keep_volumes=True)
    assert [(row["dataset"], row["method"]) for row in rows] == [
        ("trunks", "perfect"), ("CTs", "perfect"), ("CTs", "oracle-grid"),
    ]  # fmt: skip
    assert rows[1]["mae_hu_bone"] == 0 < rows[2]["mae_hu_bone"] and rows[2]["bone_dice"] < 1 and "rmse_hu_body" not in rows[2]
    assert not (tmp_path / "volumes" / "oracle-grid" / "trunk.nrrd").exists()
    with pytest.raises(ValueError, match="got none that oracle-grid runs on"):
        evaluate([case], {"oracle-grid": plan_baseline("oracle-grid")}, tmp_path / "none")


def test_samples_have_a_row_for_their_mean_and_one_for_the_first(planned, counted, tmp_path: Path) -> None:
    mean, one = evaluate([planned()], counted(num_samples=4).plan(a=0), tmp_path)
    assert (mean["method"], one["method"]) == ("a", "a, one sample")
    shifts = np.random.default_rng(0).normal(0, 50, 4)
    assert mean["bias_hu_body"] == pytest.approx(shifts.mean(), abs=1.0)
    assert one["bias_hu_body"] == pytest.approx(shifts[0], abs=1.0)
    assert 0 <= mean["coverage_t_80"] <= 1 and "coverage_t_80" not in one
    assert mean["coverage_calibrated_80"] == 1.0 and "coverage_calibrated_80" not in one
    assert one["seconds"] == pytest.approx(mean["seconds"] / 4)


def test_bounds_of_a_calibration_hold_or_do_not(planned, trunk_case: EvaluationCase, plan, tmp_path: Path) -> None:
    true = figures_of(torch.from_numpy(trunk_case.truth.hu), math.prod(trunk_case.grid.spacing_mm) / 1000)
    bounds = {"body_mean_hu": {"0.5": 20.0, "0.9": 40.0}, "body_ml": {"0.5": true["body_ml"], "0.9": true["body_ml"]}}

    def denser(case: EvaluationCase) -> Prediction:
        return Prediction(case.truth.hu + 30, None, {}, bounds)

    (row,) = evaluate([planned()], plan(denser=denser), tmp_path)
    assert (row["bounds_hold_50"], row["bounds_hold_90"]) == (0.5, 1.0) and "bounds_hold_80" not in row


def test_other_papers_figures_come_on_request_only(planned, counted, tmp_path: Path) -> None:
    (row,) = evaluate([planned()], counted().plan(a=30), tmp_path)
    assert not [name for name in row if name.endswith("_compat")]
    more = counted()
    (row,) = evaluate([planned()], more.plan(a=30), tmp_path, scoring=ScoringOptions(compat=("seed", "x2ct")))
    assert more.runs and row["mae_seed_compat"] == pytest.approx(2 * row["mae_wide"], rel=1e-4)


def test_labels_of_a_reconstruction_are_scored(planned, counted, trunk_case: EvaluationCase, tmp_path: Path) -> None:
    grid = trunk_case.grid
    (tmp_path / "labels").mkdir()
    for shift, expected in ((0, 1.0), (1, 0.7)):
        labels = np.roll(trunk_case.labels, shift, axis=1).astype(np.float32)
        write_volume(CtVolume(labels, grid), tmp_path / "labels" / "trunk.nrrd", overwrite=True)
        scoring = ScoringOptions(predicted_labels={"a": tmp_path / "labels"})
        (row,) = evaluate([planned()], counted().plan(a=0), tmp_path / "out", scoring=scoring)
        assert row["vertebra_dice"] == pytest.approx(expected, abs=0.12)
        assert math.isnan(row["lordosis_error_deg"]), "a block has no canal"
        assert row["vertebra_centroid_mm"] == pytest.approx(8.0 * shift, abs=1e-3)  # recomputed: other labels, other row


def test_volumes_are_kept_on_request(planned, counted, trunk_case: EvaluationCase, tmp_path: Path) -> None:
    evaluate([planned()], counted().plan(a=7), tmp_path)
    again = counted()
    evaluate([planned()], again.plan(a=7), tmp_path, keep_volumes=True)
    assert again.runs == [("trunk", "a")]  # its row was there, its volume was not
    volume, attributes = read_volume(tmp_path / "volumes" / "a" / "trunk.nrrd")
    assert volume.grid == trunk_case.grid and attributes["MadeBy"] == "plus 7"
    assert np.abs(volume.hu - trunk_case.truth.hu - 7).max() <= 0.5


def test_datasets_may_have_cases_of_one_name(planned, counted, tmp_path: Path) -> None:
    cases = [replace(planned(identity=dataset), dataset=dataset) for dataset in ("one", "two")]
    rows = evaluate(cases, counted().plan(a=0), tmp_path)
    assert [(row["dataset"], row["case"]) for row in rows] == [("one", "trunk"), ("two", "trunk")]
    assert len({row["made_by"] for row in rows}) == 2


def test_cases_are_made_one_at_a_time(trunk_case: EvaluationCase, plan, tmp_path: Path) -> None:
    """So that a hundred fit in memory."""
    alive: list[int] = []

    def make(n: int) -> EvaluationCase:
        alive.append(n)
        return replace(trunk_case, name=f"case {n}")

    order: list[int] = []
    methods = plan(perfect=lambda case: order.append(len(alive)) or case.truth.hu)
    cases = [PlannedCase("trunks", f"case {n}", "", partial(make, n)) for n in range(2)]
    evaluate(cases, methods, tmp_path)
    assert order == [1, 2]


def test_a_repeated_evaluation_computes_nothing(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    rows = evaluate(five, counted().plan(a=0, b=10), tmp_path)
    again = counted()
    unmade = [replace(case, make=lambda: pytest.fail("rendered again")) for case in five]
    np.testing.assert_equal(evaluate(unmade, again.plan(a=0, b=10), tmp_path), rows)
    assert again.runs == []


def test_an_interrupted_evaluation_goes_on(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(five, counted(fail_at="c3").plan(a=0, b=10), tmp_path)
    rest = counted()
    rows = evaluate(five, rest.plan(a=0, b=10), tmp_path)
    assert rest.runs == [("c3", "a"), ("c3", "b"), ("c4", "a"), ("c4", "b")]
    assert [(row["case"], row["method"]) for row in rows] == [(f"c{n}", m) for n in range(5) for m in "ab"]


def test_more_cases_and_methods_are_added(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    evaluate(five[:2], counted().plan(a=0), tmp_path)
    more = counted()
    evaluate(five[:3], more.plan(a=0, b=10), tmp_path)
    assert more.runs == [("c0", "b"), ("c1", "b"), ("c2", "a"), ("c2", "b")]


@pytest.mark.parametrize("what", ["method", "case", "version", "file"])
def test_results_made_by_something_else_or_lost_are_computed_again(
    what: str, five: list[PlannedCase], counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(five[:2], counted().plan(a=0), tmp_path)
    if what == "version":
        monkeypatch.setattr(run, "VERSION", run.VERSION + 1)
    if what == "file":
        (tmp_path / "results" / "trunks" / "c1" / "a.npz").write_bytes(b"cut short")
    cases = [five[0], replace(five[1], identity="another X-ray")] if what == "case" else five[:2]
    again = counted()
    rows = evaluate(cases, again.plan(a=7 if what == "method" else 0), tmp_path)
    assert again.runs == [("c1", "a")] if what in ("case", "file") else [("c0", "a"), ("c1", "a")]
    assert rows[1]["bias_hu_whole"] == pytest.approx(7 if what == "method" else 0, abs=0.5)
    assert len(read_csv(tmp_path / "per_case.csv")) == 2


def test_rows_tell_patients_and_those_that_did_not_are_kept(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    evaluate(five, counted().plan(a=0), tmp_path)
    assert "patient" not in read_csv(tmp_path / "per_case.csv")[0], "each is a patient of its own"
    again = counted()
    known = [replace(case, patient="one" if n < 4 else case.name) for n, case in enumerate(five)]
    rows = evaluate(known, again.plan(a=0), tmp_path)
    assert again.runs == [] and [row.get("patient") for row in rows] == ["one"] * 4 + [None]
    assert [row["patient"] for row in read_csv(tmp_path / "per_case.csv")] == ["one"] * 4 + [""]


def test_rows_of_others_stay_but_are_not_reported(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    evaluate(five[:2], counted().plan(a=0, b=10), tmp_path)
    assert [row["method"] for row in evaluate(five[:1], counted().plan(c=5), tmp_path)] == ["c"]
    kept = [(row["case"], row["method"]) for row in read_csv(tmp_path / "per_case.csv")]
    assert kept == [("c0", "c"), ("c0", "a"), ("c0", "b"), ("c1", "a"), ("c1", "b")]


def test_afresh_keeps_nothing(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    evaluate(five[:2], counted().plan(a=0, b=10), tmp_path)
    again = counted()
    evaluate(five[:2], again.plan(a=0), tmp_path, afresh=True)
    assert again.runs == [("c0", "a"), ("c1", "a")]
    assert len(read_csv(tmp_path / "per_case.csv")) == 2


@pytest.mark.parametrize(
    ("cases", "methods", "message"),
    [
        (("P 1.nii", "P_1.nii"), ("a",), "a of P 1.nii and a of P_1.nii"),
        (("c", "C"), ("a",), "a of c and a of C"),
        (("c",), ("a b", "a_b"), "a b of c and a_b of c"),
        (("c",), ("Truth",), "Truth of c and truth of c"),
    ],
)
def test_results_that_would_be_kept_in_one_file_are_refused(
    cases: tuple[str, ...], methods: tuple[str, ...], message: str, planned, counted, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate([planned(name) for name in cases], counted().plan(**dict.fromkeys(methods, 0)), tmp_path)


def test_two_cases_of_one_name_are_refused(five: list[PlannedCase], counted, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same name among c0, c0"):
        evaluate([five[0], five[0]], counted().plan(a=0), tmp_path)
