"""`diff2ct train`, without the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diff2ct.process import best_device, check_device, has_gpu
from diff2ct_training.one_writer import one_writer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from diff2ct_training.recipe import Recipe

_log = logging.getLogger(__name__)
RecipeT = TypeVar("RecipeT", bound="Recipe")

RECIPE_OPTIONS = (
    "num_steps", "minutes", "batch_size", "accumulate", "activation_checkpointing", "precision", "learning_rate", "ct_share",
    "seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """recipe: a name of `recipes.RECIPES`; num_steps to seed: of `Recipe` and its kinds, None leaves what the recipe says.
    spacing_mm: of the volume's voxels, in the same cube; None leaves the recipe's.
    films: real X-rays that `prepare_films` wrote, for the recipe that needs them. teacher: checkpoint to learn from, for the
        recipe that has one; None is the embedded one.

    accelerator, devices, num_nodes, strategy: as Lightning Fabric takes them; "fsdp" shares the weights out among processes.
    start_from: checkpoint to start the weights from. validation: cases to choose the best checkpoint by.
    """

    recipe: str
    cases: Path
    output: Path
    spacing_mm: float | None = None
    num_steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    activation_checkpointing: bool | None = None
    precision: str | None = None
    learning_rate: float | None = None
    ct_share: float | None = None
    films: Path | None = None
    teacher: Path | None = None
    seed: int | None = None
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    num_workers: int = 0
    start_from: Path | None = None
    validation: Path | None = None


def run_training(request: TrainingRequest, on_step: Callable[[int, int, float], None] | None = None) -> Path:
    """Train, or go on with the run that `output` holds; returns `output`."""
    request = replace(request, accelerator=usable(request.accelerator))
    from diff2ct_training.distillation import DistillationRecipe, taught_by
    from diff2ct_training.loop import train
    from diff2ct_training.recipes import recipe_named

    changes: dict[str, Any] = {name: getattr(request, name) for name in RECIPE_OPTIONS}
    for name in ("films", "teacher"):
        path = getattr(request, name)
        changes[name] = None if path is None else str(path)
    recipe = recipe_named(request.recipe)
    wanted = {k: v for k, v in changes.items() if v is not None}
    for name in wanted:
        if not hasattr(recipe, name):
            raise ValueError(f"--{name.replace('_', '-')}: the recipe {recipe.name!r} has no such thing")
    if isinstance(recipe, DistillationRecipe) and request.teacher is not None:
        recipe = taught_by(recipe, wanted["teacher"])
    if request.spacing_mm is not None:
        recipe = coarser(recipe, request.spacing_mm)
    recipe = replace(recipe, **wanted)
    if request.precision is None:
        recipe = suited_to_device(recipe, request.accelerator, request.output)
    fabric = fabric_for(request, recipe)
    fabric.launch()
    with _one_run(fabric, request.output):
        return train(
            recipe,
            request.cases,
            request.output,
            start_from=request.start_from,
            validation=request.validation,
            fabric=fabric,
            num_workers=request.num_workers,
            on_step=on_step,
        )


@contextmanager
def _one_run(fabric: Fabric, output: Path) -> Iterator[None]:
    """`one_writer` for all processes of a run: the first one, which writes, has the lock and tells the others if it has not."""
    with ExitStack() as stack:
        problem = None
        if fabric.is_global_zero:
            try:
                stack.enter_context(one_writer(output))
            except (OSError, ValueError) as error:
                problem = str(error)
        problem = fabric.broadcast(problem)
        if problem is not None:
            raise ValueError(problem)
        yield


def usable(accelerator: str) -> str:
    """The accelerator to take, of "auto" the fastest; ValueError for a GPU that is there, but that torch cannot train on."""
    import torch

    if accelerator == "auto":
        return best_device()
    if accelerator in ("cuda", "gpu") and torch.cuda.is_available() and not has_gpu():
        raise ValueError(f"--accelerator: got {accelerator}, but torch {torch.__version__} has no kernels for this GPU")
    if accelerator == "mps":
        check_device("mps")
    return accelerator


def fabric_for(request: TrainingRequest, recipe: Recipe) -> Fabric:
    """Where the run takes place; ValueError if this machine has no such place."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from diff2ct_training.loop import make_fabric

    try:
        return make_fabric(recipe, request.output, request.accelerator, request.devices, request.num_nodes, request.strategy)
    except (RuntimeError, TypeError, MisconfigurationException) as error:
        got = f"--accelerator, --devices: got {request.accelerator} and {request.devices}"
        raise ValueError(f"{got}, accepted is what there is here ({' '.join(str(error).split())})") from error


def coarser(recipe: Recipe, spacing_mm: float) -> Recipe:
    """`recipe` for voxels of `spacing_mm`; ValueError if it has none, or its teacher's."""
    from diff2ct_training.distillation import DistillationRecipe
    from diff2ct_training.volume_samples import VolumeRecipe

    if not isinstance(recipe, VolumeRecipe) or isinstance(recipe, DistillationRecipe):
        why = "learns on its teacher's grid" if isinstance(recipe, DistillationRecipe) else "has no volume"
        raise ValueError(f"--spacing: the recipe {recipe.name!r} {why}")
    return recipe.at_spacing(spacing_mm)


def suited_to_device(recipe: RecipeT, accelerator: str, output: Path | None = None) -> RecipeT:
    """`recipe` in float32 if it would train in bfloat16 where that does not pay: on a CPU that emulates it, in twice the time,
    and on a GPU older than Ampere, where cuDNN has no convolutions in it and torch 2.2 refuses the autocast. A run in
    `output` goes on as it was started, on whatever device can do so."""
    import torch

    from diff2ct.precision import fastest_dtype

    device = {"gpu": "cuda", "auto": best_device()}.get(accelerator, accelerator)
    started = None if output is None else precision_of(output)
    if started == "32-true" or (started is not None and device == "cpu"):
        return replace(recipe, precision=started)
    if recipe.precision != "bf16-mixed" or device not in ("cpu", "cuda") or fastest_dtype(device) == torch.bfloat16:
        return recipe
    if device == "cuda":
        _log.warning("precision: 32-true, as this GPU has no bfloat16; it takes more memory than bf16-mixed")
    else:
        _log.info("precision: 32-true, which is faster on this CPU than bf16-mixed")
    return replace(recipe, precision="32-true")


def precision_of(output: Path) -> str | None:
    """Of the run that `output` holds, None if it holds none."""
    try:
        return json.loads((output / "recipe.json").read_text(encoding="utf-8"))["precision"]
    except FileNotFoundError:
        return None
