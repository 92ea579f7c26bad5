"""Rows of an evaluation -> CSV files and Markdown tables.

A row is a flat dict: dataset, case, method, made_by, seconds and one entry per metric. "SD" is the sample standard deviation
over cases.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.atomic import replacing_file

Row = dict[str, Any]

KEYS = ("dataset", "case", "method")
TEXTS = (*KEYS, "made_by")
NUM_RESAMPLES = 2000
MIN_PAIRS_FOR_A_TEST = 6
"""With fewer pairs even the most extreme outcome of a two-sided Wilcoxon test is above p = 0.05."""


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Per-case CSV. Columns in the order in which the rows first name them; a metric that a case does not have stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing_file(path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="ascii") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote. Raises ValueError naming the file if it is not a table of cases and methods."""
    try:
        with path.open(newline="", encoding="ascii") as file:
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


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Every numeric entry of the rows, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if name not in TEXTS and _is_number(value)))


def summarize(rows: Sequence[Row]) -> list[Row]:
    """One row per dataset, method and metric: n, mean, SD, median and the 95 % bootstrap interval of the mean over cases."""
    groups = dict.fromkeys((row["dataset"], row["method"]) for row in rows)
    summary = []
    for dataset, method in groups:
        of_group = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        for metric in metric_names(of_group):
            values = _values(of_group, metric)
            if len(values):
                low, high = bootstrap_interval(values)
                summary.append({
                    "dataset": dataset, "method": method, "metric": metric, "n": len(values), "mean": float(values.mean()),
                    "sd": _sample_sd(values), "median": float(np.median(values)), "ci95_low": low, "ci95_high": high,
                })  # fmt: skip
    return summary


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, over cases (N,)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (NUM_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def compare(rows: Sequence[Row], reference: str, metrics: Sequence[str]) -> list[Row]:
    """Paired two-sided Wilcoxon tests of `reference` against every other method, Holm-corrected within each dataset.

    Returns one row per dataset, method and metric: the mean difference (reference - method), n pairs, p and p_holm.
    Comparisons with fewer than `MIN_PAIRS_FOR_A_TEST` pairs are left out.
    """
    tests = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        by_case = {(row["method"], row["case"]): row for row in rows if row["dataset"] == dataset}
        methods = [m for m in dict.fromkeys(method for method, _ in by_case) if m != reference]
        found = [_paired_test(by_case, reference, method, metric) for method in methods for metric in metrics]
        tests += [{"dataset": dataset, **test} for test in _holm([t for t in found if t is not None])]
    return tests


def markdown_table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """One table per dataset: a line per method, a column per metric, `mean +/- SD` over cases."""
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        num_cases = len({row["case"] for row in of_dataset})
        parts.append(f"### {dataset} ({num_cases} case{'s' if num_cases != 1 else ''}; mean +/- SD)\n")
        parts.append("| method | " + " | ".join(metrics) + " |")
        parts.append("|---" * (len(metrics) + 1) + "|")
        for method in dict.fromkeys(row["method"] for row in of_dataset):
            of_method = [row for row in of_dataset if row["method"] == method]
            cells = [_mean_and_sd(_values(of_method, metric)) for metric in metrics]
            parts.append(f"| {method} | " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def format_number(value: float) -> str:
    """Three significant figures for small numbers, whole numbers from 100 on."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _mean_and_sd(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    mean = format_number(float(values.mean()))
    return mean if len(values) == 1 else f"{mean} +/- {format_number(_sample_sd(values))}"


def _values(rows: Sequence[Row], metric: str) -> np.ndarray:
    """Finite values (N,) float64 of one metric."""
    found = [float(row[metric]) for row in rows if _is_number(row.get(metric))]
    return np.array([value for value in found if math.isfinite(value)], dtype=np.float64)


def _sample_sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) on (N,) paired differences, zeros left out.

    Exact, ties included: the distribution of the rank sum over all 2^N equally likely signs, by adding one rank at a time.
    """
    differences = differences[differences != 0]
    _, group, count = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    doubled_ranks = (2 * np.cumsum(count) - count + 1)[group]  # twice the mean rank of each tie, a whole number
    probability = np.zeros(int(doubled_ranks.sum()) + 1)
    probability[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = 0.5 * (probability + shifted)
    statistic = int(doubled_ranks[differences > 0].sum())
    return min(1.0, 2.0 * float(min(probability[: statistic + 1].sum(), probability[statistic:].sum())))


def _paired_test(by_case: dict[tuple[str, str], Row], reference: str, method: str, metric: str) -> Row | None:
    cases = [case for name, case in by_case if name == method and (reference, case) in by_case]
    pairs = [_values([by_case[reference, case], by_case[method, case]], metric) for case in cases]
    differences = np.array([pair[0] - pair[1] for pair in pairs if len(pair) == 2])
    if len(differences) < MIN_PAIRS_FOR_A_TEST or not differences.any():
        return None
    return {
        "method": method, "metric": metric, "n": len(differences), "mean_difference": float(differences.mean()),
        "p": signed_rank_p(differences),
    }  # fmt: skip


def _holm(tests: list[Row]) -> list[Row]:
    """Holm's step-down correction: the i-th smallest of m p-values times (m - i), made monotonic."""
    corrected = 0.0
    for rank, test in enumerate(sorted(tests, key=lambda t: t["p"])):
        corrected = max(corrected, min(1.0, test["p"] * (len(tests) - rank)))
        test["p_holm"] = corrected
    return tests
