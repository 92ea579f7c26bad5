"""Statistics over cases against scipy, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from diff2ct_training.evaluation.statistics import (
    bootstrap_interval,
    compare,
    correlation,
    holm,
    patient_means,
    summarize,
    values_of,
)


def rows_of(method: str, values: list[float], dataset: str = "d") -> list[dict]:
    return [{"dataset": dataset, "case": f"c{n}", "method": method, "mae": value} for n, value in enumerate(values)]


def test_summary_has_mean_and_sample_sd() -> None:
    (row,) = summarize(rows_of("a", [1.0, 2.0, 6.0, math.nan]))
    assert (row["n"], row["mean"], row["median"]) == (3, 3.0, 2.0)
    assert row["sd"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert row["ci95_low"] < 3.0 < row["ci95_high"]


def test_facts_about_cases_are_no_scores() -> None:
    assert summarize([{"dataset": "d", "case": "c", "method": "a", "made_by": "x", "pixel_spacing_mm": 0.5}]) == []


def test_datasets_are_not_mixed() -> None:
    rows = rows_of("a", [1.0, 1.0], "phantoms") + rows_of("a", [9.0], "real CTs")
    assert [(r["dataset"], r["mean"]) for r in summarize(rows)] == [("phantoms", 1.0), ("real CTs", 9.0)]


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for n in range(200):
        low, high = bootstrap_interval(rng.normal(size=40), seed=n)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99
    assert np.isnan(bootstrap_interval(np.ones(1))).all()
    low, high = bootstrap_interval(np.repeat([0.0, 10.0], [15, 5]))
    assert 0 < low < 2.5 < high < 5, "of the mean, not of the median"


def test_comparison_is_scipys_wilcoxon_of_pairs() -> None:
    rng = np.random.default_rng(3)
    ours, other = rng.normal(0, 1, 20), rng.normal(0.5, 1, 20)
    (test,) = compare(rows_of("ours", list(ours)) + rows_of("other", list(other)), "ours", ["mae"])
    assert test["p"] == pytest.approx(stats.wilcoxon(ours - other).pvalue)
    assert test["p_holm"] == test["p"] and test["n"] == 20
    assert test["mean_difference"] == pytest.approx((ours - other).mean())


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests() -> None:
    good, bad = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.0, 1.5, 3.5, 4.1, 4.0, 6.5, 7.2]
    rows = rows_of("ours", good) + rows_of("worse", [v + 1 + v / 10 for v in good]) + rows_of("similar", bad)
    tests = {test["method"]: test for test in compare(rows, "ours", ["mae"])}
    assert tests["worse"]["p"] == pytest.approx(2 / 2**7)
    assert tests["worse"]["p_holm"] == pytest.approx(2 * tests["worse"]["p"])
    assert tests["similar"]["p_holm"] >= tests["similar"]["p"]
    assert tests["worse"]["mean_difference"] < 0
    assert compare(rows_of("ours", [1.0, 2.0]) + rows_of("other", [2.0, 3.0]), "ours", ["mae"]) == []


def test_holm_by_hand() -> None:
    assert [t["p_holm"] for t in holm([{"p": 0.04}, {"p": 0.01}, {"p": 0.03}])] == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_pairs_are_matched_by_case_and_missing_scores_left_out() -> None:
    ours = rows_of("ours", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.nan])
    other = rows_of("other", [2.1, 3.2, 4.3, 5.4, 6.5, 7.6, 8.7, 0.0])[::-1]
    (test,) = compare(ours + other, "ours", ["mae"])
    assert test["n"] == 7 and test["mean_difference"] == pytest.approx(-1.4)


@pytest.mark.parametrize(("num_equal", "num_other"), [(1, 5), (50, 5), (50, 6), (3, 12)])
def test_equal_scores_are_no_evidence(num_equal: int, num_other: int) -> None:
    """The normal approximation has p = 0.043 for five patients on one side, which by chance happens to 1 of 16."""
    better = [n / 7 + 1 for n in range(num_other)]
    rows = rows_of("ours", [0.0] * num_equal + better) + rows_of("other", [0.0] * (num_equal + num_other))
    found = [(test["n"], test["p"]) for test in compare(rows, "ours", ["mae"])]
    assert found == ([] if num_other < 6 else [(num_equal + num_other, pytest.approx(2 / 2**num_other))])


def test_the_scans_of_a_patient_count_once() -> None:
    """Each scan twice would halve the variance of the mean and make any difference significant."""
    rng = np.random.default_rng(4)
    ours, other = rng.normal(0, 1, 8), rng.normal(0.5, 1, 8)

    def twice(method: str, values: np.ndarray) -> list[dict]:
        return [
            {"dataset": "d", "case": f"c{n}{scan}", "patient": f"p{n}", "method": method, "mae": value + shift}
            for n, value in enumerate(values) for scan, shift in (("a", 0.25), ("b", -0.25))
        ]  # fmt: skip

    once = rows_of("ours", list(ours)) + rows_of("other", list(other))
    both = twice("ours", ours) + twice("other", other)
    found = [[*summarize(rows), *compare(rows, "ours", ["mae"])] for rows in (once, both)]
    assert len(found[0]) == 3 and found[0][2]["n"] == 8
    for of_patients, of_scans in zip(*found, strict=True):
        assert of_scans == pytest.approx(of_patients, nan_ok=True)
    assert values_of(both[:3], "mae") == pytest.approx([ours[0], ours[1] + 0.25]), "one whose other scan has no score"


def test_a_bias_is_compared_by_how_far_it_is_from_0() -> None:
    """As far off on either side is no difference; nearer to 0 is one, though the means are the same."""
    sizes = [10.0, 12.0, 15.0, 9.0, 11.0, 14.0, 13.0]
    signs = [1, -1, 1, -1, 1, -1, 1]

    def rows(method: str, values: list[float]) -> list[dict]:
        return [{"bias_hu_body": row.pop("mae"), **row} for row in rows_of(method, values)]

    ours, opposite = rows("ours", sizes), rows("opposite", [-v for v in sizes])
    wider = rows("wider", [s * (v + 5 + v / 10) for s, v in zip(signs, sizes, strict=True)])
    (test,) = compare(ours + opposite + wider, "ours", ["bias_hu_body"])
    assert test["method"] == "wider" and test["p"] == pytest.approx(2 / 2**7)
    assert test["mean_difference"] == pytest.approx(-5 - np.mean(sizes) / 10)


def test_errors_of_found_screws_are_compared_where_both_methods_found_all() -> None:
    """Who finds only the easy ones has smaller errors, and is not better."""

    def rows(method: str, errors: list[float], recalls: list[float]) -> list[dict]:
        return [
            {"dataset": "d", "case": f"c{n}", "method": method, "screw_tip_error_mm": error, "screw_recall": recall}
            for n, (error, recall) in enumerate(zip(errors, recalls, strict=True))
        ]

    ours = rows("ours", [3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 9.0], [1.0] * 8)
    other = rows("other", [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, math.nan], [0.5] * 7 + [0.0])
    assert [test["metric"] for test in compare(ours + other, "ours", ["screw_tip_error_mm", "screw_recall"])] == [
        "screw_recall"
    ]
    other = rows("other", [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.1, math.nan], [1.0] * 6 + [0.5, 0.0])
    (test,) = compare(ours + other, "ours", ["screw_tip_error_mm"])
    assert test["n"] == 6 and test["mean_difference"] == pytest.approx(1.25)


def test_two_metrics_of_patients_are_of_the_same_cases() -> None:
    rows = [
        {"case": "a", "patient": "one", "x": 1.0, "y": 10.0}, {"case": "b", "patient": "one", "x": 3.0, "y": 30.0},
        {"case": "c", "patient": "one", "x": 9.0, "y": math.nan}, {"case": "d", "x": 5.0, "y": 50.0}, {"case": "e", "x": 7.0},
    ]  # fmt: skip
    x, y = patient_means(rows, "x", "y")
    assert x.tolist() == [2.0, 5.0] and y.tolist() == [20.0, 50.0]


def test_correlation_is_of_ranks() -> None:
    rho, p = correlation(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.0, 10.0, 100.0, 1000.0, 1e4]))
    assert rho == pytest.approx(1.0) and p < 0.01
    assert math.isnan(correlation(np.ones(5), np.arange(5.0))[0])
