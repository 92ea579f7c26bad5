"""Evaluation: every method on every case, scores where the truth is known, tables that add up."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training import evaluation
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluate_command import EvaluationRequest, named_checkpoints, run_evaluation
from diff2ct_training.tables import (
    bootstrap_interval,
    compare,
    format_number,
    markdown_table,
    read_rows,
    signed_rank_p,
    summarize,
    write_rows,
)

SETUP = BiplanarSetup(pixels=64)


@pytest.fixture(scope="module")
def trunk_case(trunk: CtVolume, small_grid: VolumeGrid) -> evaluation.EvaluationCase:
    from diff2ct.volume_io import resample

    radiographs = render_radiographs(trunk, SETUP.beams((0, 0, 0)), "trunk")
    return evaluation.EvaluationCase(
        "trunks", "trunk", radiographs, resample(trunk, small_grid), np.ones(small_grid.size, bool)
    )


def planned(case: evaluation.EvaluationCase, name: str = "", identity: str = "") -> evaluation.PlannedCase:
    """The case, under another name if one is given."""
    case = replace(case, name=name or case.name)
    return evaluation.PlannedCase(case.dataset, case.name, identity or case.name, lambda: case)


def plan(**methods: evaluation.Method) -> dict[str, evaluation.PlannedMethod]:
    return {name: evaluation.PlannedMethod(name, lambda method=method: method) for name, method in methods.items()}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_perfect_and_biased_methods_score_as_such(trunk_case: evaluation.EvaluationCase, tmp_path: Path) -> None:
    methods = plan(perfect=lambda case: case.truth.hu, plus_50=lambda case: case.truth.hu + np.float32(50))
    seen: list[tuple[str, str]] = []
    rows = evaluation.evaluate([planned(trunk_case)], methods, tmp_path, on_result=lambda *what: seen.append(what))
    assert seen == [("trunk", "perfect"), ("trunk", "plus_50")]
    assert rows[0]["mae_hu_body"] == 0.0 and rows[0]["bone_dice"] == 1.0
    assert rows[1]["bias_hu_whole"] == pytest.approx(50.0, abs=1e-3)
    written = read_csv(tmp_path / "per_case.csv")
    assert [row["method"] for row in written] == ["perfect", "plus_50"]
    assert float(written[1]["bias_hu_whole"]) == pytest.approx(50.0, abs=1e-3)
    files = {"per_case.csv", "summary.csv", "summary.md", "figure_trunks.png", "figure_trunks.json"}
    assert {p.name for p in tmp_path.iterdir()} == files


def test_baselines_run_and_rank_as_physics_says(trunk_case: evaluation.EvaluationCase, tmp_path: Path) -> None:
    rows = evaluation.evaluate([planned(trunk_case)], plan(**evaluation.BASELINES), tmp_path)
    error = {row["method"]: row["mae_hu_whole"] for row in rows}
    assert error["oracle-true-body-flat"] < error["flat-body"]  # a hull of two views is larger than the body
    assert set(error) == set(evaluation.BASELINES)


def test_only_the_scanned_part_is_scored(trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path) -> None:
    short = CtVolume(trunk.hu[40:60], VolumeGrid.centered((20, 60, 70), 4.0))
    write_volume(short, tmp_path / "short_ct.nii.gz")
    case = evaluation.ct_case(tmp_path / "short_ct.nii.gz", small_grid, SETUP)
    assert (case.dataset, case.name) == ("real CTs", "short_ct")
    assert 0.2 < case.mask.mean() < 0.4  # 80 of 256 mm
    assert case.radiographs[0].line_integral[0].max() == 0.0  # nothing was scanned there

    def wrong_elsewhere(case: evaluation.EvaluationCase) -> np.ndarray:
        return np.where(case.mask, case.truth.hu, np.float32(3000.0))

    (row,) = evaluation.evaluate([planned(case)], plan(wrong=wrong_elsewhere), tmp_path / "out")
    assert row["mae_hu_whole"] == 0.0


def test_phantom_case_is_held_out_and_fits_its_radiographs(small_grid: VolumeGrid) -> None:
    case = evaluation.phantom_case(3, small_grid, SETUP, body_spacing_mm=8.0)
    assert case.name == "phantom_003" and case.mask.all()
    assert case.grid == small_grid
    assert case.radiographs[0].line_integral.max() > 3.0  # a trunk, not a cube's worth of air
    with pytest.raises(ValueError, match="10000"):
        evaluation.phantom_case(10000, small_grid, SETUP)


def test_train_mean_uses_training_seeds_only(monkeypatch: pytest.MonkeyPatch, small_grid: VolumeGrid) -> None:
    used: list[int] = []

    def fake_mean(seeds, grid, on_phantom):  # type: ignore[no-untyped-def]
        used.extend(seeds)
        return np.zeros(grid.size, np.float32)

    monkeypatch.setattr(evaluation.baselines, "train_mean", fake_mean)
    evaluation.train_mean_method(4, small_grid)
    assert used == [10000, 10001, 10002, 10003]
    assert not set(used) & set(evaluation.EVALUATION_SEEDS)


def test_command_evaluates_checkpoint_and_baseline(
    tiny_checkpoint: Path, trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path
) -> None:
    (tmp_path / "cts").mkdir()
    write_volume(trunk, tmp_path / "cts" / "trunk.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path / "cts",), checkpoints=(f"tiny={tiny_checkpoint}",),
        methods=("tiny", "flat-body"), num_steps=2,
    )  # fmt: skip
    progress: list[tuple[int, int, str]] = []
    summary = run_evaluation(request, lambda *p: progress.append(p))
    assert progress[-1][:2] == (2, 2)
    assert "| tiny |" in summary and "| flat-body |" in summary and "real CTs (1 case" in summary
    before = read_csv(tmp_path / "out" / "per_case.csv")
    assert "2 steps, 1 samples, seed 0" in before[0]["made_by"] and "baseline flat-body" in before[1]["made_by"]
    run_evaluation(replace(request, num_samples=2), lambda *p: None)
    after = read_csv(tmp_path / "out" / "per_case.csv")
    assert after[0]["made_by"] != before[0]["made_by"] and after[0]["seconds"] != before[0]["seconds"]
    assert after[1] == before[1]  # the number of samples is nothing to a baseline


def test_command_does_not_write_over_foreign_results(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("mine")
    with pytest.raises(ValueError, match=r"summary\.md exists"):
        run_evaluation(EvaluationRequest(output=tmp_path, num_phantoms=1), lambda *p: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_phantoms": 0}, "cases"),
        ({"methods": ("magic",)}, "magic"),
        ({"cts": (Path("nowhere"),)}, "nowhere"),
        ({"checkpoints": ("a=x", "a=y")}, "twice"),
    ],
)
def test_command_refuses(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_evaluation(EvaluationRequest(**{"output": tmp_path, "num_phantoms": 1, **changes}), lambda *p: None)


def test_checkpoint_names() -> None:
    assert named_checkpoints(()) == {"diff2ct": None}
    assert named_checkpoints(("m.safetensors",)) == {"diff2ct": Path("m.safetensors")}
    assert named_checkpoints(("a/one.safetensors", "x=a/two.safetensors")) == {
        "one": Path("a/one.safetensors"), "x": Path("a/two.safetensors"),
    }  # fmt: skip


def rows_of(method: str, values: list[float], dataset: str = "d") -> list[dict]:
    return [{"dataset": dataset, "case": f"c{n}", "method": method, "mae": value} for n, value in enumerate(values)]


def test_summary_has_mean_and_sample_sd() -> None:
    rows = rows_of("a", [1.0, 2.0, 6.0, math.nan])
    (row,) = summarize(rows)
    assert (row["n"], row["mean"], row["median"]) == (3, 3.0, 2.0)
    assert row["sd"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert row["ci95_low"] < 3.0 < row["ci95_high"]
    assert "| a | 3.00 +/- 2.65 |" in markdown_table(rows, ["mae"])


def test_datasets_are_not_mixed() -> None:
    rows = rows_of("a", [1.0, 1.0], "phantoms") + rows_of("a", [9.0], "real CTs")
    assert [(r["dataset"], r["mean"]) for r in summarize(rows)] == [("phantoms", 1.0), ("real CTs", 9.0)]
    assert markdown_table(rows, ["mae"]).count("| a |") == 2


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for n in range(200):
        low, high = bootstrap_interval(rng.normal(size=40), seed=n)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("num", [6, 15, 56])
def test_signed_rank_equals_scipy(num: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(num).normal(0.3, 1.0, num)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_signed_rank_with_ties_by_hand() -> None:
    """|d| = 1, 1, 2: ranks 1.5, 1.5, 3. All positive is one of 8 sign patterns, so p = 2 / 8."""
    assert signed_rank_p(np.array([1.0, 1.0, 2.0])) == pytest.approx(0.25)
    assert signed_rank_p(np.array([0.0, 1.0, -1.0])) == 1.0


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests() -> None:
    good, bad = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.0, 1.5, 3.5, 4.1, 4.0, 6.5, 7.2]
    rows = rows_of("ours", good) + rows_of("worse", [v + 1 + v / 10 for v in good]) + rows_of("similar", bad)
    tests = {test["method"]: test for test in compare(rows, "ours", ["mae"])}
    assert tests["worse"]["p"] == pytest.approx(2 / 2**7)
    assert tests["worse"]["p_holm"] == pytest.approx(2 * tests["worse"]["p"])
    assert tests["similar"]["p_holm"] >= tests["similar"]["p"]
    assert tests["worse"]["mean_difference"] < 0
    assert compare(rows_of("ours", [1.0, 2.0]) + rows_of("other", [2.0, 3.0]), "ours", ["mae"]) == []


def test_rows_with_missing_metrics_keep_their_columns(tmp_path: Path) -> None:
    write_rows([{"case": "a", "x": 1}, {"case": "b", "y": 2}], tmp_path / "rows.csv")
    assert read_csv(tmp_path / "rows.csv") == [{"case": "a", "x": "1", "y": ""}, {"case": "b", "x": "", "y": "2"}]


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (2.345, "2.35"), (45.67, "45.7"), (123.4, "123"), (math.nan, "-")]
)
def test_numbers_in_tables(value: float, text: str) -> None:
    assert format_number(value) == text


def test_cases_are_made_one_at_a_time(trunk_case: evaluation.EvaluationCase, tmp_path: Path) -> None:
    """So that a hundred fit in memory."""
    alive: list[int] = []

    def make(n: int) -> evaluation.EvaluationCase:
        alive.append(n)
        return replace(trunk_case, name=f"case {n}")

    order: list[int] = []
    methods = plan(perfect=lambda case: order.append(len(alive)) or case.truth.hu)
    cases = [evaluation.PlannedCase("trunks", f"case {n}", "", partial(make, n)) for n in range(2)]
    evaluation.evaluate(cases, methods, tmp_path)
    assert order == [1, 2]


class Counted:
    """Methods that count the cases they are run on, and may be made to fail at one."""

    def __init__(self, *, fail_at: str = "") -> None:
        self.runs: list[tuple[str, str]] = []
        self.fail_at = fail_at

    def plan(self, **offsets: float) -> dict[str, evaluation.PlannedMethod]:
        """Method name -> what is added to the truth [HU]; it decides the identity too."""

        def method(case: evaluation.EvaluationCase, name: str, offset: float) -> np.ndarray:
            if case.name == self.fail_at:
                raise KeyboardInterrupt
            self.runs.append((case.name, name))
            return case.truth.hu + np.float32(offset)

        return {
            name: evaluation.PlannedMethod(
                f"plus {offset}", lambda name=name, offset=offset: partial(method, name=name, offset=offset)
            )
            for name, offset in offsets.items()
        }


@pytest.fixture()
def five(trunk_case: evaluation.EvaluationCase, monkeypatch: pytest.MonkeyPatch) -> list[evaluation.PlannedCase]:
    """Five cases, the first of which is in the figure."""
    monkeypatch.setattr(evaluation, "CASES_IN_FIGURE", 1)
    return [planned(trunk_case, f"c{n}") for n in range(5)]


def test_a_repeated_evaluation_computes_nothing(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    rows = evaluation.evaluate(five, Counted().plan(a=0, b=10), tmp_path)
    again = Counted()
    unmade = [replace(case, make=lambda: pytest.fail("rendered again")) for case in five]
    np.testing.assert_equal(evaluation.evaluate(unmade, again.plan(a=0, b=10), tmp_path), rows)
    assert again.runs == []


def test_an_interrupted_evaluation_goes_on(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(five, Counted(fail_at="c3").plan(a=0, b=10), tmp_path)
    rest = Counted()
    rows = evaluation.evaluate(five, rest.plan(a=0, b=10), tmp_path)
    assert rest.runs == [("c3", "a"), ("c3", "b"), ("c4", "a"), ("c4", "b")]
    assert [(row["case"], row["method"]) for row in rows] == [(f"c{n}", m) for n in range(5) for m in "ab"]


def test_more_cases_and_methods_are_added(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    evaluation.evaluate(five[:3], Counted().plan(a=0), tmp_path)
    more = Counted()
    evaluation.evaluate(five[:4], more.plan(a=0, b=10), tmp_path)
    # c0 is in the figure, which now has a column more: its volumes are needed again, its row is not
    assert more.runs == [("c0", "a"), ("c0", "b"), ("c1", "b"), ("c2", "b"), ("c3", "a"), ("c3", "b")]


@pytest.mark.parametrize("what", ["method", "case", "version"])
def test_rows_made_by_something_else_are_computed_again(
    what: str, five: list[evaluation.PlannedCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation.evaluate(five[:2], Counted().plan(a=0), tmp_path)
    if what == "version":
        monkeypatch.setattr(evaluation, "VERSION", evaluation.VERSION + 1)
    cases = [five[0], replace(five[1], identity="another X-ray")] if what == "case" else five[:2]
    again = Counted()
    rows = evaluation.evaluate(cases, again.plan(a=7 if what == "method" else 0), tmp_path)
    assert again.runs == [("c1", "a")] if what == "case" else [("c0", "a"), ("c1", "a")]
    assert rows[1]["bias_hu_whole"] == pytest.approx(7 if what == "method" else 0, abs=1e-3)
    assert len(read_csv(tmp_path / "per_case.csv")) == 2


def test_rows_of_others_stay_but_are_not_summarised(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    evaluation.evaluate(five[:2], Counted().plan(a=0, b=10), tmp_path)
    evaluation.evaluate(five[:1], Counted().plan(c=5), tmp_path)
    kept = [(row["case"], row["method"]) for row in read_csv(tmp_path / "per_case.csv")]
    assert kept == [("c0", "c"), ("c0", "a"), ("c0", "b"), ("c1", "a"), ("c1", "b")]
    assert {row["method"] for row in read_csv(tmp_path / "summary.csv")} == {"c"}


def test_afresh_keeps_nothing(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    evaluation.evaluate(five[:2], Counted().plan(a=0, b=10), tmp_path)
    again = Counted()
    evaluation.evaluate(five[:2], again.plan(a=0), tmp_path, afresh=True)
    assert again.runs == [("c0", "a"), ("c1", "a")]
    assert len(read_csv(tmp_path / "per_case.csv")) == 2


def test_two_cases_of_one_name_are_refused(five: list[evaluation.PlannedCase], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same name among c0, c0"):
        evaluation.evaluate([five[0], five[0]], Counted().plan(a=0), tmp_path)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "dataset,case,method,x\nd,c,m,word\n", "dataset,case,method\nd,c,m,1\n"])
def test_a_foreign_table_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "per_case.csv").write_text(text)
    with pytest.raises(ValueError, match=r"per_case\.csv: is not a table of an evaluation"):
        read_rows(tmp_path / "per_case.csv")


def test_identities_tell_setups_and_files_apart(tmp_path: Path, small_grid: VolumeGrid) -> None:
    for name, content in (("a.nrrd", b"1"), ("b.nrrd", b"1"), ("c.nrrd", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (evaluation.plan_ct(tmp_path / f"{name}.nrrd", small_grid, SETUP) for name in "abc")
    assert a.identity == b.identity != c.identity and a.name != b.name
    assert evaluation.plan_ct(tmp_path / "a.nrrd", small_grid, BiplanarSetup(pixels=65)).identity != a.identity
    assert evaluation.plan_phantom(3, small_grid, SETUP).name == "phantom_003"
    assert len({evaluation.plan_phantom(n, small_grid, SETUP).identity for n in range(3)}) == 3
