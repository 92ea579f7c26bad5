"""The training loop, on Lightning Fabric: any method, one process or many, CPU or GPU, the same lines."""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, TensorBoardLogger
from lightning_fabric.strategies import ModelParallelStrategy
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from diff2ct.atomic import replacing_file
from diff2ct_training.keeper import Keeper
from diff2ct_training.lineage import STARTED_FROM
from diff2ct_training.method import Method, Sample, bare
from diff2ct_training.pace import Pace
from diff2ct_training.recipe import Recipe
from diff2ct_training.sharding import sharded_strategy, whole
from diff2ct_training.throughput import Throughput, peak_flops

OnStep = Callable[[int, int, float], None]
"""(step, steps in all, loss)."""

_OPEN_FILES = 8192  # macOS refuses much more


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

    A run that was stopped continues from `output`/state.safetensors with the same samples and noise as if it had not been; one
    that has minutes goes on with those that are left.
    start_from: checkpoint whose weights the networks start with; its config must be the recipe's.
    validation: folder of data that is not trained on: the checkpoint that scores best on it is kept beside the last one.
    Raises ValueError on bad data and FloatingPointError, naming the samples, if a loss or gradient is not finite.
    """
    fabric = fabric or make_fabric(recipe, output, "cpu")
    if fabric.world_size > 1:
        atexit.register(_leave_group)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    method = recipe.method()
    samples = method.samples(data)
    judges = method.validation_samples(validation) if validation is not None else ()
    lineage = {} if start_from is None else {STARTED_FROM: method.load_checkpoint(start_from)}
    if isinstance(fabric.strategy, ModelParallelStrategy) and len(method.networks) > 1:
        raise ValueError(f"strategy: got 'fsdp', accepted is 'ddp' for the {len(method.networks)} networks of {recipe.name!r}")
    method.fabric = fabric
    method.networks = {name: fabric.setup_module(network) for name, network in method.networks.items()}
    networks = [bare(network) for network in method.networks.values()]
    optimizers = method.configure_optimizers()
    pace = Pace(recipe, fabric)
    keeper = Keeper(recipe, method, optimizers, output, judges, {"spent": pace.spent}, lineage)
    first = keeper.resume()
    if fabric.is_global_zero:
        with replacing_file(output / "recipe.json", overwrite=True) as temporary:
            temporary.write_text(recipe.to_json())

    throughput = Throughput(recipe.batch_size, peak_flops(fabric.device, recipe.precision))
    batches = _batches(recipe, method, samples, pace.steps(first), num_workers)
    pace.start(first)
    step, batch = first, next(batches, None)
    while batch is not None and pace.done < 1:
        step += 1
        rate = learning_rate(recipe, step, pace.done)
        torch.manual_seed(_seed_of(recipe, step, fabric.global_rank))
        with throughput.step():
            terms = _accumulate_gradients(method, batch.parts)
        terms["gradient_norm"] = _clip_gradients(networks, recipe.gradient_clip)
        following = next(batches, None)  # made while the device computes
        values = _numbers(terms, fabric)
        _check_finite(values, terms, step, batch.names, fabric)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        keeper.average(step)
        pace.tick(step)

        if step % recipe.save_every == 0 or pace.done == 1:
            values |= keeper.save(step, throughput.seconds_per_step)
            pace.saved()
        elif pace.save_due():  # a step may take a minute
            keeper.save_state(step)
            pace.saved()
        if step % recipe.picture_every == 0:
            keeper.picture(step, batch.first)
        fabric.log_dict({**values, "learning_rate": rate, **throughput.values()}, step=step)
        if on_step is not None and fabric.is_global_zero:
            on_step(step, pace.expected_steps(step), values["loss"])
        batch = following
    for logger in fabric.loggers:
        logger.finalize("success")
    return output


def _leave_group() -> None:
    """Lightning does so for NCCL alone; a process that ends while threads of Gloo still run may abort instead."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


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


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then as `Recipe.learning_rate_decay` says; done: share of the run, 0 to 1."""
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


def _accumulate_gradients(method: Method[Any, Any], parts: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Forward and backward passes of one step; processes add up their gradients in the last part only. Returns the means of
    the logged terms over all parts, still on the device."""
    fabric = method.fabric

    def backward(loss: torch.Tensor) -> None:
        with torch.autocast(fabric.device.type, enabled=False):
            fabric.backward(loss / len(parts))

    sums: dict[str, torch.Tensor] = {}
    for n, part in enumerate(parts, start=1):
        with ExitStack() as stack:
            for network in method.networks.values():
                assert isinstance(network, _FabricModule)
                stack.enter_context(fabric.no_backward_sync(network, enabled=n < len(parts)))
            stack.enter_context(fabric.autocast())
            terms = method.training_step(part, backward)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.detach().float() / len(parts)
    return sums


