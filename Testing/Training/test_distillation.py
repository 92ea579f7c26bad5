"""The teacher's steps and what the student is told of them, against oracles and against the samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from diff2ct.checkpoint import load_checkpoint, save_checkpoint
from diff2ct.diffusion import (
    PAPER,
    Diffusion,
    SampleNoise,
    Sampling,
    add_noise,
    eps_from_x0,
    predict_x0,
    sample_ddim,
    trailing_timesteps,
    v_target,
)
from diff2ct.networks import X2NoiseNet, X2NoiseNetConfig
from diff2ct_training.distillation import DistillationRecipe, Teacher
from diff2ct_training.recipes import recipe_named
from diff2ct_training.volume_method import VolumeBatch
from diff2ct_training.volume_samples import VolumeRecipe
from tiny_recipes import tiny_recipe, tiny_teacher

N, M = 4, 3
SHAPE = (1, 4, 4, 4)
NO_CONDITION = torch.zeros(1)
DIFFUSIONS = {
    "x_0": Diffusion(),
    "v": Diffusion(prediction="v", scale_input=False),
    "eps": PAPER,
}
MEAN, SD = 0.3, 0.6


class Known(nn.Module):
    """A network that is a formula: (x_t, alpha_bar) -> x_0, in any parameterisation."""

    def __init__(self, diffusion: Diffusion, x_0: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.diffusion, self.x_0 = diffusion, x_0

    def embed_condition(self, condition: torch.Tensor, size: tuple[int, int, int]) -> list[torch.Tensor]:
        assert size == SHAPE[1:]
        return []

    def denoise(self, seen: torch.Tensor, t: torch.Tensor, embedded: list[torch.Tensor]) -> torch.Tensor:
        alpha_bar = self.diffusion.alpha_bar[t].view(-1, 1, 1, 1, 1)
        # nothing is seen of x_t at zero SNR where the input is scaled; these formulas then do not ask for it
        x_t = seen / alpha_bar.sqrt().clamp(min=1e-6) if self.diffusion.scale_input else seen
        x_0 = self.x_0(x_t, alpha_bar)
        if self.diffusion.prediction == "x_0":
            return x_0.float()
        eps = eps_from_x0(x_0, x_t, alpha_bar)
        return (eps if self.diffusion.prediction == "eps" else v_target(x_0, eps, alpha_bar)).float()


def gaussian_mean(x_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """E[x_0 | x_t] of voxels that are N(MEAN, SD^2), each by itself."""
    return (MEAN * (1 - alpha_bar) + SD**2 * alpha_bar.sqrt() * x_t) / (SD**2 * alpha_bar + 1 - alpha_bar)


def noise(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", DIFFUSIONS)
def test_a_teacher_who_knows_the_truth_tells_it_at_every_step(prediction: str) -> None:
    diffusion = DIFFUSIONS[prediction]
    truth = noise(N, 1).clamp(-0.9, 0.9)
    teacher = Teacher(Known(diffusion, lambda x_t, alpha_bar: truth), diffusion, N, M)
    assert teacher.times[0, 0] == 1000 and teacher.times[-1, -1] == 0
    x_t = add_noise(truth, noise(N), diffusion.alpha_bar[teacher.times[:, 0]].float().view(-1, 1, 1, 1, 1))
    target = teacher.target(x_t, torch.arange(N), NO_CONDITION)
    torch.testing.assert_close(target, truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prediction", DIFFUSIONS)
def test_the_students_steps_are_the_teachers_trajectory(prediction: str) -> None:
    """DDIM with the targets, in N steps, ends each step where DDIM with the teacher is after M of its own."""
    diffusion = DIFFUSIONS[prediction]
    network = Known(diffusion, gaussian_mean)
    teacher = Teacher(network, diffusion, N, M)
    seen: dict[str, list[torch.Tensor]] = {"teacher": [], "student": []}
    by_teacher = predict_x0(lambda x, t: network.denoise(x, t, []), diffusion)

    def student(x: torch.Tensor, t: int) -> torch.Tensor:
        return teacher.target(x, teacher.student_step(torch.full((len(x),), t)), NO_CONDITION)

    results = {}
    for name, denoiser, steps in (("teacher", by_teacher, N * M), ("student", student, N)):

        def watched(x: torch.Tensor, t: int, name: str = name, denoiser: Callable = denoiser) -> torch.Tensor:
            seen[name].append(x)
            return denoiser(x, t)

        times = trailing_timesteps(diffusion.num_timesteps, steps)
        results[name] = sample_ddim(watched, diffusion.alpha_bar, times, SampleNoise([5, 6], SHAPE))
    clipped = results["teacher"].abs() == 1
    assert clipped.any() and not clipped.all(), "x_0 is clipped as samplers do"
    torch.testing.assert_close(torch.stack(seen["student"]), torch.stack(seen["teacher"][::M]), rtol=0, atol=1e-5)
    torch.testing.assert_close(results["student"], results["teacher"], rtol=0, atol=1e-5)


def test_samples_of_a_batch_are_each_at_their_own_step() -> None:
    diffusion = DIFFUSIONS["x_0"]
    teacher = Teacher(Known(diffusion, gaussian_mean), diffusion, N, M)
    steps, x_t = torch.tensor([3, 0, 2]), noise(3)
    together = teacher.target(x_t, steps, NO_CONDITION)
    alone = [teacher.target(x_t[n : n + 1], steps[n : n + 1], NO_CONDITION) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_every_time_falls_into_the_step_that_starts_at_or_above_it() -> None:
    teacher = Teacher(Known(Diffusion(), gaussian_mean), Diffusion(), N, M)
    assert teacher.times[:, 0].tolist() == trailing_timesteps(1000, N)
    steps = teacher.student_step(torch.tensor([1000, 751, 750, 501, 500, 250, 1]))
    assert steps.tolist() == [0, 0, 1, 1, 2, 3, 3]


def a_batch(recipe: VolumeRecipe, size: int = 2) -> VolumeBatch:
    generator = torch.Generator().manual_seed(0)
    shape = (size, 1, *recipe.grid.size)
    x_0 = torch.rand(shape, generator=generator) - 0.5
    condition = torch.rand(size, 1, *recipe.grid.size, generator=generator)
    return VolumeBatch(condition, x_0, torch.ones(shape, dtype=torch.bool), tuple(range(size)))


def test_a_student_of_as_many_steps_has_nothing_to_learn(tmp_path: Path) -> None:
    """With one step of the teacher for each of its own, it already is the teacher; with two it is not."""
    path = a_teacher(tmp_path)
    for teacher_steps, least, most in ((1, 0.0, 1e-10), (2, 1e-8, 1.0)):
        recipe = replace(tiny_distillation(path), teacher_steps=teacher_steps)
        method = recipe.method()
        method.configure_optimizers()
        gradients: list[float] = []

        def backward(loss: torch.Tensor, method=method, gradients=gradients) -> None:
            loss.backward()
            gradients.append(sum(float(p.grad.norm()) for p in method.network.parameters() if p.grad is not None))

        terms = method.training_step(a_batch(recipe), backward)
        assert least <= float(terms["mse"]) <= most
        assert all(p.grad is None for p in method.teacher.parameters())
        assert (gradients[0] > 1e-4) == (teacher_steps == 2)
        assert list(method.networks) == ["network"] and not method.state


def tiny_distillation(teacher: str) -> DistillationRecipe:
    recipe = tiny_recipe(
        "distilled", teacher=teacher, condition="added",
        network=X2NoiseNetConfig(condition_channels=1, haar_levels=0, widths=(8, 8), blocks=(1, 1), attention=False),
    )  # fmt: skip
    assert isinstance(recipe, DistillationRecipe)
    return recipe


def a_teacher(folder: Path) -> str:
    """A denoiser with weights so small that none of its x_0 is clipped."""
    recipe = tiny_distillation("")
    torch.manual_seed(2)
    network = X2NoiseNet(recipe.network)
    torch.nn.init.normal_(network.leave.weight, std=0.02)
    known = load_checkpoint(tiny_teacher())
    save_checkpoint(folder / "teacher.safetensors", replace(known, network=network, condition="added"))
    return str(folder / "teacher.safetensors")


def test_the_checkpoint_says_its_steps_and_its_teacher(tmp_path: Path) -> None:
    recipe = tiny_recipe("distilled", student_steps=3)
    assert isinstance(recipe, DistillationRecipe)
    method = recipe.method()
    method.write_checkpoint(tmp_path, "student", {"network": method.network.state_dict()}, {"steps": 0})
    student, teacher = load_checkpoint(tmp_path / "student.safetensors"), load_checkpoint(tiny_teacher())
    assert student.sampling == Sampling(sampler="ddim", num_steps=3)
    expected = {"recipe": "test", "steps": 7, "sha256": teacher.sha256, "steps_per_student_step": 2}
    assert student.provenance["teacher"] == expected
    for name, weights in teacher.network.state_dict().items():
        assert torch.equal(student.network.state_dict()[name], weights), "before training it is the teacher"


@pytest.mark.parametrize("name", ["diffusion", "hu_map", "grid", "network"])
def test_a_teacher_of_something_else_is_refused(name: str) -> None:
    other = recipe_named("paper")
    with pytest.raises(ValueError, match=rf"^{name}: got .* accepted is that of the teacher"):
        recipe = tiny_recipe("distilled")
        if name == "network":
            changed = replace(recipe, network=replace(recipe.network, widths=(8, 24)))
        else:
            changed = replace(recipe, **{name: getattr(other, name)})
        changed.method()


def test_a_teacher_in_one_pass_is_refused(tmp_path: Path) -> None:
    method = tiny_recipe("psr").method()
    method.write_checkpoint(tmp_path, "psr", {"network": method.network.state_dict()}, {})
    with pytest.raises(ValueError, match=r"teacher: .*psr\.safetensors reconstructs in one pass"):
        tiny_recipe("distilled", teacher=str(tmp_path / "psr.safetensors")).method()


@pytest.mark.parametrize("wrong", [{"student_steps": 0}, {"teacher_steps": 0}, {"student_steps": 40, "teacher_steps": 40}])
def test_counts_of_steps_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="_steps: got"):
        replace(recipe_named("distilled"), **wrong)
