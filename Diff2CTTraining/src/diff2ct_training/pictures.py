"""What the network makes of a training sample, as a picture: truth, one-step estimate and a full sample, three mid planes
each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diff2ct.diffusion import SampleNoise, predict_x0, sample_dpm_solver, trailing_timesteps
from diff2ct_training.pairs import Pair
from diff2ct_training.recipes import Recipe
from diff2ct_training.training_state import Ema

WINDOW_HU = (-250.0, 850.0)
SAMPLE_STEPS = 8


@torch.no_grad()
def write(
    path: Path, network: nn.Module, ema: Ema, batch: Pair, t: torch.Tensor, recipe: Recipe, loggers: Sequence[Any], step: int
) -> None:
    """Sample the first pair of `batch` with the EMA weights; write a PNG where matplotlib is installed and tell TensorBoard."""
    training_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(ema.weights)
    first, device = batch.condition[:1], batch.x_0.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision.startswith("bf16"))
    with autocast:
        denoiser = predict_x0(lambda x, time: network(x, time, first), recipe.diffusion)
        noise = SampleNoise([0], tuple(batch.x_0.shape[1:]), device)
        alpha_bar, last = recipe.diffusion.alpha_bar, recipe.diffusion.num_timesteps
        one = sample_dpm_solver(denoiser, alpha_bar, [last], noise)
        sample = sample_dpm_solver(denoiser, alpha_bar, trailing_timesteps(last, min(SAMPLE_STEPS, last)), noise)
    network.load_state_dict(training_weights)
    sheet = np.concatenate([_planes(recipe.hu_map.to_hu(x[0, 0].float().cpu().numpy())) for x in (batch.x_0[:1], one, sample)])
    for logger in loggers:
        if hasattr(logger.experiment, "add_image"):
            logger.experiment.add_image("truth, one step, sample", sheet[None], step)
    try:
        from matplotlib.image import imsave
    except ModuleNotFoundError:
        return
    imsave(path, sheet, cmap="gray", vmin=0, vmax=1)


def _planes(hu: np.ndarray) -> np.ndarray:
    """(D, H, W) -> mid-axial, mid-coronal and mid-sagittal side by side in [0, 1], head up, equal heights."""
    low, high = WINDOW_HU
    depth, height, width = hu.shape
    planes = [hu[depth // 2], hu[::-1, height // 2], hu[::-1, :, width // 2]]
    tallest = max(p.shape[0] for p in planes)
    planes = [np.pad(p, ((0, tallest - p.shape[0]), (0, 0)), constant_values=low) for p in planes]
    return ((np.concatenate(planes, axis=1) - low) / (high - low)).clip(0, 1)
