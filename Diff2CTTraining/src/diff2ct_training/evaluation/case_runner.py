"""One case of an evaluation: rendered, reconstructed by every method, scored. Here, or in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.memory import share_gpu
from diff2ct.volume import CtVolume
from diff2ct.volume_io import write_volume
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase, made
from diff2ct_training.evaluation.methods import Method, PlannedMethod, Prediction
from diff2ct_training.evaluation.panels import planes_of, xrays_of
from diff2ct_training.evaluation.results import TRUTH, Key
from diff2ct_training.figures import NOTICE, Shown
from diff2ct_training.parallel import Failed
from diff2ct_training.scoring.case_scores import CaseScorer, ScoringOptions
from diff2ct_training.scoring.inception import Inception
from diff2ct_training.scoring.lpips import Lpips, load_lpips
from diff2ct_training.scoring.slices import plane_slices


@dataclass(frozen=True)
class Wanted:
    """A result to be: a method's mean, or the first of its samples, which is what a single run would have given."""

    key: Key
    made_by: str
    first_sample: bool = False


@dataclass(frozen=True, eq=False)
class CaseTask:
    """What is missing of a case: results by method, and the files of volumes that are to be written. truth: what makes the
    files of `TRUTH`, None if they are there."""

    planned: PlannedCase
    missing: Mapping[str, Sequence[Wanted]]
    volumes: Mapping[str, Path]
    truth: str | None

    @property
    def is_done(self) -> bool:
        return self.truth is None and not self.volumes and not any(self.missing.values())


@dataclass(frozen=True, eq=False)
class Found:
    """A result, as `Results` keeps it. row: None for the truth, which has files only."""

    key: Key
    made_by: str
    row: dict[str, Any] | None
    screws: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]


class BadCase(ValueError):
    """A case that cannot be rendered, as its file is damaged or too large: no reason to leave the others."""


class CaseRunner:
    """Runs methods on cases. It pickles; networks are loaded and methods set up when the first case needs them. processes: how
    many have one and share a GPU, if there is one."""

    def __init__(self, methods: Mapping[str, PlannedMethod], scoring: ScoringOptions, processes: int = 1) -> None:
        self.methods, self._scoring, self._processes = methods, scoring, processes
        self._built: dict[str, Method] = {}

    def __call__(self, task: CaseTask) -> list[tuple[str, list[Found]]] | BadCase:
        """All `results` of a task, in one of the processes."""
        share_gpu(self._processes)
        try:
            return list(self.results(task))
        except BadCase as bad:
            return bad

    def results(self, task: CaseTask) -> Iterator[tuple[str, list[Found]]]:
        """(method, what was missing of it) after each method, then (`TRUTH`, ...). Raises `BadCase`."""
        rendered = _Rendered(task.planned, self._scoring, self._networks)
        for name, method in self.methods.items():
            missing, volume = task.missing[name], task.volumes.get(name)
            yield name, self._run(name, method, rendered, missing, volume) if missing or volume is not None else []
        yield TRUTH, [] if task.truth is None else [rendered.truth(task.truth)]

    def for_processes(self, tasks: Sequence[CaseTask], processes: int) -> CaseRunner:
        """One to be sent to processes: of the methods that these tasks need, those that are `shared` are set up."""
        needed = {name for task in tasks for name in self.methods if task.missing[name] or name in task.volumes}
        ready = {name: m.set_up() if m.shared and name in needed else m for name, m in self.methods.items()}
        return CaseRunner(ready, self._scoring, processes)

    def check(self) -> None:
        """Load the networks that score now. Raises ValueError where one cannot be."""
        _ = self._networks

    @cached_property
    def _networks(self) -> Networks:
        inception, device = self._scoring.inception, self._scoring.device
        return Networks(
            load_lpips(self._scoring.lpips, device), None if inception is None else Inception(inception, device=device)
        )

    def _run(
        self, name: str, method: PlannedMethod, rendered: _Rendered, missing: Sequence[Wanted], volume: Path | None
    ) -> list[Found]:
        if name not in self._built:
            self._built[name] = method.build()
        run, case = self._built[name], rendered.case  # before the clock starts
        start = time.perf_counter()
        given = run(case)
        seconds = time.perf_counter() - start
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # other processes may need what this one keeps for its next reconstruction
        prediction = given if isinstance(given, Prediction) else Prediction(given, None, {})
        if volume is not None:
            _write(CtVolume(prediction.hu, case.grid), volume, method.identity)
        return [
            rendered.score(result, prediction, seconds / (method.num_samples if result.first_sample else 1))
            for result in missing
        ]


@dataclass(frozen=True, eq=False)
class Networks:
    """Those that were asked for, loaded."""

    lpips: tuple[Lpips, ...] = ()
    inception: Inception | None = None


class _Rendered:
    """A case as far as it is needed: rendered when a method first asks for it, its truth worked out once for all methods."""

    def __init__(self, planned: PlannedCase, scoring: ScoringOptions, networks: Networks) -> None:
        self._planned, self._scoring, self._networks = planned, scoring, networks

    @cached_property
    def case(self) -> EvaluationCase:
        case = made(self._planned.make)
        if isinstance(case, Failed):
            raise BadCase(case.reason)
        return case

    @cached_property
    def _scorer(self) -> CaseScorer:
        return CaseScorer(self.case, self._scoring, self._networks.lpips)

    @cached_property
    def _at(self) -> Shown:
        return Shown.through_spine(self.case.truth)

    def score(self, wanted: Wanted, prediction: Prediction, seconds: float) -> Found:
        """Score what a method gave."""
        shown = prediction.first() if wanted.first_sample else prediction
        scores, screws = self._scorer.score(shown, wanted.key[2])
        row = {"seconds": seconds, **_facts(self.case), **scores}
        arrays = planes_of(shown.hu, self._at) if shown.on_scan else self._arrays(shown.hu)  # features are of the grid's voxels
        return Found(wanted.key, wanted.made_by, row, screws, arrays)

    def truth(self, made_by: str) -> Found:
        """What figures and pooled distances need of the truth."""
        arrays = {**self._arrays(self.case.truth.hu), **xrays_of(self.case.radiographs)}
        return Found((self._planned.dataset, self._planned.name, TRUTH), made_by, None, [], arrays)

    def _arrays(self, hu: np.ndarray) -> dict[str, np.ndarray]:
        return {**planes_of(hu, self._at), **_features(hu, self.case, self._networks)}


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
