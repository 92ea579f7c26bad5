"""What is compared: reconstructions by checkpoints, and baselines. Every method gets the same radiographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.metrics import body_mask
from diff2ct.reconstruct import reconstruct
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training import baselines
from diff2ct_training.evaluation.cases import FIRST_TRAINING_SEED, EvaluationCase

Method = Callable[[EvaluationCase], np.ndarray]
"""A case's radiographs -> samples (K, D, H, W) HU on its grid, or one volume (D, H, W). The mean of samples is what is scored,
the samples tell whether their spread means something. Only oracles look at the truth."""


@dataclass(frozen=True, eq=False)
class PlannedMethod:
    """A method that is set up when it is needed. identity: everything that decides what it gives, as text. num_samples: K."""

    identity: str
    build: Callable[[], Method]
    num_samples: int = 1


def plan_checkpoint(
    checkpoint: Checkpoint, *, num_steps: int | None, num_samples: int, seed: int, device: str
) -> PlannedMethod:
    """The whole inference path that the module and the command line run, for any checkpoint that `reconstruct` takes."""
    usual = checkpoint.sampling
    steps, num_samples = (1, 1) if checkpoint.in_one_pass else (num_steps or usual.num_steps, num_samples)
    way = "one pass" if checkpoint.in_one_pass else f"{usual.sampler}, {steps} steps, {num_samples} samples, seed {seed}"
    options = f"{way}, on {device}"

    def method(case: EvaluationCase) -> np.ndarray:
        result = reconstruct(case.radiographs, checkpoint, num_steps=steps, num_samples=num_samples, seed=seed, device=device)
        return _on_grid(result.samples_hu, result.volume.grid, case.grid)

    return PlannedMethod(f"checkpoint {checkpoint.sha256[:16]}, {options}", lambda: method, num_samples)


def _on_grid(samples: np.ndarray, own: VolumeGrid, grid: VolumeGrid) -> np.ndarray:
    """Samples (K, D, H, W) of a model with another grid, resampled."""
    from diff2ct.volume_io import resample

    return samples if own == grid else np.stack([resample(CtVolume(hu, own), grid).hu for hu in samples])


BASELINES: dict[str, Method] = {
    "flat-body": lambda case: baselines.flat_body(case.radiographs, case.grid),
    "backprojection": lambda case: baselines.backprojection(case.radiographs, case.grid),
    "sirt": lambda case: baselines.sirt(case.radiographs, case.grid),
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
