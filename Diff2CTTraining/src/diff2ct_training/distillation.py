"""A denoiser for few steps, taught by one of many: each step of the student does what several steps of its teacher do.

Progressive distillation (Salimans and Ho 2022, arXiv 2202.00512, Algorithm 2) in one stage and with any number of teacher steps
per student step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.condition import Condition
from diff2ct.diffusion import Diffusion, Sampling, network_input, trailing_timesteps, x0_from
from diff2ct_training.denoiser import DenoiserMethod, DenoiserRecipe, denoising_loss, draw_noise
from diff2ct_training.lineage import TEACHER
from diff2ct_training.method import Backward, Weights
from diff2ct_training.volume_method import VolumeBatch

TAUGHT = ("network", "diffusion", "hu_map", "condition", "grid")
"""Fields of a recipe that must be the teacher's: a student starts as its copy."""


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(DenoiserRecipe):
    """teacher: a denoiser's checkpoint, None for the embedded one. student_steps: how many steps the student is made for.
    teacher_steps: of the teacher for each of them. time_power: of the student's steps, see `draw_noise`.

    `sampling` follows from student_steps, whatever it is set to.
    """

    teacher: str | None = None
    student_steps: int = 4
    teacher_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("student_steps", "teacher_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is 1 or more")
        if self.student_steps * self.teacher_steps > self.diffusion.num_timesteps:
            got = f"{self.student_steps} * {self.teacher_steps}"
            raise ValueError(f"student_steps * teacher_steps: got {got}, accepted is {self.diffusion.num_timesteps} or less")
        object.__setattr__(self, "sampling", Sampling(sampler="ddim", num_steps=self.student_steps))

    def method(self) -> DistillationMethod:
        return DistillationMethod(self)


def taught_by(recipe: DistillationRecipe, teacher: str) -> DistillationRecipe:
    """`recipe` with this teacher, and with all that must be the teacher's as the teacher has it."""
    return replace(recipe, teacher=teacher, **_taught(_load_teacher(teacher)))


