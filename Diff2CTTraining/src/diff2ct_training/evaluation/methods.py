"""What is compared: reconstructions by checkpoints, and baselines. Every method gets the same radiographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.consistency import Consistency
from diff2ct.metrics import body_mask
from diff2ct.reconstruct import Reconstruction, reconstruct
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training import baselines
from diff2ct_training.evaluation.cases import FIRST_TRAINING_SEED, EvaluationCase

Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Prediction:
    """hu: (D, H, W) on the case's grid. samples: (K, D, H, W) it was made from, None without. intervals: by level in percent,
    (lower, upper), each (D, H, W), that a calibration gives; empty without."""

    hu: np.ndarray
    samples: np.ndarray | None
    intervals: dict[int, Interval]

    def first(self) -> Prediction:
        """What one sample alone would have been."""
        assert self.samples is not None
        return Prediction(self.samples[0], None, {})


Method = Callable[[EvaluationCase], Prediction | np.ndarray]
"""A case's radiographs -> what it gives, or only HU (D, H, W). Only oracles look at the truth."""


@dataclass(frozen=True, eq=False)
class PlannedMethod:
    """A method that is set up when it is needed. identity: everything that decides what it gives, as text. num_samples: K."""

    identity: str
    build: Callable[[], Method]
    num_samples: int = 1


def plan_checkpoint(
    checkpoint: Checkpoint,
    *,
    num_steps: int | None,
    num_samples: int,
    seed: int,
    device: str,
    consistency: bool | None = None,
) -> PlannedMethod:
    """The whole inference path that the module and the command line run, for any checkpoint that `reconstruct` takes."""

    def method(case: EvaluationCase) -> Prediction:
        result = reconstruct(
            case.radiographs, checkpoint, num_steps=num_steps, num_samples=num_samples, seed=seed, device=device,
            consistency=consistency,
        )  # fmt: skip
        return _prediction(result, case.grid)

    sampling = describe_sampling(checkpoint, num_steps, num_samples, seed)
    calibration = "" if checkpoint.calibration is None else f", calibrated {hash_of(checkpoint.calibration)}"
    consistent = "" if not calibration or consistency is False else f", {Consistency()}"
    identity = f"checkpoint {checkpoint.sha256[:16]}{calibration}{consistent}, {sampling}, on {device}"
    return PlannedMethod(identity, lambda: method, 1 if checkpoint.in_one_pass else num_samples)


def describe_sampling(checkpoint: Checkpoint, num_steps: int | None, num_samples: int, seed: int) -> str:
    """How a checkpoint is run, in words."""
    if checkpoint.in_one_pass:
        return "one pass"
    steps = num_steps or checkpoint.sampling.num_steps
    return f"{checkpoint.sampling.sampler}, {steps} steps, {num_samples} samples, seed {seed}"


def _prediction(result: Reconstruction, grid: VolumeGrid) -> Prediction:
    """A reconstruction on the case's grid; a model of another grid is resampled."""
    from diff2ct.volume_io import resample

    own = result.volume.grid

    def moved(hu: np.ndarray) -> np.ndarray:
        return hu if own == grid else resample(CtVolume(hu, own), grid).hu

    levels = () if result.calibration is None else (50, 80, 90)
    intervals = {level: tuple(moved(hu) for hu in result.interval_hu(level / 100)) for level in levels}
    samples = np.stack([moved(hu) for hu in result.samples_hu]) if len(result.samples_hu) > 1 else None
    return Prediction(moved(result.volume.hu), samples, intervals)  # type: ignore[arg-type]  # two each


BASELINES: dict[str, Method] = {
    "flat-body": lambda case: baselines.flat_body(case.radiographs, case.grid),
    "backprojection": lambda case: baselines.backprojection(case.radiographs, case.grid),
    "sirt": lambda case: baselines.sirt(case.radiographs, case.grid),
    "sirt-tv": lambda case: baselines.sirt(case.radiographs, case.grid, tv_weight=baselines.TV_WEIGHT),
    "oracle-true-body-flat": lambda case: baselines.fill_body(body_mask(torch.from_numpy(case.truth.hu)).numpy()),
    "oracle-truth": lambda case: case.truth.hu,
}
"""Methods without weights. The oracles show what a score owes to outlines alone (the true body filled with soft tissue) and
what is best at all: the truth itself, on which a screw detector has errors of its own."""


def plan_baseline(name: str) -> PlannedMethod:
    return PlannedMethod(f"baseline {name}", partial(BASELINES.__getitem__, name))


def plan_train_mean(num_phantoms: int, model_grid: VolumeGrid) -> PlannedMethod:
    """`train_mean_method`, later."""
    return PlannedMethod(f"mean of {num_phantoms} training phantoms", partial(train_mean_method, num_phantoms, model_grid))


def train_mean_method(num_phantoms: int, model_grid: VolumeGrid, on_phantom: Callable[[], None] | None = None) -> Method:
    """The same volume for every case: the mean of the first `num_phantoms` training phantoms, computed here once."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + num_phantoms)
    mean = baselines.train_mean(seeds, model_grid, on_phantom)
    return lambda case: mean


def plan_nearest_neighbour(num_phantoms: int, case_files: Sequence[Path] = ()) -> PlannedMethod:
    """The training patient whose X-rays are most like the given ones: prepared cases, or else the first training phantoms."""

    def build() -> Method:
        seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + num_phantoms)
        known = baselines.case_neighbours(case_files) if case_files else baselines.phantom_neighbours(seeds)
        return lambda case: baselines.nearest_neighbour(case.radiographs, case.grid, known)

    who = ", ".join(file.stem for file in case_files)
    return PlannedMethod(f"nearest of {hash_of(who) if who else f'{num_phantoms} training phantoms'}", build)


def hash_of(what: object) -> str:
    """Eight hex digits of what something prints as."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:8]
