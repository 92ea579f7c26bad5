"""What is compared: reconstructions by checkpoints, and baselines. Every method gets the same radiographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.consistency import Consistency
from diff2ct.diffusion import Sampling, trailing_timesteps
from diff2ct.metrics import body_mask
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import Reconstruction, reconstruct
from diff2ct.translator import Translator, load_translator
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample
from diff2ct_training import baselines
from diff2ct_training.cases import describe_case, list_cases
from diff2ct_training.evaluation.cases import PHANTOMS, EvaluationCase
from diff2ct_training.phantom_seeds import training_seeds

Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Prediction:
    """hu: (D, H, W) on the case's grid. samples: (K, D, H, W) it was made from, None without. intervals: by level in percent,
    (lower, upper), each (D, H, W), that a calibration gives; bounds: of single figures, `uncertainty.Calibration.bounds`; both
    empty without. reprojection_before: frontal, lateral, of the same volume before data consistency, as `Reconstruction` has
    it; empty without, and for a model of other voxels than the case's, whose figures would be of them. on_scan: hu is
    interpolated to the voxels of the case's scan and scored there."""

    hu: np.ndarray
    samples: np.ndarray | None
    intervals: dict[int, Interval]
    bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reprojection_before: tuple[dict[str, float], ...] = ()
    on_scan: bool = False

    def first(self) -> Prediction:
        """What one sample alone would have been."""
        assert self.samples is not None
        return Prediction(self.samples[0], None, {})


Method = Callable[[EvaluationCase], Prediction | np.ndarray]
"""A case's radiographs -> what it gives, or only HU (D, H, W). Only oracles look at the truth."""


@dataclass(frozen=True, eq=False)
class PlannedMethod:
    """A method that is set up when it is needed. identity: everything that decides what it gives, as text. build: pickles.
    num_samples: K. shared: takes long to set up, and what is set up then pickles: once for all processes. needs_scan: runs on
    cases that have their original scan, and there only."""

    identity: str
    build: Callable[[], Method]
    num_samples: int = 1
    shared: bool = False
    needs_scan: bool = False

    def set_up(self) -> PlannedMethod:
        """The same method, set up already."""
        return replace(self, build=partial(_itself, self.build()))


def _itself(method: Method) -> Method:
    return method


@dataclass(frozen=True, kw_only=True)
class CheckpointUse:
    """A checkpoint's file, None for the embedded one, and how it is run, as `reconstruct` says. translator: a file too."""

    file: Path | None = None
    num_steps: int | None = None
    sampler: str | None = None
    num_samples: int = 1
    seed: int = 0
    consistency: Consistency | bool | None = None
    translator: Path | None = None
    device: str = "cpu"

    def sampling_of(self, checkpoint: Checkpoint) -> Sampling:
        """How it is sampled, what is not said here as the checkpoint says. Raises ValueError where that cannot be."""
        sampling = checkpoint.sampling.changed(sampler=self.sampler, num_steps=self.num_steps)
        if checkpoint.diffusion is not None:
            trailing_timesteps(checkpoint.diffusion.num_timesteps, sampling.num_steps)  # refuses too many
        return sampling


def plan_checkpoint(checkpoint: Checkpoint, use: CheckpointUse, translator: Translator | None = None) -> PlannedMethod:
    """The whole inference path that the module and the command line run, for any checkpoint that `reconstruct` takes.

    checkpoint, translator: of the files that `use` names, on any device; each process that runs the method loads its own.
    """
    sampling = describe_sampling(checkpoint, use)
    options = use.consistency if isinstance(use.consistency, Consistency) else Consistency()
    may_be_consistent = checkpoint.calibration is not None and use.consistency is not False
    consistent = f", {options}" if may_be_consistent else ""
    style = "" if translator is None else f", X-rays through translator {translator.sha256[:16]}"
    identity = f"checkpoint {checkpoint.sha256[:16]}{consistent}, {sampling}{style}, on {use.device}"
    build = partial(checkpoint_method, use, checkpoint.sha256, "" if translator is None else translator.sha256)
    return PlannedMethod(identity, build, 1 if checkpoint.in_one_pass else use.num_samples)


def checkpoint_method(use: CheckpointUse, sha256: str, translator_sha256: str = "") -> Method:
    """sha256: of the files when they were planned; ValueError if one has become another since."""
    checkpoint = load_checkpoint(use.file, device=use.device)
    translator = None if use.translator is None else load_translator(use.translator, device=use.device)
    if checkpoint.sha256 != sha256:
        raise ValueError(f"checkpoint: {use.file} was written anew while it was being evaluated")
    if translator is not None and translator.sha256 != translator_sha256:
        raise ValueError(f"translator: {use.translator} was written anew while it was being used")

    def method(case: EvaluationCase) -> Prediction:
        result = reconstruct(
            case.radiographs, checkpoint, num_steps=use.num_steps, num_samples=use.num_samples, seed=use.seed,
            sampler=use.sampler, consistency=use.consistency, translator=translator, device=use.device,
        )  # fmt: skip
        return _prediction(result, case.grid)

    return method


def describe_sampling(checkpoint: Checkpoint, use: CheckpointUse) -> str:
    """How a checkpoint is run, in words."""
    if checkpoint.in_one_pass:
        return "one pass"
    sampling = use.sampling_of(checkpoint)
    return f"{sampling.sampler}, {sampling.num_steps} steps, {use.num_samples} samples, seed {use.seed}"


