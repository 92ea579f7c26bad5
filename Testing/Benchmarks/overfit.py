"""One-sample overfit: a denoiser trained on one phantom alone must sample that phantom back, PSNR > 35 dB in [-1000, 4096] HU.

    .venv/bin/python Testing/Benchmarks/overfit.py [--steps 800]

A wrong alpha_bar, a wrong sign or a sampler that does not fit its training gives a beautiful loss and garbage here. About 7
minutes on two CPU cores; exit status 1 if 35 dB are not reached.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from diff2ct.diffusion import SAMPLERS, SampleNoise, predict_x0, trailing_timesteps
from diff2ct.metrics import WIDE, psnr
from diff2ct.networks import X2NoiseNet
from diff2ct.phantom import make_phantom
from diff2ct.process import tune_allocator
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views
from diff2ct_training.cases import Case
from diff2ct_training.denoiser import denoising_loss, draw_noise
from diff2ct_training.loop import learning_rate
from diff2ct_training.optimizers import make_optimizers
from diff2ct_training.pairs import batch_of, make_pair
from diff2ct_training.recipes import default

TARGET_DB = 35.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800)
    num_steps = parser.parse_args().steps
    tune_allocator()
    torch.manual_seed(0)
    recipe, grid = replace(default(), num_steps=num_steps), VolumeGrid.centered(64, 4.0)
    phantom = make_phantom(7, num_screws=6)
    image = phantom.render(phantom.body_grid(4.0)).hu
    case = Case("phantom", "phantom", image.hu.round().astype(np.int16), image.grid, (0.0, 0.0, 0.0), "make_phantom(7)")
    rng, config = np.random.default_rng(0), AcquisitionConfig(detector_pixels=96)
    batch = batch_of([make_pair(acquire_views(case, rng, config, grid), rng, None, recipe.hu_map, recipe.condition)])

    network = X2NoiseNet(recipe.network).channels_last()
    optimizers = make_optimizers(network, recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
    start = time.monotonic()
    for step in range(1, num_steps + 1):
        with torch.autocast("cpu", torch.bfloat16):
            terms = denoising_loss(network, batch, *draw_noise([step], batch, recipe.diffusion.num_timesteps), recipe)
        terms["loss"].backward()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step)
            optimizer.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step} of {num_steps}: mse {float(terms['mse']):.5f}, {time.monotonic() - start:.0f} s", flush=True)

    truth, scores = recipe.hu_map.to_hu(batch.x_0[0, 0]), {}
    for name, sampler in SAMPLERS.items():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            denoiser = predict_x0(lambda x, t: network(x, t, batch.condition), recipe.diffusion)
            times = trailing_timesteps(recipe.diffusion.num_timesteps, 25)
            x_0 = sampler(denoiser, recipe.diffusion.alpha_bar, times, SampleNoise([5], tuple(batch.x_0.shape[1:])))
        scores[name] = psnr(recipe.hu_map.to_hu(x_0[0, 0].float()), truth, WIDE)
        print(f"{name}, 25 steps: PSNR {scores[name]:.1f} dB (target {TARGET_DB})")
    return 0 if min(scores.values()) > TARGET_DB else 1


if __name__ == "__main__":
    sys.exit(main())
