"""Every figure of the protocol for one volume of one case, each from the file that defines it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.metrics import WIDE, evaluate_volume, region_masks
from diff2ct.patient_figures import figures_of
from diff2ct.reconstruct import reproject
from diff2ct.volume import CtVolume
from diff2ct_training.evaluation.cases import EvaluationCase, fingerprint
from diff2ct_training.evaluation.labels import find_labels, read_vertebrae
from diff2ct_training.evaluation.methods import Prediction
from diff2ct_training.labels import TOTALSEGMENTATOR
from diff2ct_training.scoring.compatibility import COMPATIBILITY, COMPATIBILITY_VERSION
from diff2ct_training.scoring.coverage import score_samples
from diff2ct_training.scoring.grid_ceiling import score_on_scan
from diff2ct_training.scoring.lpips import Lpips
from diff2ct_training.scoring.screw_scores import ScrewScorer
from diff2ct_training.scoring.shapes import score_shapes
from diff2ct_training.scoring.slices import plane_slices
from diff2ct_training.scoring.vertebrae import score_bone_in_labels, score_labels

Scores = dict[str, float]

_fingerprint = cache(fingerprint)
"""Of networks, which are large and the same for all cases."""


@dataclass(frozen=True)
class ScoringOptions:
    """What is scored beyond the voxelwise figures. compat: names of `COMPATIBILITY`. lpips: weights of AlexNet, VGG-16 or both.
    inception: the network whose features FID and KID compare, TorchScript.
    predicted_labels: by method, a folder with label maps of its reconstructions, CASE.nrrd or the like, in the numbers of
    label_scheme, one of `labels.SCHEMES`."""

    compat: tuple[str, ...] = ()
    lpips: tuple[Path, ...] = ()
    inception: Path | None = None
    predicted_labels: Mapping[str, Path] = field(default_factory=dict)
    label_scheme: str = TOTALSEGMENTATOR
    device: str = "cpu"

    def identity(self, method: str, case_name: str) -> str:
        """All of it that decides the scores of one volume, as text; empty if there is nothing beyond the defaults."""
        parts = [f"compat {name} v{COMPATIBILITY_VERSION}" for name in self.compat]
        parts += [f"LPIPS v0.1 {_fingerprint(trunk)}" for trunk in self.lpips]
        if self.inception is not None:
            parts.append(self.inception_identity)
        labels = self.labels_of(method, case_name)
        if labels is not None:
            parts.append(f"its labels {fingerprint(labels)}")
        return ", ".join(parts)

    @property
    def inception_identity(self) -> str:
        return "" if self.inception is None else f"features {_fingerprint(self.inception)}"

    def labels_of(self, method: str, case_name: str) -> Path | None:
        folder = self.predicted_labels.get(method)
        return None if folder is None else find_labels(folder, case_name)


class CaseScorer:
    """Scores volumes of one case; what depends on the truth alone is worked out once, when it is first needed."""

    def __init__(self, case: EvaluationCase, options: ScoringOptions, lpips: Sequence[Lpips] = ()) -> None:
        self._case, self._options, self._lpips = case, options, lpips
        self._truth, self._mask = torch.from_numpy(case.truth.hu), torch.from_numpy(case.mask)
        self._screws = None if case.screws is None else ScrewScorer(case.screws, case.grid, case.mask, case.labels)

    def score(self, predicted: Prediction, method: str) -> tuple[Scores, list[dict[str, Any]]]:
        """(scores, one dict per true screw). method: whose label maps to look for."""
        case, volume = self._case, CtVolume(predicted.hu, self._case.grid)
        if predicted.on_scan:
            scan = None if case.read_scan is None else case.read_scan()
            return ({} if scan is None else score_on_scan(volume, scan, case.mask, self._body)), []
        prediction = torch.from_numpy(volume.hu)
        scores = evaluate_volume(prediction, self._truth, self._mask, self._regions)
        for name in self._options.compat:
            scores |= COMPATIBILITY[name](prediction, self._truth, self._mask)
        scores |= self._reprojection(volume)
        for view, before in zip(("frontal", "lateral"), predicted.reprojection_before, strict=False):
            scores |= _of_view(before, view, "before_")
        if self._lpips:
            scores |= self._perceptual(prediction)
        own_labels = self._own_labels(method)
        if case.labels is not None:
            scores |= self._vertebrae(volume.hu, own_labels)
        screws: list[dict[str, Any]] = []
        if self._screws is not None:
            of_screws, screws = self._screws.score(volume, own_labels)
            scores |= of_screws
        if predicted.samples is not None:
            scores |= score_samples(predicted.samples, self._truth_in_window, self._body)
        for level, (lower, upper) in predicted.intervals.items():
            inside = (lower <= self._truth_in_window) & (self._truth_in_window <= upper)
            scores[f"coverage_calibrated_{level}"] = float(inside[self._body].mean()) if self._body.any() else math.nan
        if predicted.bounds:
            scores |= self._bounds_hold(prediction, predicted.bounds)
        return scores, screws

    def _bounds_hold(self, prediction: torch.Tensor, bounds: Mapping[str, Mapping[str, float]]) -> Scores:
        """Per level in percent, the share of this patient's figures that are within their conformal bounds. Over many patients
        it should be the level; figures of one patient are not independent."""
        found = figures_of(torch.where(self._mask, prediction, WIDE.lo), self._voxel_ml)
        held: dict[str, list[bool]] = {}
        for name, true in self._true_figures.items():
            for level, radius in bounds.get(name, {}).items():
                held.setdefault(f"bounds_hold_{100 * float(level):.0f}", []).append(abs(found[name] - true) <= radius)
        return {name: float(np.mean(of_figures)) for name, of_figures in held.items()}

    @cached_property
    def _true_figures(self) -> dict[str, float]:
        return figures_of(torch.where(self._mask, self._truth, WIDE.lo).clip(WIDE.lo, WIDE.hi), self._voxel_ml)

    @property
    def _voxel_ml(self) -> float:
        return math.prod(self._case.grid.spacing_mm) / 1000

    @cached_property
    def _truth_in_window(self) -> np.ndarray:
        """What samples and intervals can reach: they end where HU are clipped."""
        return self._case.truth.hu.clip(WIDE.lo, WIDE.hi)

    @cached_property
    def _regions(self) -> dict[str, torch.Tensor]:
        return region_masks(self._truth.clip(WIDE.lo, WIDE.hi), self._mask)

    @cached_property
    def _body(self) -> np.ndarray:
        return self._regions["body"].numpy()

    def _reprojection(self, volume: CtVolume) -> Scores:
        scores: Scores = {}
        for radiograph in self._case.radiographs:
            view = "lateral" if radiograph.geometry.view.is_lateral else "frontal"
            scores |= _of_view(reproject(volume, radiograph), view)
        return scores

    @cached_property
    def _truth_slices(self) -> dict[str, torch.Tensor]:
        return plane_slices(self._truth, self._mask)

    def _perceptual(self, prediction: torch.Tensor) -> Scores:
        planes = plane_slices(prediction, self._mask)
        scores: Scores = {}
        for distance in self._lpips:
            name = f"lpips_{distance.name}"
            means = {f"{name}_{plane}": float(distance(planes[plane], t).mean()) for plane, t in self._truth_slices.items()}
            scores |= {name: float(np.mean(list(means.values()))), **means}
        return scores

    def _own_labels(self, method: str) -> np.ndarray | None:
        path = self._options.labels_of(method, self._case.name)
        return None if path is None else read_vertebrae(path, self._case.grid, self._options.label_scheme)

    def _vertebrae(self, hu: np.ndarray, own_labels: np.ndarray | None) -> Scores:
        case = self._case
        assert case.labels is not None
        scores = score_bone_in_labels(hu, case.truth.hu, case.labels, case.mask)
        if own_labels is not None:
            known = np.where(case.mask, own_labels, 0)
            scores |= score_labels(known, case.labels, case.grid.spacing_mm, case.mask)
            scores |= score_shapes(known, case.labels, case.grid.spacing_mm, case.mask)
        return scores


def _of_view(agreement: Mapping[str, float], view: str, when: str = "") -> Scores:
    """What `reproject` gives, under the names of columns."""
    return {f"reprojection_{when}{name.removeprefix('relative_')}_{view}": value for name, value in agreement.items()}