def _prediction(result: Reconstruction, grid: VolumeGrid) -> Prediction:
    """A reconstruction on the case's grid; a model of another grid is resampled."""
    own = result.volume.grid

    def moved(hu: np.ndarray) -> np.ndarray:
        return hu if own == grid else resample(CtVolume(hu, own), grid).hu

    levels = () if result.calibration is None else (50, 80, 90)
    intervals = {level: tuple(moved(hu) for hu in result.interval_hu(level / 100)) for level in levels}
    samples = np.stack([moved(hu) for hu in result.samples_hu]) if len(result.samples_hu) > 1 else None
    bounds = {} if result.calibration is None else result.calibration.bounds
    same_voxels = (own.size, own.spacing_mm) == (grid.size, grid.spacing_mm)
    before = (result.reprojection_before if same_voxels else None) or ()
    return Prediction(moved(result.volume.hu), samples, intervals, bounds, before)  # type: ignore[arg-type]  # two each


ORACLE_GRID = "oracle-grid"


def _scaled(case: EvaluationCase) -> list[Radiograph]:
    return baselines.scaled(case.radiographs, case.grid)


BASELINES: dict[str, Method] = {
    "flat-body": lambda case: baselines.flat_body(case.radiographs, case.grid),
    "backprojection": lambda case: baselines.backprojection(_scaled(case), case.grid),
    "sirt": lambda case: baselines.sirt(_scaled(case), case.grid),
    "sirt-tv": lambda case: baselines.sirt(_scaled(case), case.grid, tv_weight=baselines.TV_WEIGHT),
    "oracle-true-body-flat": lambda case: baselines.fill_body(body_mask(torch.from_numpy(case.truth.hu)).numpy()),
    "oracle-truth": lambda case: case.truth.hu,
    ORACLE_GRID: lambda case: Prediction(case.truth.hu, None, {}, on_scan=True),
}
"""Methods without weights. The oracles show what a score owes to outlines alone (the true body filled with soft tissue), what
is best at all: the truth itself, on which a screw detector has errors of its own, and what the truth lost on the grid."""


def plan_baseline(name: str) -> PlannedMethod:
    return PlannedMethod(f"baseline {name}", partial(baseline, name), needs_scan=name == ORACLE_GRID)


def baseline(name: str) -> Method:
    return BASELINES[name]


def training_patients(folder: Path) -> list[Path]:
    """The training cases in a folder of prepared ones, each patient's scans as they are, without bent copies."""
    described = {file: describe_case(file) for file in list_cases(folder)}
    return [
        file for file, case in described.items() if case["split"] == "train" and not case.get("record", {}).get("variant", 0)
    ]


def plan_train_mean(
    num_phantoms: int, model_grid: VolumeGrid, case_files: Sequence[Path] = (), *, workers: int = 1
) -> PlannedMethod:
    """`train_mean_method`, later. case_files: training cases, of which the CTs count."""
    cts = tuple(file for file in case_files if describe_case(file)["kind"] == "ct")
    identity = f"mean of {num_phantoms} training phantoms" + (f", for CTs of {_who(cts)}" if cts else "")
    return PlannedMethod(identity, partial(train_mean_method, num_phantoms, model_grid, cts, workers), shared=True)


def train_mean_method(num_phantoms: int, model_grid: VolumeGrid, ct_files: Sequence[Path] = (), workers: int = 1) -> Method:
    """The same volume for every case, computed here once: for phantoms the mean of the first `num_phantoms` training phantoms,
    for CTs that of training CTs if there are any."""
    phantoms = baselines.train_mean(training_seeds(num_phantoms), model_grid, workers=workers)
    cts = baselines.cases_mean(ct_files, model_grid, workers=workers) if ct_files else phantoms
    return partial(_mean_of_kind, phantoms, cts)


def _mean_of_kind(phantoms: np.ndarray, cts: np.ndarray, case: EvaluationCase) -> np.ndarray:
    return phantoms if case.dataset.startswith(PHANTOMS) else cts


def plan_nearest_neighbour(num_phantoms: int, case_files: Sequence[Path] = (), *, workers: int = 1) -> PlannedMethod:
    """`nearest_neighbour_method`, later."""
    identity = f"nearest of {_who(case_files) if case_files else f'{num_phantoms} training phantoms'}"
    build = partial(nearest_neighbour_method, num_phantoms, tuple(case_files), workers)
    return PlannedMethod(identity, build, shared=True)


def nearest_neighbour_method(num_phantoms: int, case_files: Sequence[Path], workers: int = 1) -> Method:
    """The training patient whose X-rays are most like the given ones: prepared cases, or else the first training phantoms."""
    if case_files:
        return partial(_nearest, baselines.case_neighbours(case_files, workers=workers))
    return partial(_nearest, baselines.phantom_neighbours(training_seeds(num_phantoms), workers=workers))


def _nearest(known: Sequence[baselines.Neighbour], case: EvaluationCase) -> np.ndarray:
    return baselines.nearest_neighbour(case.radiographs, case.grid, known)


def _who(case_files: Sequence[Path]) -> str:
    """Prepared cases by name and by what is in them."""
    described = [describe_case(file) for file in case_files]
    content = [(case.get("record", {}).get("sha256"), case["center_lps"]) for case in described]
    return f"{len(case_files)} training cases {hash_of([(f.stem, *c) for f, c in zip(case_files, content, strict=True)])}"


def hash_of(what: object) -> str:
    """Eight hex digits of what something prints as."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:8]
