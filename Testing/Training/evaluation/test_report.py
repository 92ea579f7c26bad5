"""The report: what it says is what the rows say, and it needs nothing but itself."""

from __future__ import annotations

import base64
import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from diff2ct_training.evaluation import plots
from diff2ct_training.evaluation.catalog import SECTIONS
from diff2ct_training.evaluation.dataset_report import (
    LEGACY_FID,
    ORACLE,
    DatasetReport,
    best_of,
    coarsest_case,
    report_dataset,
    table_of,
    typical_case,
    worst_case,
)
from diff2ct_training.evaluation.report import markdown_summary
from diff2ct_training.evaluation.results import Results
from diff2ct_training.evaluation.run import evaluate
from diff2ct_training.evaluation.statistics import compare, holm
from diff2ct_training.scoring.case_scores import ScoringOptions
from diff2ct_training.scoring.distribution import fid


class Pooled(nn.Module):
    """Means of a 3 x 3 grid of patches: a feature extractor with Inception's interface."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        assert return_features
        return nn.functional.adaptive_avg_pool2d(images[:, :1].float(), 3).flatten(1)


@pytest.fixture(scope="module")
def output(trunk_case, planned, counted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven cases, three methods and an oracle, with features: everything that a report can show."""
    folder = tmp_path_factory.mktemp("report")
    torch.jit.script(Pooled()).save(str(folder / "pooled.pt"))
    cases = [planned(f"c{n}", pixel_spacing_mm=0.5 + 0.1 * n) for n in range(7)]
    methods = {**counted(num_samples=4).plan(ours=0), **counted().plan(other=60, **{"oracle-truth": 0})}
    scoring = ScoringOptions(compat=("x2ct",), inception=folder / "pooled.pt")
    evaluate(cases, methods, folder / "out", scoring=scoring, settings=[("ours", "a <test> & more")])
    return folder / "out"


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return (output / "report.html").read_text(encoding="utf-8")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_are_there(output: Path) -> None:
    names = {p.name for p in output.iterdir()}
    tables = {"per_case.csv", "per_screw.csv", "summary.csv", "tests.csv", "distribution.csv", "summary.md", "summary.tex"}
    assert tables <= names
    figures = {f"figure_{n}_trunks" for n in ("scores", "typical", "worst", "coarse", "spacing", "coverage")}
    assert figures == {Path(name).stem for name in names if name.startswith("figure_")}


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page) and not re.search(r"<(?:link|iframe|object|embed)\b", page)
    assert "@import" not in page and "url(" not in page and "http" not in re.sub(r"base64,[^\"]+", "", page)
    images = re.findall(r"data:image/(png|svg\+xml);base64,([^\"]+)", page)
    assert len(images) == 6
    for kind, data in images:
        assert base64.b64decode(data).startswith(b"\x89PNG" if kind == "png" else b"<?xml")


