r"""The reference experiment: the phantoms of lumbar-phantom-268, every learned method trained on its 212 training patients for
the same time on the same machine, and all of them and the baselines scored on its 56 test patients.

    python Testing/Benchmarks/reference.py --output reference --minutes 10 --workers 16    # one GPU: an hour of training in all
    python Testing/Benchmarks/reference.py --output reference --minutes 96 \
        --method default --method x2ct-gan --method cnn3d --method psr --method psr-averaged   # a night on two CPU cores

Without a GPU leave the paper's own model out: one of its steps takes a minute there. The table is reference/results/summary.md,
the report reference/results/report.html. Goes on where it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from diff2ct_training.console import progress_bar
from diff2ct_training.evaluate_command import EvaluationRequest, check_names, run_evaluation
from diff2ct_training.prepare_command import PrepareRequest, run_preparation
from diff2ct_training.reference import NAME, TEST_SEEDS
from diff2ct_training.train_command import TrainingRequest, run_training

RECIPES = ("default", "paper", "x2ct-gan", "cnn3d", "psr", "psr-averaged")
BATCH_SIZES = {"default": 4, "cnn3d": 2}
"""Where there is a GPU: these recipes are made for one sample at a time on a CPU, which leaves a GPU waiting."""
PAPER_STEPS = 25
"""Of DDIM, instead of the paper's 1000 ancestral ones."""
XRAYS = 5
"""Pairs per training patient, rendered once: all methods see the same."""


def prepare(output: Path, workers: int) -> Path:
    cases = output / "cases"
    with progress_bar("cases") as update:
        run_preparation(PrepareRequest(output=cases, reference=NAME, num_xrays=XRAYS, workers=workers), on_progress=update)
    return cases


def train(recipe: str, cases: Path, output: Path, minutes: float, workers: int) -> Path:
    """The checkpoint of one method."""
    on_gpu = torch.cuda.is_available()
    request = TrainingRequest(
        recipe=recipe,
        cases=cases,
        output=output / recipe,
        minutes=minutes,
        batch_size=BATCH_SIZES.get(recipe) if on_gpu else None,
        num_workers=workers if on_gpu else 0,
    )
    with progress_bar(recipe) as update:
        run_training(request, on_step=lambda step, total, loss: update(step, total, f"loss {loss:.4f}"))
    return output / recipe / "checkpoint.safetensors"


def evaluate(checkpoints: dict[str, Path], output: Path, workers: int, inception: Path | None, samples: int) -> str:
    """Summary (Markdown)."""
    request = EvaluationRequest(
        output=output / "results",
        num_phantoms=len(TEST_SEEDS),
        checkpoints=tuple(f"{name}={file}" for name, file in checkpoints.items()),
        steps=(f"paper={PAPER_STEPS}",) * ("paper" in checkpoints),
        samplers=("paper=ddim",) * ("paper" in checkpoints),
        num_samples=samples,
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
    workers: Annotated[int, typer.Option(help="Processes that render, make samples and score.")] = 2,
    samples: Annotated[int, typer.Option(help="Of each diffusion model, whose mean is scored.")] = 4,
    inception: Annotated[Path | None, typer.Option(help="Inception-v3 for FID and KID, see `diff2ct evaluate`.")] = None,
) -> None:
    wanted = method or RECIPES
    check_names("--method", tuple(wanted), RECIPES)
    cases = prepare(output, workers)
    checkpoints = {recipe: train(recipe, cases, output, minutes, workers) for recipe in wanted}
    typer.echo(evaluate(checkpoints, output, workers, inception, samples))


if __name__ == "__main__":
    typer.run(main)
