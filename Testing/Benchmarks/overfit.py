"""One-sample overfit: a network trained on one phantom alone must give that phantom back, in [-1000, 4096] HU.

    .venv/bin/python Testing/Benchmarks/overfit.py [--method default | --method all] [--device cuda] [--minutes 2]

A denoiser must sample it with every sampler, a network that reconstructs in one pass must give it, at PSNR above `--target`
dB. One that predicts eps is not renoised: its error at the first step counts by 1 / sqrt(alpha_bar), and fresh noise at each
step gives none of it time to fade. Training ends as soon as it does, or at the limit. A wrong alpha_bar, a wrong sign or a
sampler that does not fit its training gives a beautiful loss and garbage here; so do axes that are swapped or a loss that
misses its voxels. What is scored are the averaged weights, as in a run's checkpoint.

A schedule that does not end in pure noise has shown the network the mean of x_0 in every x_t, and sampling starts without it.
`--start mean` adds sqrt(alpha_bar_T) times that one number to the first noise: what is better then is not the network.

One line per method is printed at the end; exit status 1 if one stays below the target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning_fabric import Fabric

from diff2ct.diffusion import RENOISE_STEPS, SAMPLERS, SampleNoise, predict_x0, trailing_timesteps
from diff2ct.metrics import WIDE, psnr
from diff2ct.phantom import make_phantom
from diff2ct.process import check_device, tune_allocator
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views
from diff2ct_training.cases import Case
from diff2ct_training.denoiser import DenoiserMethod
from diff2ct_training.loop import learning_rate
from diff2ct_training.method import bare
from diff2ct_training.pairs import make_pair
from diff2ct_training.recipes import RECIPES, recipe_named
from diff2ct_training.train_command import suited_to_device
from diff2ct_training.training_state import Ema
from diff2ct_training.volume_method import VolumeBatch, VolumeMethod
from diff2ct_training.volume_samples import VolumeRecipe, VolumeSample

SAMPLE_STEPS = 25
CHECK_EVERY = 50
"""Steps."""
STARTS = ("noise", "mean")
METHODS = tuple(
    name for name, make in RECIPES.items() if isinstance(make(), VolumeRecipe) and name not in ("debug", "distilled")
)
"""Those that learn from volumes alone; a student learns from a teacher."""


@dataclass(frozen=True)
class Limits:
    """target: PSNR [dB] at which training ends. seconds: of wall time."""

    target: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """scores: PSNR [dB] by sampler, or of the one pass; those after the first below the target are not looked at."""

    scores: dict[str, float]
    step: int
    seconds: float

    @property
    def worst(self) -> float:
        return min(self.scores.values())

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {score:.1f}" for name, score in self.scores.items())
        return f"PSNR {self.worst:.1f} dB ({scores}), {self.step} steps, {self.seconds:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=(*METHODS, "all"), default="default")
    parser.add_argument("--steps", type=int, default=1000, help="at most; the learning rate falls toward the limit")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="at most, for each method")
    parser.add_argument("--draws", type=int, default=1, help="of t and noise in each step")
    parser.add_argument("--target", type=float, default=30.0, help="PSNR [dB]")
    parser.add_argument("--spacing", type=float, default=4.0, help="voxels [mm]; 8 for the large networks on a CPU")
    parser.add_argument("--learning-rate", type=float, help="at its highest; that of the recipe if left out")
    parser.add_argument("--start", choices=STARTS, default="noise", help="of sampling: noise, or noise about the mean of x_0")
    parser.add_argument("--sampler", choices=tuple(SAMPLERS), help="the only one to score; every one that suits if left out")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    tune_allocator()
    check_device(options.device)
    limits, outcomes = Limits(options.target, 60 * options.minutes), {}
    for name in METHODS if options.method == "all" else (options.method,):
        recipe = small_recipe(name, options.steps, options.spacing)
        if options.learning_rate is not None:
            recipe = replace(recipe, learning_rate=options.learning_rate)
        recipe = replace(suited_to_device(recipe, torch.device(options.device).type), batch_size=options.draws)
        outcomes[name] = overfit(recipe, options.device, limits, options.start, options.sampler)
    for name, outcome in outcomes.items():
        verdict = "reached" if outcome.worst > limits.target else "NOT REACHED"
        print(f"{name}: target {limits.target:g} dB {verdict}, {outcome}")
    return 0 if all(outcome.worst > limits.target for outcome in outcomes.values()) else 1


def small_recipe(name: str, num_steps: int, spacing_mm: float) -> VolumeRecipe:
    """The recipe in larger voxels of the same cube, 64^3 of 4 mm, without dropout, which is there against learning by heart. A
    constant rate, made for weights that are averaged, rises over 50 steps and falls toward the limit instead."""
    recipe = recipe_named(name)
    assert isinstance(recipe, VolumeRecipe)
    recipe = recipe.at_spacing(spacing_mm)
    network = replace(recipe.network, dropout=0.0) if hasattr(recipe.network, "dropout") else recipe.network
    if recipe.learning_rate_decay == "constant":
        recipe = replace(recipe, learning_rate_decay="cosine", warmup_steps=50)
    return replace(recipe, network=network, num_steps=num_steps, warmup_steps=min(recipe.warmup_steps, num_steps // 10))


def one_sample(recipe: VolumeRecipe) -> VolumeSample:
    phantom = make_phantom(7, num_screws=6)
    image = phantom.render(phantom.body_grid(recipe.grid.spacing_mm[0])).hu
    case = Case("phantom", "phantom", image.hu.round().astype(np.int16), image.grid, (0.0, 0.0, 0.0), "make_phantom(7)")
    rng, config = np.random.default_rng(0), AcquisitionConfig(detector_pixels=96)
    pair = make_pair(acquire_views(case, rng, config, recipe.grid), rng, None, recipe.hu_map, recipe.condition)
    return VolumeSample(pair, case.name, 0)


def overfit(
    recipe: VolumeRecipe, device: str, limits: Limits, start_from: str = "noise", only_sampler: str | None = None
) -> Outcome:
    """Train on one sample alone, with new noise in each step, until it is given back or a limit is reached."""
    torch.manual_seed(0)
    where, precision = torch.device(device), recipe.precision
    fabric = Fabric(
        accelerator=where.type,
        devices=[where.index or 0] if where.type == "cuda" else 1,
        precision=precision,  # type: ignore[arg-type]  # a literal of Fabric's
    )
    method = recipe.method()
    method.fabric = fabric
    method.networks = {name: fabric.setup_module(network) for name, network in method.networks.items()}
    optimizers = method.configure_optimizers()
    averaged = Ema(bare(method.network), recipe.ema_decay)
    sample = one_sample(recipe)
    batch, copies = (method.collate([sample] * count, fabric.device) for count in (1, recipe.batch_size))

    def backward(loss: torch.Tensor) -> None:
        with torch.autocast(fabric.device.type, enabled=False):
            fabric.backward(loss)

    start = time.monotonic()
    for step in range(1, recipe.num_steps + 1):
        with fabric.autocast():
            seeds = tuple(2 * (step * recipe.batch_size + n) for n in range(recipe.batch_size))
            terms = method.training_step(replace(copies, seeds=seeds), backward)
        elapsed = time.monotonic() - start
        done = max(step / recipe.num_steps, min(1.0, elapsed / limits.seconds))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, done)
            optimizer.step()
            optimizer.zero_grad()
        averaged.update(bare(method.network), step)
        if step % CHECK_EVERY == 0 or done == 1.0:
            with averaged.swapped_in(bare(method.network)):
                scores = scores_of(method, batch, limits.target, start_from, only_sampler)
            outcome = Outcome(scores, step, time.monotonic() - start)
            found = ", ".join(f"{name} {float(term.detach()):.5f}" for name, term in terms.items())
            print(f"{recipe.name}: {outcome}; {found}", flush=True)
            if outcome.worst > limits.target or done == 1.0:
                break
    return outcome


def scores_of(
    method: VolumeMethod, batch: VolumeBatch, target: float, start_from: str, only_sampler: str | None
) -> dict[str, float]:
    """PSNR [dB] of what the method makes of its sample, up to the first that is below the target."""
    to_hu, scores = method.recipe.hu_map.to_hu, {}
    truth = to_hu(batch.x_0[0, 0])
    with torch.no_grad(), method.fabric.autocast():
        for name, x_0 in estimates(method, batch, start_from, only_sampler):
            scores[name] = psnr(to_hu(x_0[0, 0].float()), truth, WIDE)
            if scores[name] <= target:
                break
    return scores


class NoiseAboutMean:
    """Draws as `noise` does, the first one about `mean`."""

    def __init__(self, noise: SampleNoise, mean: float) -> None:
        self._noise, self._mean = noise, mean

    def __call__(self) -> torch.Tensor:
        mean, self._mean = self._mean, 0.0
        return self._noise() + mean


def estimates(
    method: VolumeMethod, batch: VolumeBatch, start_from: str, only_sampler: str | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """x_0 (1, 1, D, H, W) of every sampler, the one of fewest steps first, or of the one pass. start_from: of `STARTS`."""
    if not isinstance(method, DenoiserMethod):
        yield "one pass", method.estimates(batch)[-1]
        return
    diffusion, network = method.recipe.diffusion, bare(method.network)
    denoiser = predict_x0(lambda x, t: network(x, t, batch.condition), diffusion)
    suitable = [name for name in sorted(SAMPLERS, key="renoise".__ne__) if name != "renoise" or diffusion.prediction != "eps"]
    for name in suitable if only_sampler is None else [only_sampler]:
        num_steps = RENOISE_STEPS if name == "renoise" else SAMPLE_STEPS
        times = trailing_timesteps(diffusion.num_timesteps, num_steps)
        noise = SampleNoise([5], tuple(batch.x_0.shape[1:]), batch.x_0.device)
        if start_from == "mean":
            noise = NoiseAboutMean(noise, float(diffusion.alpha_bar[times[0]].sqrt() * batch.x_0.mean()))
        yield f"{name} in {num_steps} steps", SAMPLERS[name](denoiser, diffusion.alpha_bar, times, noise)


if __name__ == "__main__":
    sys.exit(main())
