"""The training loop, on Lightning Fabric: any method, one process or many, CPU or GPU, the same lines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, TensorBoardLogger
from lightning_fabric.strategies import ModelParallelStrategy
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diff2ct_training.keeper import Keeper
from diff2ct_training.method import Method, Sample, bare
from diff2ct_training.recipe import Recipe
from diff2ct_training.sharding import sharded_strategy, whole
from diff2ct_training.throughput import Throughput, peak_flops

OnStep = Callable[[int, int, float], None]
"""(step, steps in all, loss)."""


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    start_from: Path | None = None,
    validation: Path | None = None,
    fabric: Fabric | None = None,
    num_workers: int = 0,
    on_step: OnStep | None = None,
) -> Path:
    """Train `recipe` on the folder `data`; returns the folder `output`, which then holds checkpoints, logs and pictures.

    A run that was stopped continues from `output`/state.safetensors with the same samples and noise as if it had not been.
    start_from: checkpoint whose weights the networks start with; its config must be the recipe's.
    validation: folder of data that is not trained on: the checkpoint that scores best on it is kept beside the last one.
    Raises ValueError on bad data and FloatingPointError, naming the samples, if a loss or gradient is not finite.
    """
    fabric = fabric or make_fabric(recipe, output, "cpu")
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    method = recipe.method()
    samples = method.samples(data)
    judges = method.validation_samples(validation) if validation is not None else ()
    if start_from is not None:
        method.load_checkpoint(start_from)
    if isinstance(fabric.strategy, ModelParallelStrategy) and len(method.networks) > 1:
        raise ValueError(f"strategy: got 'fsdp', accepted is 'ddp' for the {len(method.networks)} networks of {recipe.name!r}")
    method.fabric = fabric
    method.networks = {name: fabric.setup_module(network) for name, network in method.networks.items()}
    networks = [bare(network) for network in method.networks.values()]
    optimizers = method.configure_optimizers()
    keeper = Keeper(recipe, method, optimizers, output, judges)
    first = keeper.resume()
    if fabric.is_global_zero:
        (output / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))

    throughput = Throughput(recipe.batch_size, peak_flops(fabric.device, recipe.precision))
    for step, parts in enumerate(_parts_of_steps(recipe, samples, fabric, first, num_workers), start=first + 1):
        rate = learning_rate(recipe, step)
        torch.manual_seed(_seed_of(recipe, step, fabric.global_rank))
        with throughput.step():
            values = _accumulate_gradients(method, parts, step)
        values["gradient_norm"] = _clip_gradients(networks, recipe.gradient_clip)
        if not math.isfinite(values["gradient_norm"]):
            raise FloatingPointError(f"step {step}: the gradient is not finite on {_names(parts)}")
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        keeper.average(step)

        if step % recipe.save_every == 0 or step == recipe.num_steps:
            values |= keeper.save(step, throughput.seconds_per_step)
        if step % recipe.picture_every == 0:
            keeper.picture(step, parts[0][0])
        fabric.log_dict({**values, "learning_rate": rate, **throughput.values()}, step=step)
        if on_step is not None and fabric.is_global_zero:
            on_step(step, recipe.num_steps, values["loss"])
    for logger in fabric.loggers:
        logger.finalize("success")
    return output


def make_fabric(
    recipe: Recipe, output: Path, accelerator: str = "auto", devices: int = 1, num_nodes: int = 1, strategy: str = "auto"
) -> Fabric:
    """Fabric for this machine or this launcher, logging to `output`. strategy: "fsdp" shares weights out among processes."""
    precision: Any = recipe.precision
    return Fabric(
        accelerator=accelerator,
        strategy=sharded_strategy(devices * num_nodes) if strategy == "fsdp" else strategy,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        loggers=_loggers(output),
    )


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then as `Recipe.learning_rate_decay` says."""
    done = min(1.0, step / recipe.num_steps)
    warm = min(1.0, step / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    share = {
        "constant": 1.0,
        "linear": min(1.0, 2 * (1 - done)),
        "cosine": 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)),
    }
    return recipe.learning_rate * warm * share[recipe.learning_rate_decay]


