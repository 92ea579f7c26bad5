"""The denoiser: its recipe, one training step's loss, and how it samples while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from diff2ct.condition import condition_channels
from diff2ct.diffusion import (
    SAMPLERS,
    Diffusion,
    SampleNoise,
    Sampling,
    add_noise,
    eps_from_x0,
    network_input,
    predict_x0,
    trailing_timesteps,
    v_target,
    x0_from,
)
from diff2ct.networks import X2NoiseNetConfig
from diff2ct_training.losses import axis_projection_loss, weighted_mse
from diff2ct_training.method import Backward, bare
from diff2ct_training.optimizers import OPTIMIZERS, make_optimizers
from diff2ct_training.pairs import Pair
from diff2ct_training.volume_method import VolumeBatch, VolumeMethod
from diff2ct_training.volume_samples import VolumeRecipe

SAMPLE_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe(VolumeRecipe):
    """sampling: what the checkpoint recommends. optimizer: "adamw", or "muon" (see `muon`) with AdamW for scales and biases.
    time_power: see `draw_noise`. loss_weight_limit: see `_weight`. projection_weight, projection_reduction: see
    `losses.axis_projection_loss`. body_window_weight: of the squared error inside [-200, 800] HU, see `body_window`.
    metal_window_weight: of the squared error inside [800, 4000] HU, see `metal_window`.
    """

    network: X2NoiseNetConfig
    diffusion: Diffusion
    sampling: Sampling = field(default_factory=Sampling)
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    time_power: float = 1.0
    loss_weight_limit: float = 5.0
    projection_weight: float = 0.0
    projection_reduction: str = "mean"
    body_window_weight: float = 0.0
    metal_window_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.condition_channels != condition_channels(self.condition):
            raise ValueError(
                f"network.condition_channels: got {self.network.condition_channels} for condition {self.condition!r}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: got {self.optimizer!r}, accepted are {', '.join(OPTIMIZERS)}")

    def method(self) -> DenoiserMethod:
        return DenoiserMethod(self)


class DenoiserMethod(VolumeMethod):
    """Diff2CT in all its forms: learns to tell x_0 from x_t and the X-rays (arXiv 2408.09731, Sec. 3)."""

    recipe: DenoiserRecipe

    def __init__(self, recipe: DenoiserRecipe) -> None:
        super().__init__(recipe, recipe.network, recipe.diffusion, recipe.sampling)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return make_optimizers(self.network, self.recipe.optimizer, self.recipe.learning_rate, self.recipe.weight_decay)

    def training_step(self, batch: VolumeBatch, backward: Backward) -> dict[str, torch.Tensor]:
        t, eps = draw_noise(batch.seeds, batch, self.recipe.diffusion.num_timesteps, self.recipe.time_power)
        terms = denoising_loss(self.network, batch, t, eps, self.recipe)
        backward(terms["loss"])
        return terms

    def estimates(self, batch: VolumeBatch) -> list[torch.Tensor]:
        """From one step, and a full sample; always with the same noise."""
        return self.samples_of(batch, Sampling(num_steps=min(SAMPLE_STEPS, self.recipe.diffusion.num_timesteps)))

    def samples_of(self, batch: VolumeBatch, sampling: Sampling) -> list[torch.Tensor]:
        """Samples (B, 1, D, H, W) of a batch in one step and as `sampling` says; always with the same noise."""
        diffusion, network = self.recipe.diffusion, bare(self.network)
        denoiser = predict_x0(lambda x, t: network(x, t, batch.condition), diffusion)
        times = [trailing_timesteps(diffusion.num_timesteps, count) for count in (1, sampling.num_steps)]
        noise = (SampleNoise(range(len(batch.x_0)), tuple(batch.x_0.shape[1:]), batch.x_0.device) for _ in times)
        draw = SAMPLERS[sampling.sampler]
        return [draw(denoiser, diffusion.alpha_bar, t, n) for t, n in zip(times, noise, strict=True)]


def draw_noise(seeds: Sequence[int], batch: Pair, num_timesteps: int, power: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(t (B,) in 1..T, eps like x_0) of the samples of a batch, each from its own seed, however many processes share a batch. t
    is the same on every device; eps is drawn on the device, where a CPU would take as long as a GPU's whole step.

    power: 1 draws t uniformly; above, the density grows like t^(power - 1). Few steps are taken mostly at high noise, where the
    condition must say what x_t does not.
    """
    times, noise, device = [], [], batch.x_0.device
    for seed in seeds:
        u = float(torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
        times.append(min(num_timesteps, max(1, math.ceil(num_timesteps * u ** (1 / power)))))
        rng = torch.Generator(device).manual_seed(seed + 1)
        noise.append(torch.randn(batch.x_0.shape[1:], generator=rng, device=device))
    return torch.tensor(times).to(device, non_blocking=True), torch.stack(noise)


def denoising_loss(
    network: nn.Module,
    batch: Pair,
    t: torch.Tensor,
    eps: torch.Tensor,
    recipe: DenoiserRecipe,
    told: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Loss terms by name; "loss" is what to minimise, "mse" the plain error of the prediction. told: x_t -> the x_0 that the
    network is told x_t comes from, None for the true one."""
    diffusion = recipe.diffusion
    alpha_bar = alpha_bar_at(diffusion, t)
    x_t, x_0 = add_noise(batch.x_0, eps, alpha_bar), batch.x_0
    if told is not None:
        x_0 = told(x_t)
        eps = eps_from_x0(x_0, x_t, alpha_bar)
    output = network(network_input(diffusion, x_t, alpha_bar), t, batch.condition).float()
    error = output - _target(diffusion, x_0, eps, alpha_bar)
    weight = _weight(diffusion.prediction, alpha_bar.flatten(), recipe.loss_weight_limit)
    terms = {"mse": weighted_mse(error.detach(), torch.ones_like(weight), batch.known)}
    terms["loss"] = weighted_mse(error, weight, batch.known)
    if recipe.projection_weight > 0:
        terms["projection"] = axis_projection_loss(error * batch.known, weight, recipe.projection_reduction)
        terms["loss"] = terms["loss"] + recipe.projection_weight * terms["projection"]
    windows = {"body": (body_window, recipe.body_window_weight), "metal": (metal_window, recipe.metal_window_weight)}
    windows = {name: (window, share) for name, (window, share) in windows.items() if share > 0}
    if windows:
        hu = recipe.hu_map.to_hu(x0_from(diffusion.prediction, output, x_t, alpha_bar))
        true_hu = recipe.hu_map.to_hu(x_0)
    for name, (window, share) in windows.items():
        terms[name] = weighted_mse(window(hu) - window(true_hu), weight, batch.known)
        terms["loss"] = terms["loss"] + share * terms[name]
    return terms


def alpha_bar_at(diffusion: Diffusion, t: torch.Tensor) -> torch.Tensor:
    """alpha_bar of the times t (B,), float32 (B, 1, 1, 1, 1) on their device."""
    return diffusion.alpha_bar.float().to(t.device, non_blocking=True)[t].view(-1, 1, 1, 1, 1)


def body_window(hu: torch.Tensor) -> torch.Tensor:
    """HU -> [0, 1] over [-200, 800], the window in which a spine is read. Bone is 5 % of a trunk; over the whole HU range the
    outlines of gas and body outweigh it, and a network learns them first and bone late."""
    return ((hu + 200) / 1000).clamp(0, 1)


def metal_window(hu: torch.Tensor) -> torch.Tensor:
    """HU -> [0, 1] over [800, 4000], where implants differ from bone. Screws are 0.1 % of a volume: without a term of their own
    they come out as a haze of dense bone, though nothing in the X-rays is plainer. A window that ends below what a scanner
    shows for metal, 3000 HU and more, does not say how dense it is: with one up to 2800 HU it came out 236 HU too dense."""
    return ((hu - 800) / 3200).clamp(0, 1)


def _target(diffusion: Diffusion, x_0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    if diffusion.prediction == "x_0":
        return x_0
    return eps if diffusion.prediction == "eps" else v_target(x_0, eps, alpha_bar)


def _weight(prediction: str, alpha_bar: torch.Tensor, limit: float) -> torch.Tensor:
    """x_0: min(1 / (1 - alpha_bar), limit), the v loss seen from x_0 and cut off; eps and v: 1, as in their papers."""
    if prediction == "x_0":
        return (1 / (1 - alpha_bar).clamp(min=1e-6)).clamp(max=limit)
    return torch.ones_like(alpha_bar)
