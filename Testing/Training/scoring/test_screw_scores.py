"""Scores of screws in volumes drawn by hand: found, missed, invented, half outside, and in the canal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diff2ct.phantom import LABELS, PedicleScrew
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.scoring.screw_scores import ScrewScorer, lies_in

GRID = VolumeGrid.centered((24, 80, 80), 1.0)
KNOWN = np.ones(GRID.size, bool)
LABEL = LABELS["L4"]


def screw(x: float, z: float = 0.0, level: str = "L4") -> PedicleScrew:
    head = np.array([x, 20.0, z])
    return PedicleScrew.from_head(
        head, np.array([0.0, -1.0, 0.0]), length_mm=45.0, diameter_mm=6.0, level=level, side="left" if x > 0 else "right"
    )


def vertebra(shift: int = 0) -> np.ndarray:
    """A ring of bone around a canal of 20 x 16 mm, pedicles at |x| 10..20; all of it `shift` mm to the left."""
    y, x = np.mgrid[-39.5:40, -39.5:40]
    ring = (np.abs(x - shift) < 20) & (y > -30) & (y < 16)
    canal = (np.abs(x - shift) < 10) & (y > -6) & (y < 10)
    labels = np.zeros(GRID.size, np.uint8)
    labels[4:20] = LABEL * (ring & ~canal)
    return labels


def drawn(*screws: PedicleScrew) -> CtVolume:
    z, y, x = np.mgrid[-11.5:12, -39.5:40, -39.5:40]
    hu = np.full(GRID.size, 300.0)
    for s in screws:
        across = np.hypot(x - s.head_lps[0], z - s.head_lps[2])
        outside = np.maximum(across - 3.0, np.abs(y - (s.head_lps[1] + s.tip_lps[1]) / 2) - s.length_mm / 2)
        hu = np.maximum(hu, 300 + 3500 * np.clip(0.5 - outside, 0, 1))
    return CtVolume(hu, GRID)


def test_a_screw_in_its_place_keeps_its_grade() -> None:
    true = screw(15.0)
    scores, (row,) = ScrewScorer([true], GRID, KNOWN, vertebra()).score(drawn(true))
    assert scores["screw_recall"] == scores["screw_precision"] == 1.0
    assert scores["screw_tip_error_mm"] < 0.6 and scores["screw_axis_error_deg"] < 0.5
    assert scores["screw_grade_changed_in_true_bone"] == 0.0
    assert (row["level"], row["side"], row["found"], row["grade_change"]) == ("L4", "left", 1.0, 0.0)


def test_a_screw_drawn_into_the_canal_changes_its_grade_from_a_to_d() -> None:
    """At x = 8.5 the side of a 6 mm screw is at 5.5, 4.5 mm inside the canal, whose wall is at 10."""
    scores, (row,) = ScrewScorer([screw(15.0)], GRID, KNOWN, vertebra()).score(drawn(screw(8.5)))
    assert row["true_breach_mm"] == 0.0 and row["breach_mm"] == pytest.approx(4.5, abs=0.4)
    assert row["grade_change"] == 3.0 and scores["screw_grade_changed_in_true_bone"] == 1.0
    assert scores["screw_grade_shift_in_true_bone"] == 3.0, "above 0: worse than in the truth"
    assert row["tip_error_mm"] == pytest.approx(6.5, abs=0.6)


def test_own_labels_grade_the_screw_in_the_anatomy_that_was_reconstructed() -> None:
    """Screw and vertebra both 6 mm to the left: wrong in place, alike to a surgeon."""
    scorer = ScrewScorer([screw(15.0)], GRID, KNOWN, vertebra())
    volume = drawn(screw(21.0))
    assert scorer.score(volume)[0]["screw_grade_changed_in_true_bone"] == 1.0
    own = scorer.score(volume, vertebra(shift=6))[0]
    assert own["screw_grade_changed_in_own_bone"] == 0.0 and "screw_grade_changed_in_true_bone" not in own


def test_missed_and_invented_screws() -> None:
    scorer = ScrewScorer([screw(15.0), screw(-15.0)], GRID, KNOWN, vertebra())
    scores, rows = scorer.score(drawn(screw(15.0)))
    assert scores["screw_recall"] == 0.5 and [row["found"] for row in rows] == [1.0, 0.0]
    assert "tip_error_mm" not in rows[1]
    none_there, rows = ScrewScorer([], GRID, KNOWN).score(drawn(screw(15.0)))
    assert none_there["screw_precision"] == 0.0 and math.isnan(none_there["screw_recall"]) and rows == []


def test_a_screw_that_leaves_the_known_part_is_neither_missed_nor_invented() -> None:
    known = KNOWN.copy()
    known[:, :, :40] = False  # the right half was not scanned
    scorer = ScrewScorer([screw(15.0), screw(-15.0)], GRID, known, vertebra())
    assert lies_in(screw(15.0), GRID, known) and not lies_in(screw(-15.0), GRID, known)
    assert not lies_in(screw(60.0), GRID, known)
    scores, rows = scorer.score(drawn(screw(15.0), screw(-15.0)))
    assert scores["screw_recall"] == scores["screw_precision"] == 1.0 and len(rows) == 1


def test_no_labels_no_grade() -> None:
    scores, (row,) = ScrewScorer([screw(15.0)], GRID, KNOWN).score(drawn(screw(15.0)))
    assert math.isnan(row["true_breach_mm"]) and "grade_change" not in row
    assert not [name for name in scores if "grade" in name]
    numbered = ScrewScorer([screw(15.0, level="2")], GRID, KNOWN, vertebra())  # counted, not named: of which vertebra?
    assert math.isnan(numbered.score(drawn(screw(15.0)))[1][0]["true_breach_mm"])