def test_the_page_is_well_formed_and_escapes_what_it_is_told(page: str) -> None:
    assert "a &lt;test&gt; &amp; more" in page and "<test>" not in page
    for tag in ("table", "section", "figure", "details", "tr", "div"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_the_page_has_every_section_that_has_scores(page: str) -> None:
    titles = re.findall(r"<h3>([^<&]+)</h3>", page)
    given = {"Inside the body", "HU error by tissue", "Vertebrae", "Pedicle screws", "Uncertainty", "Other papers' conventions"}
    assert {t.replace("&#x27;", "'") for t in re.findall(r"<h3>([^<]+)</h3>", page)} >= given
    assert "Distribution of slices" in titles and "synthetic - research use only - not for diagnosis" in page


def test_a_method_is_in_the_tables_that_it_has_a_score_of(page: str) -> None:
    one_sample = "<th scope=row>ours, one sample</th>"  # it has no spread
    for title, there in (("Uncertainty", False), ("Whole volume", True)):
        table = page[page.index(f"<h3>{title}</h3>") :].partition("</table>")[0]
        assert "<th scope=row>ours</th>" in table and (one_sample in table) == there


def test_numbers_on_the_page_are_the_means_of_the_rows(output: Path, page: str) -> None:
    rows = [row for row in read_csv(output / "per_case.csv") if row["method"] == "other"]
    mean = np.mean([float(row["mae_hu_body"]) for row in rows])
    line = re.search(r"<th scope=row>other</th>.*?</tr>", page[page.index("<h3>Inside the body") :])
    assert line is not None and f">{mean:.1f}" in line[0]
    summary = {(r["method"], r["metric"]): r for r in read_csv(output / "summary.csv")}
    assert float(summary["other", "mae_hu_body"]["mean"]) == pytest.approx(mean)


def test_pooled_distances_are_of_all_slices_of_all_cases(output: Path) -> None:
    rows = {(row["method"], row["plane"]): row for row in read_csv(output / "distribution.csv")}
    assert rows["ours", "axial"]["slices"] == str(7 * 32) and rows["ours", "mean"]["slices"] == str(3 * 7 * 32)
    stored = Results(output)
    pooled = {
        method: np.concatenate([stored.arrays(("trunks", f"c{n}", method))["features_sagittal"] for n in range(7)])
        for method in ("other", "truth")
    }
    assert float(rows["other", "sagittal"]["fid"]) == pytest.approx(fid(pooled["other"], pooled["truth"]))
    assert float(rows["oracle-truth", "mean"]["fid"]) == pytest.approx(0.0, abs=1e-6)
    planes = [float(rows["other", plane]["kid"]) for plane in ("axial", "coronal", "sagittal")]
    assert float(rows["other", "mean"]["kid"]) == pytest.approx(np.mean(planes))


def test_the_legacy_fid_is_the_mean_of_single_cases(output: Path, page: str) -> None:
    rows = {(row["method"], row["plane"]): row for row in read_csv(output / "distribution.csv")}
    stored = Results(output)
    planes = []
    for plane in ("axial", "coronal", "sagittal"):
        single = [
            fid(*(stored.arrays(("trunks", f"c{n}", method))[f"features_{plane}"] for method in ("other", "truth")))
            for n in range(7)
        ]
        planes.append(float(rows["other", plane]["fid_per_case_legacy"]))
        assert planes[-1] == pytest.approx(np.mean(single)) and planes[-1] != float(rows["other", plane]["fid"])
    assert float(rows["other", "mean"]["fid_per_case_legacy"]) == pytest.approx(np.mean(planes))
    assert "<th>FID per case <i>legacy</i></th>" in page and f"<td>{np.mean(planes):.1f}</td></tr>" in page
    summary = (output / "summary.md").read_text(encoding="utf-8")
    assert LEGACY_FID in page.replace("&#x27;", "'") and LEGACY_FID in summary and f"| {np.mean(planes):.1f} |" in summary


def test_of_a_single_case_the_legacy_fid_is_the_fid(planned, counted, output: Path, tmp_path: Path) -> None:
    scoring = ScoringOptions(inception=output.parent / "pooled.pt")
    evaluate([planned()], counted().plan(other=60), tmp_path, scoring=scoring)
    for row in read_csv(tmp_path / "distribution.csv"):
        assert float(row["fid_per_case_legacy"]) == pytest.approx(float(row["fid"])) and float(row["fid"]) > 0


def test_the_summary_tells_what_was_tested(output: Path, planned, counted, tmp_path: Path) -> None:
    summary = (output / "summary.md").read_text(encoding="utf-8")
    assert 'differs from ours (paired Wilcoxon, p < 0.05, Holm-corrected within a table, in "Inside the body"' in summary
    evaluate([planned()], counted().plan(a=0, b=10), tmp_path)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "No tests: they need two methods and 6 patients whose scores differ." in summary


def test_each_tested_table_has_a_correction_of_its_own(output: Path, page: str) -> None:
    rows = read_csv(output / "tests.csv")
    families = [set(section.tests) for section in SECTIONS if section.tests]
    for family in families:
        found = [{**row, "p": float(row["p"])} for row in rows if row["metric"] in family]
        assert [test["p_holm"] for test in holm(found)] == pytest.approx([float(row["p_holm"]) for row in found])
    assert {"mae_hu_body", "psnr_wide", "reprojection_l2_frontal"} < {row["metric"] for row in rows}
    assert page.index("<h3>Whole volume</h3>") < page.index('<figure class="wide">') < page.index("<h3>Vertebrae</h3>")
    assert "The ceiling of the grid" in page and "oracle-grid" not in (output / "summary.md").read_text(encoding="utf-8")


def test_scans_of_a_patient_are_one_dot_of_the_spacing_figure() -> None:
    rows = [{"case": f"c{n}", "patient": f"p{n // 2}", "pixel_spacing_mm": 0.5 + n, "bone_dice": 0.1 * n} for n in range(8)]
    axes = Figure().subplots()
    plots._scatter_with_trend(axes, rows, "bone_dice", "k", 0)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[1 + 2 * n, 0.05 + 0.2 * n] for n in range(4)])


