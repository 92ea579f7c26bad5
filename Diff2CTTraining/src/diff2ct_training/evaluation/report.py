"""What an evaluation writes when its results are there: summary tables, tests, figures and one HTML page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diff2ct.atomic import replacing_file
from diff2ct_training.evaluation.dataset_report import GRID_CEILING, LEGACY_FID, DatasetReport, report_dataset
from diff2ct_training.evaluation.html_report import html_report
from diff2ct_training.evaluation.methods import ORACLE_GRID
from diff2ct_training.evaluation.plots import write_figures
from diff2ct_training.evaluation.results import Key, Results
from diff2ct_training.evaluation.statistics import MIN_PAIRS_FOR_A_TEST, summarize
from diff2ct_training.evaluation.tables import TESTED_GIVEN, Row, latex_table, markdown_table, write_rows


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
            lines += _markdown_distances(dataset)
        lines.append(_markdown_tests(dataset))
        lines.append("")
    lines.append(
        "mean +/- SD over cases, those of one patient averaged before [95 % bootstrap interval of the mean]; n where some have "
        "no score. Windows, regions and kernels: diff2ct.metrics."
    )
    if any(ORACLE_GRID in dataset.methods for dataset in datasets):
        lines += ["", GRID_CEILING]
    return "\n".join(lines) + "\n"


def _markdown_distances(dataset: DatasetReport) -> list[str]:
    heads = ["method", "FID", "KID", "slices", "FID per case (legacy)"]
    lines = ["### Distribution of slices", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in dataset.distribution:
        if row["plane"] == "mean":
            distances = f"{row['fid']:.2f} | {row['kid']:.4f} | {row['slices']} | {row['fid_per_case_legacy']:.1f}"
            lines.append(f"| {row['method']} | {distances} |")
    return [*lines, "", LEGACY_FID, ""]


def _markdown_tests(dataset: DatasetReport) -> str:
    tables = [(section, table) for section, table in dataset.tables if table.is_tested]
    tested = ", ".join(f'"{section.title}"' for section, _ in tables)
    if not tested:
        return f"No tests: they need two methods and {MIN_PAIRS_FOR_A_TEST} patients whose scores differ."
    how = f"paired Wilcoxon, p < 0.05, Holm-corrected within a table, in {tested} only"
    how += f"; {TESTED_GIVEN}" if any(table.has_given for _, table in tables) else ""
    return f"*: differs from {dataset.reference} ({how}); tests.csv."


def _write(path: Path, text: str) -> None:
    with replacing_file(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_or_remove(rows: Sequence[Row], path: Path) -> None:
    path.unlink(missing_ok=True)
    if rows:
        write_rows(rows, path)