class DistillationMethod(DenoiserMethod):
    """The student starts with the teacher's weights and is trained with the denoiser's own losses, only that the x_0 it is told
    is the teacher's."""

    def __init__(self, recipe: DistillationRecipe) -> None:
        checkpoint = _load_teacher(recipe.teacher)
        for name, has in _taught(checkpoint).items():
            if getattr(recipe, name) != has:
                raise ValueError(f"{name}: got {getattr(recipe, name)}, accepted is that of the teacher, {has}")
        super().__init__(recipe)
        self.network.load_state_dict(checkpoint.network.state_dict())
        self.teacher = Teacher(checkpoint.network, recipe.diffusion, recipe.student_steps, recipe.teacher_steps)
        self._lineage = {**checkpoint.provenance, "sha256": checkpoint.sha256, "steps_per_student_step": recipe.teacher_steps}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The teacher, which is not trained, not averaged and in no state, is put where the student is by now."""
        self.teacher.to(next(self.network.parameters()).device)
        return super().configure_optimizers()

    def training_step(self, batch: VolumeBatch, backward: Backward) -> dict[str, torch.Tensor]:
        drawn, eps = draw_noise(batch.seeds, batch, self.recipe.diffusion.num_timesteps, self.recipe.time_power)
        step = self.teacher.student_step(drawn)

        def told(x_t: torch.Tensor) -> torch.Tensor:
            return self.teacher.target(x_t, step, batch.condition)

        terms = denoising_loss(self.network, batch, self.teacher.times[step, 0], eps, self.recipe, told)
        backward(terms["loss"])
        return terms

    def estimates(self, batch: VolumeBatch) -> list[torch.Tensor]:
        return self.samples_of(batch, self.recipe.sampling)

    def write_checkpoint(self, folder: Path, stem: str, weights: Mapping[str, Weights], provenance: dict[str, Any]) -> None:
        super().write_checkpoint(folder, stem, weights, {**provenance, TEACHER: self._lineage})


class Teacher(nn.Module):
    """A frozen denoiser and the steps it takes. N student steps, m teacher steps in each.

    times: (N, m + 1) int64, where student step n starts, the teacher's stops, and where it ends: 0 for the last one.
    alpha_bar, step_x0, step_xt: (N, m) of the teacher's steps; jump_x0, jump_xt: (N,) of the student's, see `ddim_weights`.
    """

    times: torch.Tensor
    alpha_bar: torch.Tensor
    step_x0: torch.Tensor
    step_xt: torch.Tensor
    jump_x0: torch.Tensor
    jump_xt: torch.Tensor

    def __init__(self, network: nn.Module, diffusion: Diffusion, student_steps: int, teacher_steps: int) -> None:
        super().__init__()
        self.network, self.diffusion = network.eval().requires_grad_(False), diffusion
        stops = torch.tensor([*trailing_timesteps(diffusion.num_timesteps, student_steps * teacher_steps), 0])
        times = stops.unfold(0, teacher_steps + 1, teacher_steps)
        alpha_bar = diffusion.alpha_bar[times]
        step_x0, step_xt = ddim_weights(alpha_bar[:, :-1], alpha_bar[:, 1:])
        jump_x0, jump_xt = ddim_weights(alpha_bar[:, 0], alpha_bar[:, -1])
        self.register_buffer("times", times)
        self.register_buffer("alpha_bar", alpha_bar[:, :-1].float())
        for name, weight in (("step_x0", step_x0), ("step_xt", step_xt), ("jump_x0", jump_x0), ("jump_xt", jump_xt)):
            self.register_buffer(name, weight.float())  # of float64: where steps are small, differences are of numbers near 1

    def student_step(self, t: torch.Tensor) -> torch.Tensor:
        """(B,) which step of the student's, from 0, the times t (B,) in 1..T fall into."""
        return (t[:, None] <= self.times[:, -1]).sum(1)

    @torch.no_grad()
    def target(self, x_t: torch.Tensor, step: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The x_0 with which one DDIM step from x_t ends where the teacher's m steps end (Algorithm 2). In [-1, 1] but for
        rounding: it is a mean, with positive weights, of the teacher's x_0.

        x_t: (B, 1, D, H, W) at the start of the steps `step` (B,), each sample at its own.
        """
        depth, height, width = x_t.shape[2:]
        embedded = self.network.embed_condition(condition, (depth, height, width))  # type: ignore[operator]
        x = x_t
        for n in range(self.times.shape[1] - 1):
            alpha_bar = _per_sample(self.alpha_bar[step, n])
            seen = network_input(self.diffusion, x, alpha_bar)
            output = self.network.denoise(seen, self.times[step, n], embedded).float()  # type: ignore[operator]
            x_0 = x0_from(self.diffusion.prediction, output, x, alpha_bar).clamp(-1, 1)  # as `diffusion.predict_x0`
            x = _per_sample(self.step_x0[step, n]) * x_0 + _per_sample(self.step_xt[step, n]) * x
        return (x - _per_sample(self.jump_xt[step]) * x_t) / _per_sample(self.jump_x0[step])


def ddim_weights(alpha_bar_t: torch.Tensor, alpha_bar_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(p, q) of DDIM's deterministic step x_s = p x_0 + q x_t, of times t > s (Song et al. 2021, Eq. 12 with sigma = 0)."""
    of_xt = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
    return alpha_bar_s.clamp(min=0).sqrt() - of_xt * alpha_bar_t.clamp(min=0).sqrt(), of_xt


def _per_sample(weight: torch.Tensor) -> torch.Tensor:
    return weight.view(-1, 1, 1, 1, 1)


def _taught(teacher: Checkpoint) -> dict[str, Any]:
    return {name: teacher.network.config if name == "network" else getattr(teacher, name) for name in TAUGHT}


def _load_teacher(path: str | None) -> Checkpoint:
    teacher = load_checkpoint(path)
    if teacher.in_one_pass:
        raise ValueError(f"teacher: {path} reconstructs in one pass, accepted is the checkpoint of a denoiser")
    return teacher
