"""One training step's loss of the denoiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from diff2ct.condition import stack_conditions
from diff2ct.diffusion import Diffusion, add_noise, network_input, v_target, x0_from
from diff2ct_training.losses import axis_projection_loss, weighted_mse
from diff2ct_training.pairs import Pair

if TYPE_CHECKING:
    from diff2ct_training.recipes import Recipe


def batch_of(pairs: list[Pair], device: torch.device | str = "cpu") -> Pair:
    """Pairs stacked along a batch axis."""
    x_0, known = (torch.stack([getattr(p, name) for p in pairs]).to(device) for name in ("x_0", "known"))
    return Pair(stack_conditions([p.condition for p in pairs], device), x_0, known)


def draw_noise(seeds: Sequence[int], batch: Pair, num_timesteps: int, power: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(t (B,) in 1..T, eps like x_0) of the samples of a batch, each from its own seed and drawn on the CPU: the same on every
    device, and however many processes share a batch.

    power: 1 draws t uniformly; above, the density grows like t^(power - 1). Few steps are taken mostly at high noise, where the
    condition must say what x_t does not.
    """
    times, noise = [], []
    for seed in seeds:
        rng = torch.Generator().manual_seed(seed)
        u = float(torch.rand((), generator=rng, dtype=torch.float64))
        times.append(min(num_timesteps, max(1, math.ceil(num_timesteps * u ** (1 / power)))))
        noise.append(torch.randn(batch.x_0.shape[1:], generator=rng))
    return torch.tensor(times, device=batch.x_0.device), torch.stack(noise).to(batch.x_0.device)


def denoising_loss(
    network: nn.Module, batch: Pair, t: torch.Tensor, eps: torch.Tensor, recipe: Recipe
) -> dict[str, torch.Tensor]:
    """Loss terms by name; "loss" is what to minimise, "mse" the plain error of the prediction."""
    diffusion = recipe.diffusion
    alpha_bar = diffusion.alpha_bar.to(t.device)[t].float().view(-1, 1, 1, 1, 1)
    x_t = add_noise(batch.x_0, eps, alpha_bar)
    output = network(network_input(diffusion, x_t, alpha_bar), t, batch.condition).float()
    error = output - _target(diffusion, batch.x_0, eps, alpha_bar)
    weight = _weight(diffusion.prediction, alpha_bar.flatten(), recipe.loss_weight_limit)
    terms = {"mse": weighted_mse(error.detach(), torch.ones_like(weight), batch.known)}
    terms["loss"] = weighted_mse(error, weight, batch.known)
    if recipe.projection_weight > 0:
        terms["projection"] = axis_projection_loss(error * batch.known, weight, recipe.projection_reduction)
        terms["loss"] = terms["loss"] + recipe.projection_weight * terms["projection"]
    if recipe.body_window_weight > 0:
        x_0 = x0_from(diffusion.prediction, output, x_t, alpha_bar)
        body_error = body_window(recipe.hu_map.to_hu(x_0)) - body_window(recipe.hu_map.to_hu(batch.x_0))
        terms["body"] = weighted_mse(body_error, weight, batch.known)
        terms["loss"] = terms["loss"] + recipe.body_window_weight * terms["body"]
    return terms


def body_window(hu: torch.Tensor) -> torch.Tensor:
    """HU -> [0, 1] over [-200, 800], the window in which a spine is read. Bone is 5 % of a trunk; over the whole HU range the
    outlines of gas and body outweigh it, and a network learns them first and bone late."""
    return ((hu + 200) / 1000).clamp(0, 1)


def _target(diffusion: Diffusion, x_0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    if diffusion.prediction == "x_0":
        return x_0
    return eps if diffusion.prediction == "eps" else v_target(x_0, eps, alpha_bar)


def _weight(prediction: str, alpha_bar: torch.Tensor, limit: float) -> torch.Tensor:
    """x_0: min(1 / (1 - alpha_bar), limit), the v loss seen from x_0 and cut off; eps and v: 1, as in their papers."""
    if prediction == "x_0":
        return (1 / (1 - alpha_bar).clamp(min=1e-6)).clamp(max=limit)
    return torch.ones_like(alpha_bar)