def _seed_of(recipe: Recipe, step: int, rank: int) -> int:
    """Of all that is drawn from torch's default generator in a step, e.g. by dropout: a run that goes on draws the same."""
    return int(np.random.default_rng([recipe.seed, 3, step, rank]).integers(2**62))


def _accumulate_gradients(method: Method[Any, Any], parts: Sequence[Sequence[Sample]], step: int) -> dict[str, float]:
    """Forward and backward passes of one step; processes add up their gradients in the last part only. Returns the means of
    the logged terms over all parts and processes."""
    fabric = method.fabric

    def backward(loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: the loss is {float(loss.detach())} on {_names(parts)}")
        with torch.autocast(fabric.device.type, enabled=False):
            fabric.backward(loss / len(parts))

    values: dict[str, float] = {}
    for n, part in enumerate(parts, start=1):
        batch = method.collate(part, fabric.device)
        with ExitStack() as stack:
            for network in method.networks.values():
                assert isinstance(network, _FabricModule)
                stack.enter_context(fabric.no_backward_sync(network, enabled=n < len(parts)))
            stack.enter_context(fabric.autocast())
            terms = method.training_step(batch, backward)
        for name, term in terms.items():
            values[name] = values.get(name, 0.0) + float(term.detach()) / len(parts)
    if fabric.world_size > 1:
        means: Any = fabric.all_reduce({name: torch.tensor(value, device=fabric.device) for name, value in values.items()})
        values = {name: float(mean) for name, mean in means.items()}
    return values


def _clip_gradients(networks: Iterable[nn.Module], limit: float) -> float:
    """Scale the gradients of each network down to the norm `limit`, 0 for none; returns the norm of all before."""
    norms = (nn.utils.clip_grad_norm_(network.parameters(), limit or math.inf) for network in networks)
    return math.hypot(*(float(whole(norm)) for norm in norms))


def _parts_of_steps(
    recipe: Recipe, samples: Dataset[Any], fabric: Fabric, first_step: int, num_workers: int
) -> Iterator[list[list[Any]]]:
    """This process's samples of each step from `first_step` on, in `accumulate` equal parts."""
    world, rank, size = fabric.world_size, fabric.global_rank, recipe.batch_size
    if size % (world * recipe.accumulate):
        multiple = f"multiples of {world} processes times accumulate = {recipe.accumulate}"
        raise ValueError(f"batch_size: got {size}, accepted are {multiple}")
    mine = [list(range(n * size, (n + 1) * size))[rank::world] for n in range(first_step, recipe.num_steps)]
    part = size // (world * recipe.accumulate)
    numbers = [of_step[n : n + part] for of_step in mine for n in range(0, len(of_step), part)]
    loader = iter(DataLoader(samples, batch_sampler=numbers, num_workers=num_workers, collate_fn=list))
    for _ in mine:
        yield [next(loader) for _ in range(recipe.accumulate)]


def _names(parts: Sequence[Sequence[Sample]]) -> str:
    return ", ".join(sample.name for part in parts for sample in part)


def _loggers(output: Path) -> list[Any]:
    """CSV always, a new folder each time a run goes on; TensorBoard where it is installed."""
    earlier = len(list(output.glob("log*/")))
    version = f"log-{earlier + 1}" if earlier else "log"
    loggers: list[Any] = [CSVLogger(output.parent, name=output.name, version=version, flush_logs_every_n_steps=20)]
    try:
        loggers.append(TensorBoardLogger(output.parent, name=output.name, version="tensorboard"))
    except ModuleNotFoundError:  # a GPU machine that has no more than torch, numpy, lightning and safetensors
        return loggers
    return loggers
