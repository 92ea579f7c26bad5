"""`diff2ct train` and `diff2ct prepare`, without the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from diff2ct.process import tune_allocator
from diff2ct_training.recipes import RECIPES, Recipe


def find_recipe(name: str, **changes: Any) -> Recipe:
    """A named recipe with the given fields changed; None leaves a field as it is."""
    if name not in RECIPES:
        raise ValueError(f"recipe: got {name!r}, accepted are {', '.join(RECIPES)}")
    return replace(RECIPES[name](), **{k: v for k, v in changes.items() if v is not None})


def run_training(
    recipe: Recipe, cases: Path, output: Path, *, accelerator: str, devices: int, num_nodes: int, num_workers: int, start_from: Path | None, on_step: Any
) -> Path:
    """Set Fabric up for this machine and train."""
    from lightning_fabric import Fabric

    from diff2ct_training.loop import _loggers, train

    tune_allocator()
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=num_nodes, precision=recipe.precision, loggers=_loggers(output)
    )
    fabric.launch()
    return train(recipe, cases, output, start_from=start_from, fabric=fabric, num_workers=num_workers, on_step=on_step)
