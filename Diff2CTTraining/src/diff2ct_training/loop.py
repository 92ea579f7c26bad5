"""The training loop, on Lightning Fabric: one process or many, CPU or GPU, the same lines."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

from diff2ct.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from diff2ct.networks import X2NoiseNet
from diff2ct_training import pictures
from diff2ct_training.acquisitions import Acquisition, acquire_views, acquisition_files, read_acquisition
from diff2ct_training.cases import list_cases, read_case
from diff2ct_training.denoiser import batch_of, denoising_loss, draw_noise
from diff2ct_training.muon import Muon
from diff2ct_training.pairs import Pair, make_pair
from diff2ct_training.recipes import Recipe
from diff2ct_training.training_state import Ema, load_state, save_state

OnStep = Callable[[int, int, float], None]
"""(step, steps in all, loss)."""


def train(
    recipe: Recipe,
    cases_folder: Path,
    output: Path,
    *,
    start_from: Path | None = None,
    fabric: Fabric | None = None,
    num_workers: int = 0,
    on_step: OnStep | None = None,
) -> Path:
    """Train `recipe` on the prepared cases and return the checkpoint file, `output`/checkpoint.safetensors.

    A run that was stopped continues from `output`/state.safetensors with the same samples and noise as if it had not been.
    start_from: checkpoint whose weights the network starts with; its config must be the recipe's.
    Raises ValueError on bad data and FloatingPointError, naming the case, if the loss is not finite.
    """
    fabric = fabric or make_fabric(recipe, output, "cpu")
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    bare = X2NoiseNet(recipe.network).channels_last()
    if start_from is not None:
        bare.load_state_dict(load_checkpoint(start_from).network.state_dict())
    network, *optimizers = fabric.setup(bare, *make_optimizers(bare, recipe))
    ema = Ema(bare, recipe.ema_decay)
    state_file = output / "state.safetensors"
    first = load_state(state_file, bare, ema, optimizers) if state_file.exists() else 0
    (output / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))

    started, stream = time.monotonic(), _batches(recipe, cases_folder, fabric, first, num_workers)
    for step, (batch, names, noise_seeds) in enumerate(stream, start=first + 1):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
        t, eps = draw_noise(noise_seeds, batch, recipe.diffusion.num_timesteps, recipe.time_power)
        terms = denoising_loss(network, batch, t, eps, recipe)
        if not torch.isfinite(terms["loss"]):
            raise FloatingPointError(f"step {step}: the loss is {float(terms['loss'].detach())} on {', '.join(names)}")
        fabric.backward(terms["loss"])
        if recipe.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(bare.parameters(), recipe.gradient_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ema.update(bare, step)

        if fabric.is_global_zero:
            seconds = (time.monotonic() - started) / (step - first)
            values = {name: float(v.detach()) for name, v in terms.items()}
            fabric.log_dict({**values, "learning_rate": learning_rate(recipe, step), "seconds_per_step": seconds}, step=step)
            if step % recipe.save_every == 0 or step == recipe.num_steps:
                save_state(state_file, step, bare, ema, optimizers)
                save_checkpoint(output / "checkpoint.safetensors", _checkpoint(recipe, ema, step, cases_folder, seconds))
            if step % recipe.picture_every == 0:
                pictures.write(output / f"step_{step:06d}.png", bare, ema, batch, t, recipe, fabric.loggers, step)
            if on_step is not None:
                on_step(step, recipe.num_steps, values["loss"])
    for logger in fabric.loggers:
        logger.finalize("success")
    return output / "checkpoint.safetensors"


def make_fabric(recipe: Recipe, output: Path, accelerator: str = "auto", devices: int = 1, num_nodes: int = 1) -> Fabric:
    """Fabric for this machine or this launcher, logging to `output`."""
    precision: Any = recipe.precision
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, precision=precision, loggers=_loggers(output))


def make_optimizers(network: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The recipe's: AdamW for everything, or Muon for matrices and kernels and AdamW for scales, shifts and biases."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)]
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    return [Muon(matrices, lr=rate), torch.optim.AdamW(vectors, lr=rate, weight_decay=0.0)]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then constant or a cosine down to a twentieth at the last step."""
    warm = min(1.0, step / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    if recipe.learning_rate_decay == "constant":
        return recipe.learning_rate * warm
    return recipe.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.num_steps))))