def test_drawn_cases_are_the_median_the_worst_and_the_coarsest(output: Path) -> None:
    stored = Results(output)
    keys = [(row["dataset"], row["case"], row["method"]) for row in read_csv(output / "per_case.csv")]
    dataset = report_dataset(stored, keys)
    for n, row in enumerate(r for r in dataset.rows if r["method"] == "ours"):
        row["ssim_3d_body"] = [0.5, 0.9, 0.1, 0.7, 0.6, 0.8, float("nan")][n]
    assert worst_case(dataset) == "c2" and typical_case(dataset) == "c3"  # of six, the fourth
    assert coarsest_case(dataset) == "c6"
    assert dataset.reference == "ours" and not [t for t in dataset.tests if t["method"].startswith(ORACLE)]
    assert not [t for t in dataset.tests if t["method"] == "ours, one sample"]


def test_the_best_of_a_table() -> None:
    assert best_of({"a": 1.0, "b": 2.0}, "up") == {"b"} and best_of({"a": 1.0, "b": 2.0}, "down") == {"a"}
    assert best_of({"a": -1.0, "b": 2.0}, "zero") == {"a"} and best_of({"a": 1.0, "b": 2.0}, "") == set()
    assert best_of({"a": 1.0, "b": 1.0}, "up") == set() == best_of({"a": 1.0}, "up")
    assert best_of({"a": 1.0, "b": 1.0, "c": 0.0}, "up") == {"a", "b"}


def test_no_method_is_best_in_errors_of_what_it_found() -> None:
    """Who finds only the easy ones has smaller errors, and is not better; the tests say in which cases they are."""
    section = next(section for section in SECTIONS if "screw_tip_error_mm" in section.columns)
    rows = [
        {"dataset": "d", "case": f"c{n}", "method": method, "screw_recall": recall, "screw_tip_error_mm": error + n / 10}
        for method, recall, error in (("ours", 1.0, 3.0), ("easy", 0.5, 1.0))
        for n in range(7)
    ]
    tests = compare(rows, "ours", section.tests)
    table = table_of(section, rows, tests, "ours")
    assert [[cell and cell.best for cell in table.cells[method]] for method in table.methods] == [[True, False], [False, False]]
    told = "; errors of screws and vertebrae in cases where both methods found all); tests.csv."
    whole = DatasetReport("d", rows, "ours", [(section, table)], tests, [], [])
    assert told in markdown_summary([whole], [])
    recall_alone = [{name: value for name, value in row.items() if name != "screw_tip_error_mm"} for row in rows]
    table = table_of(section, recall_alone, tests, "ours")
    assert "both methods found" not in markdown_summary([replace(whole, tables=[(section, table)])], [])


def test_a_report_of_the_truth_alone(planned, counted, tmp_path: Path) -> None:
    """As one makes to see what the screw detector itself gets wrong."""
    evaluate([planned()], counted().plan(**{"oracle-truth": 0}), tmp_path)
    assert "1 method on trunks (1 case)" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_show_every_method_however_many(planned, counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}

    def read(figure: Figure, path: Path, **options) -> None:
        legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        drawn[path.name.split("_")[1]] = [axes.get_title() for axes in figure.axes if axes.get_title()] + legends
        colours = [{handle.get_facecolor().tobytes() for handle in legend.legend_handles} for legend in figure.legends]
        assert [len(one) for one in colours] == [len(legend.get_texts()) for legend in figure.legends], "told apart"
        path.touch()  # drawing them takes longer than all the rest

    monkeypatch.setattr(plots, "_save", read)
    names = ["ours", *(f"m{n}" for n in range(11)), "oracle-true-body-flat"]
    methods = {**counted(num_samples=2).plan(ours=0), **counted().plan(**{name: n + 1 for n, name in enumerate(names[1:])})}
    evaluate([planned(f"c{n}", pixel_spacing_mm=0.5 + 0.1 * n) for n in range(3)], methods, tmp_path)
    panels = ["ours", *(f"m{n}" for n in range(11)), "oracle-\ntrue-body-flat"]
    for name in ("typical", "worst", "coarse"):
        shown = [title for title in drawn[name] if title not in ("X-rays", "truth")]
        assert shown == panels and drawn[name].count("truth") == 2
    assert [text for text in drawn["spacing"] if text in names] == names[:-1]


def test_equal_results_give_equal_bytes(output: Path, page: str, planned, counted) -> None:
    cases = [planned(f"c{n}", pixel_spacing_mm=0.5 + 0.1 * n) for n in range(7)]
    methods = {**counted(num_samples=4).plan(ours=0), **counted().plan(other=60, **{"oracle-truth": 0})}
    scoring = ScoringOptions(compat=("x2ct",), inception=output.parent / "pooled.pt")
    evaluate(cases, methods, output, scoring=scoring, settings=[("ours", "a <test> & more")])
    assert (output / "report.html").read_text(encoding="utf-8") == page
