"""Where scores are shown."""

from __future__ import annotations

from diff2ct.metrics import METRIC_NAMES
from diff2ct_training.evaluation.catalog import HEADLINES, SECTIONS, column_of


def test_every_figure_of_the_protocol_is_in_a_table() -> None:
    shown = {metric for section in SECTIONS for metric in section.columns}
    assert [metric for metric in (*METRIC_NAMES, *HEADLINES) if metric not in shown] == []


def test_no_figure_is_tested_twice() -> None:
    """It would be in two families of tests, and have two corrected p."""
    tested = [metric for section in SECTIONS for metric in section.tests]
    assert len(tested) == len(set(tested)) and {"screw_recall", "vertebra_dice", "reprojection_l2_frontal"} < set(tested)


def test_tested_is_what_a_method_is_better_or_worse_in_on_what_both_found() -> None:
    for metric in (metric for section in SECTIONS for metric in section.tests):
        assert column_of(metric).arrow and "before" not in metric, metric
    given = {metric: column.given for section in SECTIONS for metric, column in section.columns.items() if column.given}
    of_screws = ("tip_error_mm", "head_error_mm", "axis_error_deg", "grade_changed_in_true_bone", "grade_changed_in_own_bone")
    assert given == {
        **{f"vertebra_{name}": "vertebra_found" for name in ("hd95_mm", "assd_mm", "centroid_mm")},
        **{f"screw_{name}": "screw_recall" for name in of_screws},
    }