class _Stream(torch.utils.data.Dataset):
    """Item n is training sample n of the run: which case, how X-rayed, with which noise seed. The same whoever asks,
    whenever."""

    def __init__(self, recipe: Recipe, folder: Path, first: int) -> None:
        files = list_cases(folder, "train")
        self._recipe, self._first = recipe, first
        self._by_kind = {kind: [f for f in files if f.name.startswith(kind)] for kind in ("ct", "phantom")}
        stored = {name for name, dot, _ in (f.name.partition(".xray") for f in folder.glob("*.npz")) if dot}
        self._uses = 1 if stored.issuperset(f.stem for f in files) else recipe.uses
        self._kept: tuple[int, Acquisition] | None = None

    def __len__(self) -> int:
        return self._recipe.num_steps * self._recipe.batch_size - self._first

    def __getitem__(self, index: int) -> tuple[Pair, str, int]:
        recipe, n = self._recipe, index + self._first
        acquisition = self._acquire(n // self._uses)
        rng = np.random.default_rng([recipe.seed, 1, n])
        pair = make_pair(acquisition, rng, recipe.slab, recipe.hu_map, recipe.condition)
        return pair, acquisition.case.name, int(rng.integers(2**62))

    def _acquire(self, number: int) -> Acquisition:
        """Acquisition `number` of the run: a stored one of its case, or a new one. The last one is kept, as it is used several
        times in a row."""
        if self._kept is None or self._kept[0] != number:
            recipe = self._recipe
            rng = np.random.default_rng([recipe.seed, 0, number])
            wants_ct = rng.random() < recipe.ct_share
            files = self._by_kind["ct" if wants_ct else "phantom"] or self._by_kind["phantom" if wants_ct else "ct"]
            file = files[int(rng.integers(len(files)))]
            case, stored = read_case(file), acquisition_files(file.parent, file.stem)
            self._kept = (
                number,
                (
                    read_acquisition(stored[int(rng.integers(len(stored)))], case, recipe.grid)
                    if stored
                    else acquire_views(case, rng, recipe.acquisition, recipe.grid)
                ),
            )
        return self._kept[1]


def _batches(
    recipe: Recipe, folder: Path, fabric: Fabric, first_step: int, num_workers: int
) -> Iterator[tuple[Pair, list[str], list[int]]]:
    """(batch, case names, noise seeds) from `first_step` on; each process of several takes its share of each batch."""
    world, rank = fabric.world_size, fabric.global_rank
    if recipe.batch_size % world:
        raise ValueError(f"batch_size: got {recipe.batch_size}, accepted are multiples of the {world} processes")
    stream = _Stream(recipe, folder, first_step * recipe.batch_size)
    per_step = [list(range(s, s + recipe.batch_size)[rank::world]) for s in range(0, len(stream), recipe.batch_size)]
    loader = torch.utils.data.DataLoader(stream, batch_sampler=per_step, num_workers=num_workers, collate_fn=list)
    for items in loader:
        pairs, names, seeds = zip(*items, strict=True)
        yield batch_of(list(pairs), fabric.device), list(names), list(seeds)


def _checkpoint(recipe: Recipe, ema: Ema, step: int, cases_folder: Path, seconds_per_step: float) -> Checkpoint:
    network = X2NoiseNet(recipe.network)
    network.load_state_dict(ema.weights)
    sources = sorted({read_case(f).source for f in list_cases(cases_folder, "train") if f.name.startswith("ct")})
    num_phantoms = sum(f.name.startswith("phantom") for f in list_cases(cases_folder, "train"))
    provenance: dict[str, Any] = {
        "recipe": recipe.name,
        "steps": step,
        "batch_size": recipe.batch_size,
        "seconds_per_step": round(seconds_per_step, 3),
        "phantoms": num_phantoms,
        "cts": sources,
    }
    return Checkpoint(
        network=network,
        network_name="x2noisenet",
        diffusion=recipe.diffusion,
        hu_map=recipe.hu_map,
        condition=recipe.condition,
        grid=recipe.grid,
        provenance=provenance,
    )


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
