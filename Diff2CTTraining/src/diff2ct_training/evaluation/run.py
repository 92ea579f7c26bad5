"""Cases x methods -> results -> report.

Every row says what made it (`made_by`): an evaluation that is repeated, extended or was interrupted computes only what is not
there yet. Cases are rendered one at a time, and only those of which something is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch

from diff2ct.volume import CtVolume
from diff2ct.volume_io import write_volume
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase
from diff2ct_training.evaluation.methods import PlannedMethod, Prediction
from diff2ct_training.evaluation.panels import planes_of, xrays_of
from diff2ct_training.evaluation.report import ONE_SAMPLE, write_report
from diff2ct_training.evaluation.results import TRUTH, Key, Results
from diff2ct_training.evaluation.tables import Row
from diff2ct_training.figures import NOTICE, Shown
from diff2ct_training.scoring.case_scores import CaseScorer, ScoringOptions
from diff2ct_training.scoring.inception import Inception
from diff2ct_training.scoring.lpips import Lpips
from diff2ct_training.scoring.slices import plane_slices

VERSION = 2
"""Part of every row's `made_by`. Raise it when a metric, a phantom, the rendering, a baseline or the inference path comes to
give other numbers: rows of another version are computed again."""


@dataclass(frozen=True)
class Result:
    """One row to be: a method's mean, or the first of its samples, which is what a single run would have given."""

    key: Key
    made_by: str
    method: str
    first_sample: bool = False


@dataclass(frozen=True, eq=False)
class Networks:
    """Those that were asked for, loaded."""

    lpips: Lpips | None = None
    inception: Inception | None = None


def evaluate(
    cases: Sequence[PlannedCase],
    methods: Mapping[str, PlannedMethod],
    output: Path,
    *,
    scoring: ScoringOptions | None = None,
    settings: Sequence[tuple[str, str]] = (),
    afresh: bool = False,
    keep_volumes: bool = False,
    on_result: Callable[[str, str], None] | None = None,
) -> list[Row]:
    """Run every method on every case and write `per_case.csv` (after each result), then all of `write_report` into `output`.

    Rows that `per_case.csv` has already, made by the same case, method and scoring, are kept, unless `afresh`. Rows of other
    cases and methods stay at its end; the report is of these `cases` and `methods` only. A method of several samples has a row
    for their mean and one for the first of them.

    settings: (name, value) lines that say how it was made. keep_volumes: write every reconstruction to
    `output`/volumes/METHOD/CASE.nrrd. on_result: called with case and method after each.

    Returns the rows of `cases` and `methods`.
    """
    scoring = scoring or ScoringOptions()
    if len({(case.dataset, case.name) for case in cases}) < len(cases):
        listed = ", ".join(case.name for case in cases)
        raise ValueError(f"cases: got two of the same name among {listed}, accepted is one each")
    networks = Networks(
        None if scoring.lpips is None else Lpips(scoring.lpips, device=scoring.device),
        None if scoring.inception is None else Inception(scoring.inception, device=scoring.device),
    )
    results = Results(output, afresh=afresh)
    wanted = {case: {name: _wanted(case, name, m, scoring) for name, m in methods.items()} for case in cases}
    keys = [result.key for of_case in wanted.values() for of_method in of_case.values() for result in of_method]
    built = {name: cache(method.build) for name, method in methods.items()}

    for planned in cases:
        rendered = _Rendered(planned, results, scoring, networks)
        for name, method in methods.items():
            volume = output / "volumes" / name / f"{planned.name}.nrrd" if keep_volumes else None
            missing = [result for result in wanted[planned][name] if not results.has(result.key, result.made_by)]
            if missing or (volume is not None and not volume.exists()):
                start = time.perf_counter()
                given = built[name]()(rendered.case)
                seconds = time.perf_counter() - start
                prediction = given if isinstance(given, Prediction) else Prediction(given, None, {})
                for result in missing:
                    rendered.keep(result, prediction, seconds / (method.num_samples if result.first_sample else 1))
                if volume is not None:
                    _write(CtVolume(prediction.hu, rendered.case.grid), volume, method.identity)
                results.write(keys)
            if on_result is not None:
                on_result(planned.name, name)
        rendered.keep_truth()
    results.write(keys)
    write_report(results, keys, settings)
    return results.rows(keys)


class _Rendered:
    """A case as far as it is needed: rendered when a method first asks for it, its truth worked out once for all methods."""

    def __init__(self, planned: PlannedCase, results: Results, scoring: ScoringOptions, networks: Networks) -> None:
        self._planned, self._results, self._scoring, self._networks = planned, results, scoring, networks

    @cached_property
    def case(self) -> EvaluationCase:
        return self._planned.make()

    @cached_property
    def _scorer(self) -> CaseScorer:
        return CaseScorer(self.case, self._scoring, self._networks.lpips)

    @cached_property
    def _at(self) -> Shown:
        return Shown.through_spine(self.case.truth)

    def keep(self, result: Result, prediction: Prediction, seconds: float) -> None:
        """Score what a method gave, and add the result."""
        shown = prediction.first() if result.first_sample else prediction
        scores, screws = self._scorer.score(shown, result.key[2])
        row = {"seconds": seconds, **_facts(self.case), **scores}
        self._results.add(result.key, result.made_by, row, screws, self._arrays(shown.hu))

    def keep_truth(self) -> None:
        """What figures and pooled distances need of the truth, if it is not there already."""
        key = (self._planned.dataset, self._planned.name, TRUTH)
        made_by = "; ".join(filter(None, (f"v{VERSION}", self._planned.identity, self._scoring.inception_identity)))
        if not self._results.has_arrays(key, made_by):
            self._results.add_arrays(key, made_by, {**self._arrays(self.case.truth.hu), **xrays_of(self.case.radiographs)})

    def _arrays(self, hu: np.ndarray) -> dict[str, np.ndarray]:
        return {**planes_of(hu, self._at), **_features(hu, self.case, self._networks)}


def _wanted(case: PlannedCase, name: str, method: PlannedMethod, scoring: ScoringOptions) -> list[Result]:
    """The rows of one case and method."""
    variants = {name: False} if method.num_samples == 1 else {name: False, f"{name}{ONE_SAMPLE}": True}
    found = []
    for shown, first in variants.items():
        parts = (
            f"v{VERSION}",
            case.identity,
            method.identity,
            "first sample" if first else "",
            scoring.identity(shown, case.name),
        )
        found.append(Result((case.dataset, case.name, shown), "; ".join(filter(None, parts)), name, first))
    return found


def _facts(case: EvaluationCase) -> dict[str, float]:
    """What is known of the case before any reconstruction."""
    if case.spacing_mm is None:
        return {}
    return {"pixel_spacing_mm": case.spacing_mm[0], "slice_spacing_mm": case.spacing_mm[1]}


def _features(hu: np.ndarray, case: EvaluationCase, networks: Networks) -> dict[str, np.ndarray]:
    if networks.inception is None:
        return {}
    slices = plane_slices(torch.from_numpy(hu), torch.from_numpy(case.mask))
    return {f"features_{plane}": networks.inception(images) for plane, images in slices.items()}


def _write(volume: CtVolume, path: Path, identity: str) -> None:
    """A reconstruction in whole HU, e.g. for a segmenter whose labels `predicted_labels` then scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = CtVolume(np.rint(volume.hu), volume.grid)
    write_volume(rounded, path, attributes={"Notice": NOTICE, "MadeBy": identity}, overwrite=True)
