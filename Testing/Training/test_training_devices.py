"""The CUDA path of training without a GPU: no method's step mixes devices. See `pretend_cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diff2ct.networks import ResNet2DConfig
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import acquire_views
from diff2ct_training.cases import Case
from diff2ct_training.cyclegan import CycleGan, CycleGanRecipe
from diff2ct_training.distillation import DistillationMethod
from diff2ct_training.pairs import make_pair
from diff2ct_training.training_state import Ema, TrainingState
from diff2ct_training.unpaired import UnpairedXrays
from diff2ct_training.volume_samples import VolumeRecipe, VolumeSample
from pretend_cuda import GPU, OnGpu, pretended_gpu, put_on_gpu
from tiny import tiny_body
from tiny_recipes import NETWORKS, tiny_recipe


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with pretended_gpu(monkeypatch):
        yield


def sample(recipe: VolumeRecipe) -> VolumeSample:
    body = tiny_body(VolumeGrid.centered(24, 16.0))
    case = Case("tiny", "phantom", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here")
    rng = np.random.default_rng(0)
    acquisition = acquire_views(case, rng, recipe.acquisition, recipe.grid)
    return VolumeSample(make_pair(acquisition, rng, None, recipe.hu_map, recipe.condition), case.name, 3)


def style_recipe() -> CycleGanRecipe:
    generator = ResNet2DConfig(width=4, num_blocks=1)
    return CycleGanRecipe(name="tiny", size=32, generator=generator, discriminator_widths=(4, 8), pool_size=1)


@pytest.mark.parametrize("name", [*NETWORKS, "cyclegan"])
def test_a_step_and_the_state_after_it(name: str, tmp_path: Path) -> None:
    if name == "cyclegan":
        method = CycleGan(style_recipe())
        method.fabric = SimpleNamespace(world_size=1, global_rank=0)  # type: ignore[assignment]
        image, valid = torch.rand(1, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
        batch = method.collate([UnpairedXrays("tiny", image, image.flip(1), valid, 3)], GPU)
    else:
        recipe = tiny_recipe(name)
        if name == "paper":
            recipe = replace(recipe, body_window_weight=1.0)  # with every term that a loss may have
        method = recipe.method()
        batch = method.collate([sample(recipe)], GPU)
    if isinstance(method, DistillationMethod):
        put_on_gpu(method.teacher)
    for network in method.networks.values():
        put_on_gpu(network)
    averages = {n: Ema(method.networks[n], 0.9) for n in method.averaged}
    optimizers = method.configure_optimizers()
    state = TrainingState(method.recipe, method.networks, averages, optimizers, method.state)
    for step in (1, 2):
        terms = method.training_step(batch, lambda loss: loss.backward())
        assert {type(term) for term in terms.values()} == {OnGpu}
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for n, average in averages.items():
            average.update(method.networks[n], step)
    state.save(tmp_path / "state.safetensors", 2)
    assert state.load(tmp_path / "state.safetensors") == 2
    with torch.no_grad():
        assert method.picture(batch) is not None
        if name != "cyclegan":
            assert np.isfinite(method.score(batch))
