"""Every method that is trained, in a size that trains in seconds: its step, its checkpoint and its reconstruction."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.fsdp

from diff2ct.checkpoint import load_checkpoint
from diff2ct.diffusion import Cancelled
from diff2ct.reconstruct import reconstruct
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import acquire_views, write_acquisition
from diff2ct_training.cases import Case, read_case, write_case
from diff2ct_training.loop import train
from diff2ct_training.recipes import RECIPES
from diff2ct_training.volume_samples import VolumeRecipe, VolumeSamples, validation_samples
from tiny import tiny_body, tiny_radiographs
from tiny_recipes import IN_PROCESSES, NETWORKS, tiny_recipe

ONE_PASS = ("psr", "psr-averaged", "cnn3d", "x2ct-gan")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    body = tiny_body(VolumeGrid.centered(24, 16.0))
    one = Case("phantom_tiny", "phantom", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here")
    write_case(folder, one)
    write_case(folder, replace(one, name="phantom_judge", split="val"))
    write_case(folder, replace(one, name="phantom_exam", split="test", hu=np.zeros((2, 2, 2), np.int16)))  # never looked at
    return folder


def logged(output: Path, name: str) -> list[float]:
    rows: list[float] = []
    for file in sorted(output.glob("log*/metrics.csv"), key=lambda f: f.stat().st_mtime):
        with file.open() as opened:
            rows += [float(row[name]) for row in csv.DictReader(opened) if row[name]]
    return rows


def test_every_recipe_for_volumes_but_debug_is_tested_here() -> None:
    assert set(NETWORKS) == {name for name, make in RECIPES.items() if isinstance(make(), VolumeRecipe)} - {"debug"}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_steps_leave_a_checkpoint_that_reconstructs(name: str, cases: Path, tmp_path: Path) -> None:
    output = train(tiny_recipe(name), cases, tmp_path / "run", validation=cases)
    for file in ("checkpoint.safetensors", "best.safetensors", "state.safetensors", "recipe.json", "step_000002.png"):
        assert (output / file).is_file(), file
    assert np.isfinite(logged(output, "validation")).all()
    checkpoint = load_checkpoint(output / "checkpoint.safetensors")
    assert checkpoint.in_one_pass == (name in ONE_PASS)
    assert checkpoint.provenance["recipe"] == name and checkpoint.provenance["steps"] == 2
    pair, steps = tiny_radiographs(tiny_body()), []
    result = reconstruct(pair, checkpoint, num_steps=2, num_samples=2, on_step=lambda done, of: steps.append((done, of)))
    assert result.volume.hu.shape == (16, 16, 16) and np.isfinite(result.volume.hu).all()
    assert np.ptp(result.volume.hu) > 1, "not a constant"
    if name in ONE_PASS:
        assert result.provenance["Sampler"] == "one deterministic pass, 1 steps, 1 samples"
        assert result.sd_hu is None and steps == [(1, 1)]
        np.testing.assert_array_equal(result.volume.hu, reconstruct(pair, checkpoint, seed=9).volume.hu)
        with pytest.raises(Cancelled):
            reconstruct(pair, checkpoint, is_cancelled=lambda: True)
    else:
        assert steps[-1] == (4, 4) and result.sd_hu is not None


@pytest.mark.parametrize("name", ["psr", "x2ct-gan", "distilled"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(name: str, cases: Path, tmp_path: Path) -> None:
    """With what a denoiser has not: batch norm, dropout, a second network with its own optimiser, a teacher."""
    recipe = tiny_recipe(name, num_steps=4, save_every=2)
    if name == "x2ct-gan":
        recipe = replace(recipe, network=replace(recipe.network, dropout=0.5))

    class Stop(Exception):
        pass

    def stop_after_two(step: int, of: int, loss: float) -> None:
        if step == 2:
            raise Stop

    whole = train(recipe, cases, tmp_path / "whole")
    with pytest.raises(Stop):
        train(recipe, cases, tmp_path / "stopped", on_step=stop_after_two)
    resumed = train(recipe, cases, tmp_path / "stopped")
    terms = ("loss", "discriminator", "adversarial") if name == "x2ct-gan" else ("loss",)
    for term in terms:
        np.testing.assert_allclose(logged(resumed, term)[-2:], logged(whole, term)[-2:], rtol=1e-4)


@pytest.mark.parametrize("name", ["cnn3d", "paper", "distilled"])
def test_accumulation_and_recomputation_change_memory_and_not_the_step(name: str, cases: Path, tmp_path: Path) -> None:
    once = train(tiny_recipe(name, batch_size=2), cases, tmp_path / "once")
    parts = train(tiny_recipe(name, batch_size=2, accumulate=2, activation_checkpointing=True), cases, tmp_path / "parts")
    for term in ("loss", "gradient_norm"):
        np.testing.assert_allclose(logged(parts, term), logged(once, term), rtol=1e-3)


@pytest.mark.parametrize("name", ONE_PASS)
def test_a_network_learns_one_sample(name: str, cases: Path) -> None:
    recipe = tiny_recipe(name, num_steps=40, learning_rate=2e-3, learning_rate_decay="constant")
    torch.manual_seed(0)
    method = recipe.method()
    batch = method.collate([method.samples(cases)[0]], torch.device("cpu"))
    optimizers = method.configure_optimizers()
    errors = []
    for _ in range(recipe.num_steps):
        terms = method.training_step(batch, lambda loss: loss.backward())
        errors.append(float(terms["voxel" if name == "x2ct-gan" else "mse"].detach()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert errors[-1] < 0.5 * errors[0]


def test_the_generators_loss_does_not_reach_the_discriminator(cases: Path) -> None:
    method = tiny_recipe("x2ct-gan").method()
    batch = method.collate([method.samples(cases)[0]], torch.device("cpu"))
    reached: list[bool] = []

    def backward(loss: torch.Tensor) -> None:
        loss.backward()
        reached.append(any(p.grad is not None for p in method.networks["discriminator"].parameters()))

    method.training_step(batch, backward)
    assert reached == [False, True]


def test_data_of_another_spacing_stops_before_the_first_step(cases: Path, tmp_path: Path) -> None:
    body = tiny_body(VolumeGrid.centered(24, 11.0))
    write_case(tmp_path / "cases", Case("ct_odd", "ct", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here"))
    with pytest.raises(ValueError, match=r"ct_odd\.json has voxels of"):
        train(tiny_recipe("psr"), tmp_path / "cases", tmp_path / "run")


def test_xrays_for_another_grid_stop_before_the_first_step(cases: Path, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "cases", tiny_recipe("psr")
    body = tiny_body(VolumeGrid.centered(24, 16.0))
    write_case(folder, Case("phantom_a", "phantom", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here"))
    acquisition = acquire_views(read_case(folder / "phantom_a.json"), np.random.default_rng(0), recipe.acquisition, recipe.grid)
    write_acquisition(folder, 0, acquisition)
    assert len(VolumeSamples(recipe, folder)) == 2
    with pytest.raises(ValueError, match=r"phantom_a\.xray000\.npz is for a model grid"):
        VolumeSamples(replace(recipe, grid=VolumeGrid.centered(8, 16.0)), folder)


def test_validation_uses_each_case_once(cases: Path) -> None:
    files = [cases / "phantom_tiny.json"] * 3
    samples = validation_samples(tiny_recipe("psr"), files)
    assert len(samples) == 3 and not torch.equal(samples[0].pair.x_0, samples[1].pair.x_0)
    again = validation_samples(tiny_recipe("psr"), files)
    assert torch.equal(samples[2].pair.x_0, again[2].pair.x_0), "always the same"


def test_weights_of_another_network_are_refused(cases: Path, tmp_path: Path) -> None:
    output = train(tiny_recipe("psr"), cases, tmp_path / "run")
    with pytest.raises(ValueError, match="start_from"):
        train(tiny_recipe("cnn3d"), cases, tmp_path / "other", start_from=output / "checkpoint.safetensors")


@pytest.mark.parametrize("name", ["default", "x2ct-gan"])
def test_bfloat16_trains_as_float32_does_to_rounding(name: str, cases: Path, tmp_path: Path) -> None:
    losses = [
        logged(train(tiny_recipe(name, precision=precision), cases, tmp_path / precision), "loss")
        for precision in ("bf16-mixed", "32-true")
    ]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy"), [("x2ct-gan", "ddp"), ("paper", "fsdp")])
def test_two_processes_train_what_one_does(name: str, strategy: str, cases: Path, tmp_path: Path) -> None:
    """Two networks with an adversary's turn between them, and weights shared out."""
    if strategy == "fsdp" and not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("torch before 2.6 has no fully_shard")
    alone = train(tiny_recipe(name, **IN_PROCESSES), cases, tmp_path / "alone")
    together = tmp_path / "together"
    script = Path(__file__).parents[1] / "tiny_recipes.py"
    command = [sys.executable, str(script), name, str(cases), str(together), strategy, "2"]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    for term in ("loss", "gradient_norm"):  # an adversary amplifies rounding, which the number of threads decides
        np.testing.assert_allclose(logged(together, term), logged(alone, term), rtol=5e-3)
    a, b = (load_checkpoint(f / "checkpoint.safetensors").network.state_dict() for f in (alone, together))
    assert all(torch.allclose(a[key], b[key], atol=5e-3) for key in a)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_the_same_losses(cases: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of whatever it does."""
    run = tiny_recipe("psr", **{**IN_PROCESSES, "num_steps": 60, "save_every": 2, "picture_every": 60})
    script = Path(__file__).parents[1] / "tiny_recipes.py"
    command = [sys.executable, str(script), "psr", str(cases), str(tmp_path / "killed"), "auto", "1", "60", "2"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (tmp_path / "killed" / "state.safetensors").exists():
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.05)
    process.kill()
    process.wait()
    resumed, whole = train(run, cases, tmp_path / "killed"), train(run, cases, tmp_path / "whole")
    np.testing.assert_allclose(logged(resumed, "loss")[-20:], logged(whole, "loss")[-20:], rtol=1e-3)
