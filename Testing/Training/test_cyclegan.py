import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diff2ct.geometry import View
from diff2ct.networks import ResNet2DConfig
from diff2ct.radiograph import Radiograph
from diff2ct.translator import load_translator, translate
from diff2ct_training.cyclegan import CycleGan, CycleGanRecipe, StyleBatch, Translated
from diff2ct_training.loop import train
from diff2ct_training.recipes import recipe_named
from styles import store_styles, xray

VALID = torch.ones(1, 1, 16, 16, dtype=torch.bool)


def recipe(films: Path | None = None, **changes) -> CycleGanRecipe:
    shipped = recipe_named("cyclegan")
    assert isinstance(shipped, CycleGanRecipe)
    tiny = replace(
        shipped, films=str(films or ""), size=32, generator=ResNet2DConfig(width=4, num_blocks=1),
        discriminator_widths=(4, 8), pool_size=3, num_steps=2, save_every=100, picture_every=100,
        learning_rate=2e-3, precision="32-true",
    )  # fmt: skip
    return replace(tiny, **changes)


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(DRRs, films)."""
    return store_styles(tmp_path_factory.mktemp("styles"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    both = {name: load_translator(folder / f"checkpoint_{name}.safetensors") for name in ("real_to_drr", "drr_to_real")}
    return {f"{n}.{key}": t for n, translator in both.items() for key, t in translator.network.state_dict().items()}


def batch(value: float = 0.5) -> StyleBatch:
    torch.manual_seed(0)
    drr, film = (value * torch.rand(1, 1, 16, 16) for _ in range(2))
    return StyleBatch(drr, film, VALID, (1,))


def test_losses_of_a_perfect_translation_are_those_of_the_discriminators_alone() -> None:
    method = CycleGan(recipe())
    for name in ("is_real", "is_drr"):
        method.networks[name] = Always(0.25)
    b = batch()
    perfect = Translated(b.drr, b.film, b.drr, b.film, b.drr, b.film)
    terms = method.generator_losses(b, perfect)
    assert {name: round(float(term), 6) for name, term in terms.items()} == {
        "loss": 2 * 0.75**2, "adversarial": 2 * 0.75**2, "cycle": 0.0, "identity": 0.0, "edge": 0.0,
    }  # fmt: skip


def test_each_loss_has_the_weight_that_the_recipe_says() -> None:
    run = recipe(cycle_weight=10.0, identity_weight=5.0, edge_weight=0.0)
    method = CycleGan(run)
    for name in ("is_real", "is_drr"):
        method.networks[name] = Always(1.0)
    b = batch()
    off = Translated(b.drr, b.film, b.drr + 0.1, b.film - 0.2, b.drr, b.film)
    assert float(method.generator_losses(b, off)["loss"]) == pytest.approx(10 * 0.3, rel=1e-4)
    off = Translated(b.drr, b.film, b.drr, b.film, b.drr, b.film + 0.1)
    assert float(method.generator_losses(b, off)["loss"]) == pytest.approx(5 * 0.1, rel=1e-4)
    method.recipe = replace(run, edge_weight=3.0)
    off = Translated(-b.drr, b.film, b.drr, b.film, b.drr, b.film)
    assert float(method.generator_losses(b, off)["loss"]) == pytest.approx(3 * 2, rel=1e-3)


class Always(torch.nn.Module):
    """A discriminator of one opinion."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 1, 3, 3), self.score)


