"""Rows in files and out of them again; tables that say what they mean."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from diff2ct_training.evaluation.tables import (
    Cell,
    Column,
    Table,
    format_number,
    latex_table,
    markdown_table,
    read_rows,
    write_rows,
)

TABLE = Table(
    "Inside the body: phantoms",
    7,
    (Column("SSIM", "", "up"), Column("MAE bone", "HU", "down")),
    ("ours", "flat_body"),
    {
        "ours": (Cell(0.8125, 0.031, 0.79, 0.83, 7, best=True), Cell(150.4, 20.0, 135.0, 166.0, 7, best=True)),
        "flat_body": (Cell(0.5, math.nan, math.nan, math.nan, 1, differs=True), None),
    },
    "ours",
)


def test_markdown_has_mean_sd_interval_best_and_difference() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert lines[0] == "### Inside the body: phantoms (7 cases)"
    assert lines[2] == "| method | SSIM (higher) | MAE bone [HU] (lower) |"
    assert lines[4] == "| ours | **0.812** +/- 0.031 [0.790, 0.830] | **150** +/- 20 [135, 166] |"
    assert lines[5] == "| flat_body | 0.500* (n = 1) | - |"


def test_latex_is_a_booktabs_table_with_its_special_characters_escaped() -> None:
    text = latex_table(TABLE)
    assert r"\textbf{0.812} $\pm$ 0.031 & \textbf{150} $\pm$ 20 \\" in text
    assert r"{\scriptsize [0.790, 0.830]}" in text and r"flat\_body & 0.500* & -- \\" in text
    assert r" & {\scriptsize n = 1} &  \\" in text and "Bold: best. *: differs from ours" in text
    assert r"SSIM $\uparrow$ & MAE bone [HU] $\downarrow$" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 and r"\toprule" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {2}


def test_latex_tells_that_errors_of_found_things_are_compared_where_all_were_found() -> None:
    told = "; errors of screws and vertebrae in cases where both methods found all)."
    of_found = replace(TABLE, columns=(TABLE.columns[0], Column("Tip", "mm", "down", given="screw_recall")))
    text = latex_table(of_found)
    assert f"$p < 0.05${told}" in text and "Bold: best, but for errors of what each method found. *" in text
    assert told not in latex_table(TABLE)
    assert told not in latex_table(replace(of_found, methods=("ours",), cells={"ours": TABLE.cells["ours"]})), "not tested"


def test_a_title_tells_patients_where_they_are_fewer_than_cases() -> None:
    for patients, text in ((7, "(7 cases)"), (5, "(7 cases of 5 patients)"), (1, "(7 cases of 1 patient)")):
        table = replace(TABLE, num_patients=patients)
        assert text in markdown_table(table).splitlines()[0] and text[1:-1] in latex_table(table)
        assert f"SD over {'cases' if patients == 7 else 'patients'}, " in latex_table(table)


def test_a_score_tells_of_how_many_it_is_where_some_have_none() -> None:
    cells = {"ours": (Cell(0.8125, 0.031, 0.79, 0.83, 5), Cell(150.4, 20.0, 135.0, 166.0, 4))}
    table = replace(TABLE, methods=("ours",), cells=cells, num_patients=5)
    assert "0.812 +/- 0.031 [0.790, 0.830] | 150 +/- 20 [135, 166] (n = 4) |" in markdown_table(table)
    text = latex_table(table)
    assert r"{\scriptsize [0.790, 0.830]} & {\scriptsize [135, 166], n = 4} \\" in text
    assert "Wilcoxon" not in text, "nothing was tested"


def test_rows_with_missing_metrics_keep_their_columns(tmp_path: Path) -> None:
    write_rows([{"case": "a", "x": 1}, {"case": "b", "y": 2}], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"case": "a", "x": "1", "y": ""}, {"case": "b", "x": "", "y": "2"}]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"dataset": "d", "case": "ct_Müller_腰椎", "method": "m", "made_by": "1", "level": "L4", "x": 0.1}]
    write_rows(rows, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "dataset,case,method,x\nd,c,m,word\n", "dataset,case,method\nd,c,m,1\n"])
def test_a_foreign_table_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "per_case.csv").write_text(text)
    with pytest.raises(ValueError, match=r"per_case\.csv: is not a table of an evaluation"):
        read_rows(tmp_path / "per_case.csv")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"),
        (2.345, "2.35"),
        (45.67, "45.7"),
        (123.4, "123"),
        (math.nan, "-"),
        (math.inf, "inf"),
        (-0.5, "-0.500"),
        (0.0123, "0.0123"),
        (0.0, "0.000"),
    ],
)
def test_numbers_in_tables(value: float, text: str) -> None:
    assert format_number(value) == text


def test_spread_and_interval_have_the_decimals_of_their_mean() -> None:
    assert [format_number(v, like=0.0296) for v in (0.0296, 0.00312, 0.5)] == ["0.0296", "0.0031", "0.5000"]
    assert format_number(3.2, like=187.0) == "3"
