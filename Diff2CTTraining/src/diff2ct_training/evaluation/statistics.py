"""Scores over cases: mean, SD, median, bootstrap intervals, and paired tests against a reference method.

The unit of every mean, SD, interval and test is the patient: of one with several cases their mean counts, once. SD is the
sample standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from diff2ct_training.evaluation.catalog import column_of
from diff2ct_training.evaluation.tables import FACTS, TEXTS, Row

NUM_RESAMPLES = 2000
MIN_PAIRS_FOR_A_TEST = 6
"""With fewer pairs that differ even the most extreme outcome of a two-sided Wilcoxon test is above p = 0.05."""


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Every score in the rows, in order of first appearance."""
    left_out = (*TEXTS, *FACTS)
    return list(
        dict.fromkeys(name for row in rows for name, value in row.items() if name not in left_out and _is_number(value))
    )


def patient_of(row: Row) -> str:
    """Whose case it is. A case of which nothing is said is a patient of its own."""
    return row.get("patient") or row["case"]


def values_of(rows: Sequence[Row], metric: str) -> np.ndarray:
    """Finite values (N,) float64 of one metric for N patients. rows: of one method and dataset."""
    return _per_patient([(patient_of(row), score_of(row, metric)) for row in rows])


def score_of(row: Row, metric: str) -> float:
    """NaN if it has none."""
    return float(row[metric]) if _is_number(row.get(metric)) else math.nan


def patient_means(rows: Sequence[Row], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Both metrics (N,) of N patients, over the cases that have both. rows: of one method and dataset."""
    known = [row for row in rows if math.isfinite(score_of(row, x)) and math.isfinite(score_of(row, y))]
    return values_of(known, x), values_of(known, y)


def _per_patient(scores: Iterable[tuple[str, float]]) -> np.ndarray:
    """(patient, value) of cases -> means (N,) float64 over the finite ones of each patient."""
    found: dict[str, list[float]] = {}
    for patient, value in scores:
        if math.isfinite(value):
            found.setdefault(patient, []).append(value)
    return np.array([sum(values) / len(values) for values in found.values()], dtype=np.float64)


def summarize(rows: Sequence[Row]) -> list[Row]:
    """One row per dataset, method and metric: n patients, mean, SD, median and the 95 % bootstrap interval of the mean."""
    summary = []
    for dataset, method in dict.fromkeys((row["dataset"], row["method"]) for row in rows):
        of_group = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        for metric in metric_names(of_group):
            values = values_of(of_group, metric)
            if len(values):
                low, high = bootstrap_interval(values)
                summary.append({
                    "dataset": dataset, "method": method, "metric": metric, "n": len(values), "mean": float(values.mean()),
                    "sd": sample_sd(values), "median": float(np.median(values)), "ci95_low": low, "ci95_high": high,
                })  # fmt: skip
    return summary


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, over patients (N,); NaN for fewer than 2."""
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    found = stats.bootstrap((values,), np.mean, n_resamples=NUM_RESAMPLES, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def sample_sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def compare(rows: Sequence[Row], reference: str, metrics: Sequence[str]) -> list[Row]:
    """Paired two-sided Wilcoxon signed-rank tests of `reference` against every other method, Holm-corrected over all of these
    tests of a dataset. What is best at 0, such as a bias, is compared by how far it is from there; errors of found screws and
    vertebrae in cases where both methods found all.

    Returns one row per dataset, method and metric: the mean difference (reference - method), n patients who have both scores,
    p and p_holm. As Wilcoxon did, pairs of equal scores are left out of the test, so that p is exact for up to 50 others
    without ties, 13 with; comparisons with fewer than `MIN_PAIRS_FOR_A_TEST` others are left out altogether.
    """
    tests = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        by_case = {(row["method"], row["case"]): row for row in rows if row["dataset"] == dataset}
        methods = [m for m in dict.fromkeys(method for method, _ in by_case) if m != reference]
        found = [_paired_test(by_case, reference, method, metric) for method in methods for metric in metrics]
        tests += [{"dataset": dataset, **test} for test in holm([t for t in found if t is not None])]
    return tests


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p; NaN for fewer than 4 pairs or a constant."""
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    found = stats.spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)


def holm(tests: list[Row]) -> list[Row]:
    """Holm's step-down correction (1979) of "p", as "p_holm": the i-th smallest of m times (m - i), made monotonic."""
    corrected = 0.0
    for rank, test in enumerate(sorted(tests, key=lambda t: t["p"])):
        corrected = max(corrected, min(1.0, test["p"] * (len(tests) - rank)))
        test["p_holm"] = corrected
    return tests


def _paired_test(by_case: dict[tuple[str, str], Row], reference: str, method: str, metric: str) -> Row | None:
    cases = [case for name, case in by_case if name == method and (reference, case) in by_case]
    pairs = [(by_case[reference, case], by_case[method, case]) for case in cases]
    column = column_of(metric)
    if column.given:
        pairs = [pair for pair in pairs if all(score_of(row, column.given) == 1.0 for row in pair)]
    worth = abs if column.arrow == "zero" else float
    differences = _per_patient(
        (patient_of(ours), worth(score_of(ours, metric)) - worth(score_of(other, metric))) for ours, other in pairs
    )
    other_than_0 = differences[differences != 0]
    if len(other_than_0) < MIN_PAIRS_FOR_A_TEST:
        return None
    p = float(stats.wilcoxon(other_than_0).pvalue)
    return {"method": method, "metric": metric, "n": len(differences), "mean_difference": float(differences.mean()), "p": p}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
