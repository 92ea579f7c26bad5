"""What the loop does for any method, seen on the smallest one there is: a line that is fitted to points."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diff2ct_training.loop import learning_rate, make_fabric, train
from diff2ct_training.method import Backward, Method, Weights, bare
from diff2ct_training.recipe import Recipe
from diff2ct_training.training_state import Ema


@dataclass(frozen=True, eq=False)
class Point:
    x: float
    name: str


@dataclass(frozen=True, kw_only=True)
class LineRecipe(Recipe):
    """scores: what `score` says at each save, one after the other."""

    scores: tuple[float, ...] = ()
    spoil_at: int | None = None

    def method(self) -> Line:
        return Line(self)


class Points(torch.utils.data.Dataset):
    def __getitem__(self, n: int) -> Point:
        return Point(float(n % 7), f"point {n}")


class Line(Method[Point, torch.Tensor]):
    """y = 2 x. Its state counts the samples that it has seen."""

    averaged = ("line",)

    def __init__(self, recipe: LineRecipe) -> None:
        self.recipe, self.networks = recipe, {"line": nn.Linear(1, 1)}
        self.state = {"seen": torch.zeros(())}
        self._scores = iter(recipe.scores)

    def samples(self, folder: Path) -> Points:
        return Points()

    def validation_samples(self, folder: Path) -> list[Point]:
        return [Point(1.0, "judge")]

    def collate(self, samples: Sequence[Point], device: torch.device) -> torch.Tensor:
        return torch.tensor([[sample.x] for sample in samples], device=device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.networks["line"].parameters(), lr=0.0)]

    def training_step(self, batch: torch.Tensor, backward: Backward) -> dict[str, torch.Tensor]:
        self.state["seen"] += len(batch)
        loss = (self.networks["line"](batch) - 2 * batch).square().mean()
        if self.recipe.spoil_at is not None and self.state["seen"] > self.recipe.spoil_at:
            loss = loss + 0 * (self.networks["line"].weight.sum() - self.networks["line"].weight.sum()).sqrt()  # NaN gradient
        backward(loss)
        return {"loss": loss, "noise": torch.rand(())}

    def write_checkpoint(self, folder: Path, stem: str, weights: Mapping[str, Weights], provenance: dict[str, Any]) -> None:
        save_file(dict(weights["line"]), folder / f"{stem}.safetensors")
        (folder / f"{stem}.json").write_text(json.dumps(provenance))

    def load_checkpoint(self, path: Path) -> dict[str, Any]:
        self.networks["line"].load_state_dict(load_file(path))
        return json.loads(path.with_suffix(".json").read_text())

    def score(self, batch: torch.Tensor) -> float:
        assert not torch.is_grad_enabled() and not bare(self.networks["line"]).training
        return next(self._scores)


def recipe(**changes: Any) -> LineRecipe:
    return LineRecipe(**{
        "name": "line", "num_steps": 8, "save_every": 2, "picture_every": 99, "precision": "32-true", "warmup_steps": 0,
        "learning_rate": 0.01, "gradient_clip": 0.0, **changes,
    })  # fmt: skip


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path: Path) -> None:
    run = recipe(scores=(5.0, 3.0, 4.0, 3.5))
    output = train(run, tmp_path, tmp_path / "run", validation=tmp_path)
    provenance = {stem: json.loads((output / f"{stem}.json").read_text()) for stem in ("best", "checkpoint")}
    assert (provenance["best"]["steps"], provenance["best"]["validation"]) == (4, 3.0)
    assert provenance["checkpoint"]["steps"] == 8


def test_a_run_that_goes_on_remembers_the_best_and_its_state(tmp_path: Path) -> None:
    output = train(recipe(num_steps=4, scores=(1.0, 2.0)), tmp_path, tmp_path / "run", validation=tmp_path)
    train(recipe(num_steps=8, scores=(1.0, 2.0)), tmp_path, output, validation=tmp_path)
    assert json.loads((output / "best.json").read_text())["steps"] == 2
    assert load_file(output / "state.safetensors")["extra/seen"] == 8


def test_a_checkpoint_says_what_it_was_started_from_when_the_run_goes_on_too(tmp_path: Path) -> None:
    first = train(recipe(num_steps=2), tmp_path, tmp_path / "first")
    for steps, start in ((2, first / "checkpoint.safetensors"), (4, None)):
        second = train(recipe(num_steps=steps), tmp_path, tmp_path / "second", start_from=start)
        provenance = json.loads((second / "checkpoint.json").read_text())
        assert provenance["steps"] == steps and provenance["started_from"]["steps"] == 2
    train(recipe(num_steps=4), tmp_path, first, start_from=second / "checkpoint.safetensors")
    assert "started_from" not in json.loads((first / "checkpoint.json").read_text()), "its weights are its own"


def test_a_run_that_goes_on_draws_the_random_numbers_that_it_would_have_drawn(tmp_path: Path) -> None:
    def noise(log: Path) -> list[str]:
        with log.open(newline="") as file:
            return [row["noise"] for row in csv.DictReader(file) if row.get("noise")]

    whole = train(recipe(num_steps=6), tmp_path, tmp_path / "whole")
    for steps in (4, 6):
        torch.rand(steps)  # whatever the process drew before
        parts = train(recipe(num_steps=steps), tmp_path, tmp_path / "parts")
    drawn = noise(whole / "log" / "metrics.csv")
    assert len(set(drawn)) == 6
    assert noise(parts / "log" / "metrics.csv") + noise(parts / "log-2" / "metrics.csv") == drawn


def test_the_average_follows_the_weights_slowly_and_is_only_lent() -> None:
    line = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(line.weight)
    ema = Ema(line, 0.9)
    nn.init.ones_(line.weight)
    ema.update(line, 1)
    assert float(ema.weights["weight"]) == pytest.approx(1 - 2 / 11), "quickly at first"
    ema.update(line, 10_000)
    assert float(ema.weights["weight"]) == pytest.approx(1 - 0.9 * 2 / 11)
    with ema.swapped_in(line):
        assert not line.training and float(line.weight.detach()) == pytest.approx(1 - 0.9 * 2 / 11)
    assert line.training and float(line.weight.detach()) == 1.0


def test_steep_gradients_are_cut_to_the_limit(tmp_path: Path) -> None:
    weights = []
    for name, rate, limit in (("still", 0.0, 0.0), ("free", 0.01, 0.0), ("cut", 0.01, 0.5)):
        run = recipe(num_steps=1, save_every=1, batch_size=7, learning_rate=rate, gradient_clip=limit)
        state = load_file(train(run, tmp_path, tmp_path / name) / "state.safetensors")
        weights.append(torch.cat([state["network/line/weight"].flatten(), state["network/line/bias"]]))
    still, free, cut = weights
    assert float((free - still).norm()) > 0.02
    assert float((cut - still).norm()) == pytest.approx(0.01 * 0.5, rel=1e-3)


def test_a_part_is_a_part_of_the_same_batch(tmp_path: Path) -> None:
    whole = train(recipe(batch_size=6), tmp_path, tmp_path / "whole")
    parts = train(recipe(batch_size=6, accumulate=3), tmp_path, tmp_path / "parts")
    a, b = (load_file(output / "checkpoint.safetensors") for output in (whole, parts))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    with pytest.raises(ValueError, match=r"batch_size: got 6.*accumulate = 4"):
        train(recipe(batch_size=6, accumulate=4), tmp_path, tmp_path / "bad")


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_the_sample(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 3: the gradient is not finite on point 2"):
        train(recipe(spoil_at=2), tmp_path, tmp_path / "run")


def test_of_two_processes_the_sample_is_named_that_is_to_blame(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from dataclasses import replace
from pathlib import Path
from diff2ct_training.loop import make_fabric, train
import test_keeper

class Spoilt(test_keeper.Line):
    def training_step(self, batch, backward):
        return super().training_step(batch.where(batch != 5, float("nan")), backward)

class SpoiltRecipe(test_keeper.LineRecipe):
    def method(self):
        return Spoilt(self)

if __name__ == "__main__":
    run = SpoiltRecipe(**vars(test_keeper.recipe(batch_size=2)))
    output = Path({str(tmp_path / "run")!r})
    fabric = make_fabric(run, output, "cpu", devices=2)
    fabric.launch()
    try:
        train(run, Path("unused"), output, fabric=fabric)
    except FloatingPointError as error:
        (output / f"rank{{fabric.global_rank}}.txt").write_text(str(error))
""")
    subprocess.run([sys.executable, script], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for rank in (0, 1):  # samples 4 and 5 are those of step 3, one each
        assert (tmp_path / "run" / f"rank{rank}.txt").read_text() == "step 3: loss is nan on point 5"


def test_a_full_disk_leaves_the_state_before(tmp_path: Path, full_disk: Any) -> None:
    output = train(recipe(num_steps=2), tmp_path, tmp_path / "run")
    before = (output / "state.safetensors").read_bytes()
    with full_disk(len(before) - 9), pytest.raises(OSError, match=r"state\.safetensors: cannot be written"):
        train(recipe(num_steps=4), tmp_path, output)
    assert (output / "state.safetensors").read_bytes() == before and not list(output.glob("*partial"))


def test_a_state_of_another_recipe_is_refused_by_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save_file({"network/other/weight": torch.zeros(3)}, tmp_path / "run" / "state.safetensors", metadata={"step": "2"})
    with pytest.raises(ValueError, match=r"state\.safetensors is not of this recipe"):
        train(recipe(), tmp_path, tmp_path / "run")


def test_a_run_does_not_go_on_as_another_recipe_of_equal_tensors(tmp_path: Path) -> None:
    output = train(recipe(num_steps=2), tmp_path, tmp_path / "run")
    for changes in ({"name": "other"}, {"learning_rate": 0.02}, {"seed": 1}):
        (field,) = changes
        with pytest.raises(ValueError, match=rf"not of this recipe: {field} is .*, the run was started with"):
            train(recipe(num_steps=4, **changes), tmp_path, output)
    assert json.loads((output / "recipe.json").read_text())["name"] == "line"
    train(recipe(num_steps=4, save_every=4, picture_every=9), tmp_path, output)


def test_a_state_that_does_not_tell_its_recipe_goes_on(tmp_path: Path) -> None:
    output = train(recipe(num_steps=2), tmp_path, tmp_path / "run")
    state = output / "state.safetensors"
    save_file(load_file(state), state, metadata={"step": "2"})
    train(recipe(num_steps=4, seed=1), tmp_path, output)
    assert load_file(state)["extra/seen"] == 4


def test_fields_of_another_version_do_not_count() -> None:
    told = json.loads(recipe().to_json())
    recipe().check_goes_on(json.dumps({**told, "gone": 1}))
    del told["gradient_clip"]
    recipe().check_goes_on(json.dumps(told))


def test_slow_steps_are_saved_by_the_clock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def kill_at_three(step: int, of: int, loss: float) -> None:
        if step == 3:
            raise Killed

    for seconds, kept in ((0.0, True), (600.0, False)):
        monkeypatch.setattr("diff2ct_training.pace.SAVE_SECONDS", seconds)
        output = tmp_path / f"{seconds:g}"
        with pytest.raises(Killed):
            train(recipe(save_every=99), tmp_path, output, on_step=kill_at_three)
        assert (output / "state.safetensors").exists() == kept and not (output / "checkpoint.safetensors").exists()
    assert load_file(tmp_path / "0" / "state.safetensors")["extra/seen"] == 3


def test_linear_decay_stays_for_half_and_falls_to_zero() -> None:
    run = recipe(num_steps=100, learning_rate=1.0, learning_rate_decay="linear")
    assert [round(learning_rate(run, step, step / 100), 3) for step in (1, 50, 75, 100)] == [1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("option", [{"precision": "16-mixed"}, {"learning_rate_decay": "steps"}, {"accumulate": 0}], ids=str)
def test_a_recipe_that_cannot_be_is_refused_by_field(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        recipe(**option)


def test_weights_are_shared_out_for_one_network_only(tmp_path: Path) -> None:
    class Two(LineRecipe):
        def method(self) -> Line:
            two = Line(self)
            two.networks["other"] = nn.Linear(1, 1)
            return two

    run = Two(**vars(recipe()))
    with pytest.raises(ValueError, match="fsdp"):
        train(run, tmp_path, tmp_path / "run", fabric=make_fabric(run, tmp_path / "run", "cpu", strategy="fsdp"))
