r"""The reference experiment: the phantoms of lumbar-phantom-268, every learned method trained on its 212 training patients for
the same time on the same machine, and all of them and the baselines scored on its 56 test patients.

    python Testing/Benchmarks/reference.py --output reference --minutes 10 --workers 16    # one GPU: an hour of training in all
    python Testing/Benchmarks/reference.py --output reference --minutes 25 --workers 2 --spacing 4 --side-by-side 2 \
        --paper-steps 5                                                                     # two CPU cores: two hours

On a CPU one step of the paper's own model takes two minutes with voxels of 2 mm, seconds with 4 mm: `--spacing 4` is for that.
The table is reference/results/summary.md, the report reference/results/report.html. Goes on where it was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from diff2ct.process import tune_allocator
from diff2ct_training.console import progress_bar
from diff2ct_training.evaluate_command import EvaluationRequest, check_names, run_evaluation
from diff2ct_training.parallel import Failed, run_all
from diff2ct_training.prepare_command import PrepareRequest, run_preparation
from diff2ct_training.reference import NAME, NUM_TEST
from diff2ct_training.train_command import TrainingRequest, run_training

RECIPES = ("default", "paper", "x2ct-gan", "cnn3d", "psr", "psr-averaged")
GPU_BATCH_SIZES = {"default": 4, "cnn3d": 2}
"""These recipes are made for one sample at a time on a CPU, which leaves a GPU waiting."""
CPU_BATCH_SIZES = {"x2ct-gan": 1}
"""Of its own 4 it would take few steps in the time; it has no norms over the batch."""
XRAYS = 5
"""Pairs per training patient, rendered once: all methods see the same."""


def prepare(output: Path, workers: int) -> Path:
    cases = output / "cases"
    with progress_bar("cases") as update:
        run_preparation(PrepareRequest(output=cases, reference=NAME, num_xrays=XRAYS, workers=workers), on_progress=update)
    return cases


@dataclass(frozen=True)
class Run:
    """One method's training. spacing_mm: of its voxels, None for the recipe's. workers: see `TrainingRequest`, on a GPU."""

    recipe: str
    cases: Path
    output: Path
    minutes: float
    spacing_mm: float | None
    workers: int

    @property
    def checkpoint(self) -> Path:
        return self.output / self.recipe / "checkpoint.safetensors"


def train(run: Run) -> None:
    on_gpu = torch.cuda.is_available()
    request = TrainingRequest(
        recipe=run.recipe,
        cases=run.cases,
        output=run.output / run.recipe,
        minutes=run.minutes,
        spacing_mm=run.spacing_mm,
        batch_size=(GPU_BATCH_SIZES if on_gpu else CPU_BATCH_SIZES).get(run.recipe),
        num_workers=run.workers if on_gpu else 0,
    )
    with progress_bar(run.recipe) as update:
        run_training(request, on_step=lambda step, total, loss: update(step, total, f"{run.recipe}: loss {loss:.4f}"))


def train_all(runs: list[Run], side_by_side: int) -> None:
    """Each in a process with its share of the cores where there are several `side_by_side`."""
    for run, result in run_all(train, runs, side_by_side):
        if isinstance(result, Failed):
            raise ValueError(f"{run.recipe}: {result.reason}")


def evaluate(
    checkpoints: dict[str, Path], output: Path, workers: int, inception: Path | None, samples: int, paper_steps: int
) -> str:
    """Summary (Markdown). samples: of our model; the paper's draws one, as in the paper."""
    request = EvaluationRequest(
        output=output / "results",
        num_phantoms=NUM_TEST,
        checkpoints=tuple(f"{name}={file}" for name, file in checkpoints.items()),
        steps=(f"paper={paper_steps}",) * ("paper" in checkpoints),
        samplers=("paper=ddim",) * ("paper" in checkpoints),
        samples=(str(samples), *("paper=1",) * ("paper" in checkpoints)),
        inception=inception,
        device="cuda" if torch.cuda.is_available() else "cpu",
        workers=workers,
    )
    with progress_bar("evaluation") as update:
        return run_evaluation(request, on_progress=update)


def main(
    output: Annotated[Path, typer.Option(help="Folder for cases, runs and results.")],
    minutes: Annotated[float, typer.Option(help="Training time of each method.")],
    method: Annotated[list[str] | None, typer.Option(help="Recipes to train. Default: all of the paper and our own.")] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Voxels [mm] of all methods; 4 takes an eighth of the time of 2.")
    ] = None,
    side_by_side: Annotated[int, typer.Option(help="Methods trained at once, on equal shares of the cores.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that render, make samples and score.")] = 2,
    samples: Annotated[int, typer.Option(help="Of our model, whose mean is scored; the paper's draws one.")] = 4,
    paper_steps: Annotated[int, typer.Option(help="Of DDIM, for the 1000 ancestral ones of the paper's model.")] = 25,
    inception: Annotated[Path | None, typer.Option(help="Inception-v3 for FID and KID, see `diff2ct evaluate`.")] = None,
) -> None:
    tune_allocator()
    wanted = method or RECIPES
    check_names("--method", tuple(wanted), RECIPES)
    cases = prepare(output, workers)
    runs = [Run(recipe, cases, output, minutes, spacing, workers) for recipe in wanted]
    train_all(runs, side_by_side)
    typer.echo(evaluate({run.recipe: run.checkpoint for run in runs}, output, workers, inception, samples, paper_steps))


if __name__ == "__main__":
    typer.run(main)
