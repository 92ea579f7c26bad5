"""What an evaluation writes when its results are there: summary tables, tests, figures and one HTML page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diff2ct.atomic import replacing_file
from diff2ct_training.evaluation.dataset_report import DatasetReport, report_dataset
from diff2ct_training.evaluation.html_report import html_report
from diff2ct_training.evaluation.plots import write_figures
from diff2ct_training.evaluation.results import Key, Results
from diff2ct_training.evaluation.statistics import summarize
from diff2ct_training.evaluation.tables import Row, latex_table, markdown_table, write_rows


def write_report(results: Results, keys: Sequence[Key], settings: Sequence[tuple[str, str]]) -> None:
    """`summary.csv`, `tests.csv`, `distribution.csv`, `summary.md`, `summary.tex`, the figures and `report.html`, next to the
    results."""
    datasets = [
        report_dataset(results, [key for key in keys if key[0] == name]) for name in dict.fromkeys(key[0] for key in keys)
    ]
    output = results.output
    write_rows(summarize(results.rows(keys)), output / "summary.csv")
    _write_or_remove([row for d in datasets for row in d.tests], output / "tests.csv")
    _write_or_remove([row for d in datasets for row in d.distribution], output / "distribution.csv")
    _write(output / "summary.md", markdown_summary(datasets, settings))
    _write(output / "summary.tex", "\n".join(latex_table(table) for d in datasets for _, table in d.tables))
    figures = {d.name: write_figures(results, d) for d in datasets}
    _write(output / "report.html", html_report(datasets, figures, settings))


def markdown_summary(datasets: Sequence[DatasetReport], settings: Sequence[tuple[str, str]]) -> str:
    lines = [f"- {name}: {value}" for name, value in settings] + [""]
    for dataset in datasets:
        lines.append(f"## {dataset.name}\n")
        lines += [markdown_table(table) for _, table in dataset.tables]
        if dataset.distribution:
            lines += ["### Distribution of slices", "", "| method | FID | KID | slices |", "|---|---|---|---|"]
            of_mean = [row for row in dataset.distribution if row["plane"] == "mean"]
            lines += [f"| {r['method']} | {r['fid']:.2f} | {r['kid']:.4f} | {r['slices']} |" for r in of_mean] + [""]
        lines.append(
            f"*: differs from {dataset.reference} (paired Wilcoxon, Holm-corrected within each table, p < 0.05); tests.csv."
            if dataset.tests
            else "Too few cases for tests."
        )
        lines.append("")
    lines.append("mean +/- SD over cases [95 % bootstrap interval of the mean]. Windows, regions and kernels: diff2ct.metrics.")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing_file(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_or_remove(rows: Sequence[Row], path: Path) -> None:
    path.unlink(missing_ok=True)
    if rows:
        write_rows(rows, path)
