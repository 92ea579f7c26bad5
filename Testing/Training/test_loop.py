import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.checkpoint import load_checkpoint
from diff2ct.networks import X2NoiseNet
from diff2ct.reconstruct import reconstruct
from diff2ct.volume import VolumeGrid
from diff2ct_training.cases import Case, write_case
from diff2ct_training.loop import learning_rate, train
from diff2ct_training.recipe import Recipe
from diff2ct_training.recipes import debug, default
from tiny import tiny_body, tiny_radiographs


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for kind in ("ct", "phantom"):
        body = tiny_body(VolumeGrid.centered(40, 8.0))
        hu = np.where(body.hu > -500, body.hu + 40, body.hu).astype(np.int16)
        write_case(folder, Case(f"{kind}_tiny", kind, hu, body.grid, (0.0, 0.0, 0.0), "made here"))
    return folder


def recipe(**changes) -> Recipe:
    return replace(debug(), precision="32-true", learning_rate=1e-3, **changes)


def losses(output: Path) -> list[float]:
    with (output / "log" / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def test_a_run_leaves_a_checkpoint_that_reconstructs(cases: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    output = train(recipe(num_steps=2), cases, tmp_path / "run", on_step=lambda step, of, loss: steps.append(step))
    assert steps == [1, 2]
    checkpoint = load_checkpoint(output / "checkpoint.safetensors")
    assert checkpoint.provenance["steps"] == 2 and checkpoint.provenance["phantoms"] == 1
    assert checkpoint.provenance["cts"] == ["made here"]
    assert checkpoint.provenance["cube_only"] == recipe().acquisition.cube_only
    assert reconstruct(tiny_radiographs(tiny_body()), checkpoint, num_steps=1).volume.hu.shape == (16, 16, 16)
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["name"] == "debug"
    assert (tmp_path / "run" / "step_000002.png").exists()
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_stopped_run_goes_on_as_if_it_had_not_been(cases: Path, tmp_path: Path) -> None:
    whole = train(recipe(num_steps=6, save_every=2, picture_every=100), cases, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop_after_four(step: int, of: int, loss: float) -> None:
        if step == 4:
            raise Stop

    run = recipe(num_steps=6, save_every=2, picture_every=100)
    with pytest.raises(Stop):
        train(run, cases, tmp_path / "stopped", on_step=stop_after_four)
    resumed = train(run, cases, tmp_path / "stopped")
    a, b = (load_checkpoint(f / "checkpoint.safetensors").network.state_dict() for f in (whole, resumed))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5, msg=name)


def test_two_processes_train_what_one_does(cases: Path, tmp_path: Path) -> None:
    run = recipe(num_steps=3, batch_size=2, save_every=9, picture_every=9)
    alone = train(run, cases, tmp_path / "alone")
    script = tmp_path / "two.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from dataclasses import replace
from diff2ct_training.loop import make_fabric, train
from diff2ct_training.recipes import debug

if __name__ == "__main__":
    run = replace(debug(), precision="32-true", learning_rate=1e-3, num_steps=3, batch_size=2, save_every=9, picture_every=9)
    output = Path({str(tmp_path / "together")!r})
    fabric = make_fabric(run, output, "cpu", devices=2)
    fabric.launch()
    train(run, Path({str(cases)!r}), output, fabric=fabric)
""")
    subprocess.run([sys.executable, script], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    torch.manual_seed(run.seed)
    start = X2NoiseNet(run.network).state_dict()

    def update(file: Path) -> torch.Tensor:
        end = load_checkpoint(file).network.state_dict()
        return torch.cat([(end[name] - start[name]).flatten() for name in start])

    # weight by weight, the sign of a first gradient that is nearly 0 decides, and that is rounding
    together = update(tmp_path / "together" / "checkpoint.safetensors")
    assert float(torch.nn.functional.cosine_similarity(update(alone / "checkpoint.safetensors"), together, dim=0)) > 0.99


def test_training_learns(cases: Path, tmp_path: Path) -> None:
    run = recipe(num_steps=32, save_every=1000, picture_every=1000)
    train(replace(run, learning_rate=1e-2, projection_weight=0.0), cases, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert np.mean(found[-8:]) < 0.5 * np.mean(found[:8])


def test_a_run_can_start_from_a_checkpoint(cases: Path, tmp_path: Path) -> None:
    first = train(recipe(num_steps=1), cases, tmp_path / "first")
    second = train(recipe(num_steps=1, seed=1), cases, tmp_path / "second", start_from=first / "checkpoint.safetensors")
    a, b = (load_checkpoint(f / "checkpoint.safetensors").network.state_dict() for f in (first, second))
    assert max(float((a[n] - b[n]).abs().max()) for n in a) < 0.02, "one small step away from where it started"


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_case(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="_tiny"):
        train(replace(recipe(num_steps=30), learning_rate=1e30, gradient_clip=0.0), cases, tmp_path / "run")


def test_an_empty_folder_stops_early(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prepared case"):
        train(recipe(), tmp_path, tmp_path / "run")


def test_learning_rate_warms_up_and_decays() -> None:
    run = replace(default(), num_steps=1000, warmup_steps=100, learning_rate=1.0)
    rates = [learning_rate(run, s, s / 1000) for s in (1, 50, 100, 500, 1000)]
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4]
    assert rates[4] == pytest.approx(0.05)
    assert learning_rate(replace(run, learning_rate_decay="constant"), 1000, 1.0) == 1.0