def test_a_run_leaves_two_translators(styles: tuple[Path, Path], tmp_path: Path) -> None:
    drrs, films = styles
    train(recipe(films, picture_every=2), drrs, tmp_path / "run")
    image, beam = xray(View.LL)
    for direction in ("real_to_drr", "drr_to_real"):
        translator = load_translator(tmp_path / "run" / f"checkpoint_{direction}.safetensors", direction=direction)
        facts = {"recipe": "cyclegan", "steps": 2, "drrs": 4, "films": 4, "edge_weight": 1.0}
        assert facts.items() <= translator.provenance.items()
        assert translate(Radiograph(image, beam), translator).geometry == beam
    assert (tmp_path / "run" / "step_000002.png").exists()
    with (tmp_path / "run" / "log" / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert {"loss", "adversarial", "cycle", "identity", "edge", "is_real", "is_drr"} <= set(row)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(styles: tuple[Path, Path], tmp_path: Path) -> None:
    """The pool is full after three images, so what came before the stop decides what is learnt after it."""
    drrs, films = styles
    run = recipe(films, num_steps=10, save_every=2)

    class Stop(Exception):
        pass

    def stop_after_seven(step: int, of: int, loss: float) -> None:
        if step == 7:
            raise Stop

    train(run, drrs, tmp_path / "whole")
    with pytest.raises(Stop):
        train(run, drrs, tmp_path / "stopped", on_step=stop_after_seven)
    train(run, drrs, tmp_path / "stopped")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, resumed[name], rtol=0, atol=1e-6, msg=name)


def test_the_pool_is_part_of_where_a_run_stands() -> None:
    assert set(CycleGan(recipe()).state) == {"is_real/count", "is_real/images", "is_drr/count", "is_drr/images"}


def test_two_processes_train_what_one_does(styles: tuple[Path, Path], tmp_path: Path) -> None:
    drrs, films = styles
    train(recipe(films, num_steps=4, batch_size=2), drrs, tmp_path / "alone")
    script = tmp_path / "two.py"
    script.write_text(f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from diff2ct_training.loop import make_fabric, train
from test_cyclegan import recipe

if __name__ == "__main__":
    run = recipe(Path({str(films)!r}), num_steps=4, batch_size=2)
    output = Path({str(tmp_path / "together")!r})
    fabric = make_fabric(run, output, "cpu", devices=2)
    fabric.launch()
    train(run, Path({str(drrs)!r}), output, fabric=fabric)
""")
    subprocess.run([sys.executable, script], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    torch.manual_seed(0)
    start = {f"{n}.{k}": t for n, net in CycleGan(recipe()).networks.items() for k, t in net.state_dict().items()}
    alone, together = (
        torch.cat([(t - start[name]).flatten() for name, t in weights(tmp_path / run).items()]) for run in ("alone", "together")
    )
    assert float(torch.nn.functional.cosine_similarity(alone, together, dim=0)) > 0.99


def test_a_run_can_start_from_a_checkpoint(styles: tuple[Path, Path], tmp_path: Path) -> None:
    drrs, films = styles
    train(recipe(films), drrs, tmp_path / "first")
    given = tmp_path / "first" / "checkpoint_drr_to_real.safetensors"
    train(recipe(films, num_steps=1, seed=1, ema_decay=0.0), drrs, tmp_path / "second", start_from=given)
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 0.01, "one small step away"
    start = load_translator(tmp_path / "second" / "checkpoint_real_to_drr.safetensors").provenance["started_from"]
    assert start["sha256"] == load_translator(given).sha256 and start["films"] > 0
    with pytest.raises(ValueError, match="start_from"):
        other = recipe(films, generator=ResNet2DConfig(width=8, num_blocks=1))
        train(other, drrs, tmp_path / "third", start_from=given)


def test_training_learns_the_style(styles: tuple[Path, Path], tmp_path: Path) -> None:
    drrs, films = styles
    train(recipe(films, num_steps=60, learning_rate=5e-3, ema_decay=0.0), drrs, tmp_path / "run")
    with (tmp_path / "run" / "log" / "metrics.csv").open() as file:
        cycle = [float(row["cycle"]) for row in csv.DictReader(file) if row["cycle"]]
    assert sum(cycle[-10:]) < 0.6 * sum(cycle[:10])


def test_missing_data_and_bad_settings_stop_early(styles: tuple[Path, Path], tmp_path: Path) -> None:
    drrs, films = styles
    with pytest.raises(ValueError, match="diff2ct films"):
        train(recipe(), drrs, tmp_path / "run")
    with pytest.raises(ValueError, match=r"none are stored.*diff2ct prepare"):
        train(recipe(films), tmp_path, tmp_path / "run")
    with pytest.raises(ValueError, match="validation: got cases, accepted are none"):
        train(recipe(films), drrs, tmp_path / "run", validation=drrs)
    with pytest.raises(ValueError, match="size"):
        recipe(size=30)