def _clip_gradients(networks: Iterable[nn.Module], limit: float) -> torch.Tensor:
    """Scale the gradients of each network down to the norm `limit`, 0 for none; returns the norm of all before."""
    norms = [whole(nn.utils.clip_grad_norm_(network.parameters(), limit or math.inf)) for network in networks]
    return torch.stack([norm.float() for norm in norms]).norm()


def _numbers(terms: Mapping[str, torch.Tensor], fabric: Fabric) -> dict[str, float]:
    """Means over all processes. The one moment of a step in which the device is waited for."""
    values = torch.stack(list(terms.values()))
    if fabric.world_size > 1:
        reduced: Any = fabric.all_reduce(values)
        values = reduced
    return dict(zip(terms, values.tolist(), strict=True))


def _check_finite(
    values: Mapping[str, float], terms: Mapping[str, torch.Tensor], step: int, names: str, fabric: Fabric
) -> None:
    """Before the weights change. values: the same on every process; terms, names: of this one, whose samples are named if it
    is its own terms that are not finite, or if nobody's are but the gradient is."""
    for name, value in values.items():
        if not math.isfinite(value):
            own = all(bool(term.isfinite()) for key, term in terms.items() if key != "gradient_norm")
            told: list[Any] = [(own, names)]
            if fabric.world_size > 1:
                told = [None] * fabric.world_size
                torch.distributed.all_gather_object(told, (own, names))
            to_blame = [of for finite, of in told if not finite] or [of for _, of in told]
            what = "the gradient is not finite" if name == "gradient_norm" else f"{name} is {value}"
            raise FloatingPointError(f"step {step}: {what} on {', '.join(to_blame)}")


@dataclass(frozen=True, eq=False)
class _Batch:
    """What one step takes, on the device, in `accumulate` parts. first: a sample of it, for pictures. names: of all, for
    messages."""

    parts: list[Any]
    first: Sample
    names: str


def _batches(
    recipe: Recipe, method: Method[Any, Any], samples: Dataset[Any], steps: Iterator[int], num_workers: int
) -> Iterator[_Batch]:
    """This process's share of the samples of each of `steps`."""
    fabric, size = method.fabric, recipe.batch_size
    world, rank = fabric.world_size, fabric.global_rank
    if size % (world * recipe.accumulate):
        multiple = f"multiples of {world} processes times accumulate = {recipe.accumulate}"
        raise ValueError(f"batch_size: got {size}, accepted are {multiple}")
    part = size // (world * recipe.accumulate)
    numbers = _SampleNumbers(steps, size, rank, world, part)
    if num_workers:
        _allow_open_files()
    loader = iter(DataLoader(samples, batch_sampler=numbers, num_workers=num_workers, collate_fn=list))
    while True:
        lists = list(islice(loader, recipe.accumulate))
        if not lists:
            return
        names = ", ".join(sample.name for of_part in lists for sample in of_part)
        yield _Batch([method.collate(of_part, fabric.device) for of_part in lists], lists[0][0], names)


class _SampleNumbers(Sampler[list[int]]):
    """Numbers of the samples of each part of each of `steps`."""

    def __init__(self, steps: Iterator[int], size: int, rank: int, world: int, part: int) -> None:
        self._steps, self._size, self._rank, self._world, self._part = steps, size, rank, world, part

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            mine = list(range((step - 1) * self._size, step * self._size))[self._rank :: self._world]
            for n in range(0, len(mine), self._part):
                yield mine[n : n + self._part]


def _allow_open_files() -> None:
    """Worker processes hand samples over as open files: more than the 1024 that shells allow."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
