"""Rows of an evaluation in files: CSV, Markdown and LaTeX.

A row is a flat dict: dataset, case, method, made_by, seconds, facts about the case, patient unless that is the case's name,
and one entry per score.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diff2ct.atomic import replacing_file

Row = dict[str, Any]

KEYS = ("dataset", "case", "method")
TEXTS = (*KEYS, "patient", "made_by", "level", "side")
FACTS = ("pixel_spacing_mm", "slice_spacing_mm")
"""Numbers that belong to the case, not to a method."""


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Per-case CSV. Columns in the order in which the rows first name them; a metric that a case does not have stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing_file(path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote. Raises ValueError naming the file if it is not a table of cases and methods."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: text if name in TEXTS else float(text) for name, text in _checked(row).items() if text != ""}
                for row in csv.DictReader(file)
            ]
    except ValueError as error:  # UnicodeDecodeError too
        raise ValueError(f"{path}: is not a table of an evaluation ({error})") from error


def _checked(row: dict[str, Any]) -> dict[str, str]:
    missing = [name for name in KEYS if not row.get(name)]
    if missing or None in row or None in row.values():
        raise ValueError(f"a row without {', '.join(missing)}" if missing else "a row of another length than the header")
    return row


@dataclass(frozen=True)
class Cell:
    """One method's score: mean, sample SD, 95 % interval of the mean over n patients. best: no method of the table is better.
    differs: from the reference method, after Holm's correction (p < 0.05); None for not tested."""

    mean: float
    sd: float
    low: float
    high: float
    n: int
    best: bool = False
    differs: bool | None = None


@dataclass(frozen=True)
class Column:
    """A metric as tables show it. label: short. arrow: "up" if higher is better, "down" if lower, "zero" if nearer 0, "" if it
    is no matter of better. given: of a metric of found things alone, the one that is 1 where all were found; methods are then
    compared on the same things, and as their means are of whatever each found, none of these is the best."""

    label: str
    unit: str = ""
    arrow: str = ""
    given: str = ""


@dataclass(frozen=True)
class Table:
    """cells[method][column]; None where there is no score. num_cases: in the dataset, of `num_patients`, None for as many."""

    title: str
    num_cases: int
    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    cells: dict[str, tuple[Cell | None, ...]]
    reference: str
    num_patients: int | None = None

    @property
    def unit(self) -> str:
        """What means, SD and tests are over."""
        return "cases" if self.num_patients in (None, self.num_cases) else "patients"

    @property
    def is_tested(self) -> bool:
        return any(cell is not None and cell.differs is not None for cells in self.cells.values() for cell in cells)

    @property
    def has_given(self) -> bool:
        """It shows errors of found things."""
        return any(column.given for column in self.columns)

    def number_of(self, cell: Cell) -> str:
        """Of how many a score is the mean, where some have none."""
        return "" if cell.n == (self.num_patients or self.num_cases) else f"n = {cell.n}"


TESTED_GIVEN = "errors of screws and vertebrae in cases where both methods found all"
"""What is to be said beside tests of columns with `Column.given`."""
_MARKDOWN_ARROWS = {"up": " (higher)", "down": " (lower)", "zero": " (near 0)", "": ""}
_LATEX_ARROWS = {"up": r" $\uparrow$", "down": r" $\downarrow$", "zero": r" $\rightarrow 0$", "": ""}


def markdown_table(table: Table) -> str:
    """A line per method, a column per metric: mean +/- SD over patients [95 % interval of the mean], of how many where some
    have no score, best in bold, * where it differs from the reference."""
    heads = [f"{c.label}{f' [{c.unit}]' if c.unit else ''}{_MARKDOWN_ARROWS[c.arrow]}" for c in table.columns]
    lines = [f"### {table.title} ({_cases(table)})", "", "| method | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for method in table.methods:
        cells = [_markdown_cell(cell, table) for cell in table.cells[method]]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def latex_table(table: Table) -> str:
    """The same for a paper; needs the package booktabs."""
    heads = [f"{_latex(c.label)}{f' [{_latex(c.unit)}]' if c.unit else ''}{_LATEX_ARROWS[c.arrow]}" for c in table.columns]
    caption = f"{table.title}, {_cases(table)}: mean $\\pm$ SD over {table.unit}, 95\\,\\% bootstrap interval of the mean "
    caption += f"below. Bold: best{', but for errors of what each method found' if table.has_given else ''}."
    if table.is_tested:
        given = f"; {TESTED_GIVEN}" if table.has_given else ""
        caption += f" *: differs from {_latex(table.reference)} (paired Wilcoxon, Holm, $p < 0.05${given})."
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'c' * len(heads)}}}",
        r"\toprule",
    ]
    lines += [" & ".join(["Method", *heads]) + r" \\", r"\midrule"]
    for method in table.methods:
        cells = table.cells[method]
        lines.append(" & ".join([_latex(method), *(_latex_mean(cell) for cell in cells)]) + r" \\")
        below = [_latex_below(cell, table) for cell in cells]
        if any(below):
            lines.append(" & ".join(["", *below]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def format_number(value: float, like: float | None = None) -> str:
    """About three significant figures, whole numbers from 100 on. like: with as many decimals as this one would get."""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if math.isnan(value):
        return "-"
    size = abs(value if like is None or not math.isfinite(like) else like)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 or size == 0 else 4
    return f"{value:.{decimals}f}"


def _markdown_cell(cell: Cell | None, table: Table) -> str:
    if cell is None:
        return "-"
    mean = f"**{format_number(cell.mean)}**" if cell.best else format_number(cell.mean)
    spread = f" +/- {format_number(cell.sd, cell.mean)}" if math.isfinite(cell.sd) else ""
    interval = (
        f" [{format_number(cell.low, cell.mean)}, {format_number(cell.high, cell.mean)}]" if math.isfinite(cell.low) else ""
    )
    number = table.number_of(cell)
    return f"{mean}{'*' if cell.differs else ''}{spread}{interval}{f' ({number})' if number else ''}"


def _latex_mean(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    mean = rf"\textbf{{{format_number(cell.mean)}}}" if cell.best else format_number(cell.mean)
    return f"{mean}{'*' if cell.differs else ''}" + (
        rf" $\pm$ {format_number(cell.sd, cell.mean)}" if math.isfinite(cell.sd) else ""
    )


def _latex_below(cell: Cell | None, table: Table) -> str:
    """The interval, and of how many."""
    if cell is None:
        return ""
    low, high = (format_number(end, cell.mean) for end in (cell.low, cell.high))
    interval = f"[{low}, {high}]" if math.isfinite(cell.low) else ""
    text = ", ".join(filter(None, (interval, table.number_of(cell))))
    return rf"{{\scriptsize {text}}}" if text else ""


def _latex(text: str) -> str:
    return "".join({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "^": r"\^{}", "~": r"\~{}"}.get(c, c) for c in text)


def _cases(table: Table) -> str:
    text = f"{table.num_cases} case{'s' if table.num_cases != 1 else ''}"
    patients = table.num_patients or table.num_cases
    return text if patients == table.num_cases else f"{text} of {patients} patient{'s' if patients != 1 else ''}"
