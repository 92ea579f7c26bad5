"""The screws of one case in one reconstruction: errors, how many were found, and whether a surgeon would grade them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from diff2ct.phantom import LABELS, PedicleScrew
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.scoring.breach import Pedicles, breach_mm, find_pedicles, grade
from diff2ct_training.scoring.screws import Screw, find_screws, match_screws, score_screws

PedicleFinder = Callable[[int], Pedicles | None]


class ScrewScorer:
    """screws: all that are in the truth. known: (D, H, W) bool on `grid`: screws that leave it are neither expected nor held
    against a reconstruction that shows them. labels: (D, H, W) of the true vertebrae; None leaves grades out."""

    def __init__(
        self, screws: Sequence[PedicleScrew], grid: VolumeGrid, known: np.ndarray, labels: np.ndarray | None = None
    ) -> None:
        self._grid = grid
        self._true = [screw for screw in screws if lies_in(screw, grid, known)]
        self._outside = [screw for screw in screws if not lies_in(screw, grid, known)]
        self._true_pedicles = self._finder(labels)
        self._true_breaches = [_breach(screw, screw, self._true_pedicles) for screw in self._true]

    def score(self, volume: CtVolume, own_labels: np.ndarray | None = None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """(scores of the case, a row per true screw). own_labels: the reconstruction's, in which its screws are then graded;
        else in the true ones. Names say which."""
        found = find_screws(volume)
        beyond = {error.found for error in match_screws(found, self._outside)}
        found = [screw for n, screw in enumerate(found) if n not in beyond]
        scores = score_screws(found, self._true)
        pedicles, where = (self._true_pedicles, "true") if own_labels is None else (self._finder(own_labels), "own")
        rows: list[dict[str, Any]] = [
            {"level": screw.level, "side": screw.side, "found": 0.0, "true_breach_mm": breach}
            for screw, breach in zip(self._true, self._true_breaches, strict=True)
        ]
        changes = []
        for error in match_screws(found, self._true):
            row, breach = rows[error.true], _breach(found[error.found], self._true[error.true], pedicles)
            row |= {
                "found": 1.0,
                "tip_error_mm": error.tip_mm,
                "head_error_mm": error.head_mm,
                "axis_error_deg": error.axis_deg,
            }
            row["breach_mm"] = breach
            before, now = grade(self._true_breaches[error.true]), grade(breach)
            if before is not None and now is not None:
                changes.append(now - before)
                row["grade_change"] = float(now - before)
        if changes:
            scores[f"screw_grade_changed_in_{where}_bone"] = float(np.mean([change != 0 for change in changes]))
            scores[f"screw_grade_shift_in_{where}_bone"] = float(np.mean(changes))
        return scores, rows

    def _finder(self, labels: np.ndarray | None) -> PedicleFinder:
        """Each vertebra is prepared once."""
        return cache(partial(find_pedicles, labels, grid=self._grid)) if labels is not None else lambda label: None


def lies_in(screw: Screw, grid: VolumeGrid, known: np.ndarray) -> bool:
    """Head and tip are where `known` (D, H, W) is True."""
    matrix = grid.lps_to_ijk
    for point in (screw.head_lps, screw.tip_lps):
        kji = np.round(matrix[:3, :3] @ point + matrix[:3, 3]).astype(int)[::-1]
        if (kji < 0).any() or (kji >= grid.size).any() or not known[tuple(kji)]:
            return False
    return True


def _breach(placed: Screw, true: PedicleScrew, pedicles: PedicleFinder) -> float:
    """Breach [mm] of a screw of the true one's diameter in the true one's vertebra; NaN where no grade can be given."""
    label = LABELS.get(true.level)
    of_level = None if label is None else pedicles(label)
    return math.nan if of_level is None else breach_mm(placed, true.diameter_mm, of_level)
