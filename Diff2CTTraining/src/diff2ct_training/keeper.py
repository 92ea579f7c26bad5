"""What a run leaves on disk: the state to go on from, the last and the best checkpoint, and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from diff2ct_training.method import Method, Sample, bare
from diff2ct_training.pictures import write_picture
from diff2ct_training.recipe import Recipe
from diff2ct_training.sharding import whole
from diff2ct_training.training_state import Ema, TrainingState

LAST, BEST = "checkpoint", "best"


class Keeper:
    """validation: samples to find the best checkpoint by, none to keep only the last. extra: tensors of the run that are saved
    with it and put back in place, beside the method's own. lineage: what a checkpoint says of those before it; a run that goes
    on keeps its own.

    Every process calls every function, as their networks may be shared out among them; only the first one writes.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method[Any, Any],
        optimizers: Sequence[torch.optim.Optimizer],
        output: Path,
        validation: Sequence[Sample] = (),
        extra: Mapping[str, torch.Tensor] | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        self._recipe, self._method, self._output, self._validation = recipe, method, output, validation
        self._networks = {name: bare(network) for name, network in method.networks.items()}
        self._emas = {name: Ema(self._networks[name], recipe.ema_decay) for name in method.averaged}
        self._best_score = torch.tensor(math.inf)
        also = {**method.state, "best_score": self._best_score, **(extra or {})}
        self._lineage = dict(lineage or {})
        self._state = TrainingState(recipe, self._networks, self._emas, optimizers, also, self._lineage)
        self._state_file = output / "state.safetensors"

    @property
    def _fabric(self) -> Fabric:
        return self._method.fabric

    def resume(self) -> int:
        """The step that the run had come to, 0 for a new one; networks, optimisers and averages are put back."""
        return self._state.load(self._state_file) if self._state_file.exists() else 0

    def average(self, step: int) -> None:
        for name, ema in self._emas.items():
            ema.update(self._networks[name], step)

    def save(self, step: int, seconds_per_step: float) -> dict[str, float]:
        """Write the checkpoint, and again as the best one if it is; then the state. Returns scores for the log."""
        provenance = {
            "recipe": self._recipe.name,
            "steps": step,
            "batch_size": self._recipe.batch_size,
            "seconds_per_step": round(seconds_per_step, 3),
            **self._lineage,
        }
        stems, scores = [LAST], {}
        if self._validation:
            score = scores["validation"] = self._score()
            provenance["validation"] = round(score, 3)
            if score < float(self._best_score):
                self._best_score.fill_(score)
                stems.append(BEST)
        weights = {name: {key: whole(t) for key, t in ema.weights.items()} for name, ema in self._emas.items()}
        if self._fabric.is_global_zero:
            for stem in stems:
                self._method.write_checkpoint(self._output, stem, weights, provenance)
        self.save_state(step)
        return scores

    def save_state(self, step: int) -> None:
        """Write what the run goes on from, and nothing else."""
        self._state.save(self._state_file, step, write=self._fabric.is_global_zero)

    def picture(self, step: int, sample: Sample) -> None:
        """Write what the averaged networks make of a training sample."""
        with self._averaged():
            sheet = self._method.picture(self._method.collate([sample], self._fabric.device))
        if sheet is not None and self._fabric.is_global_zero:
            write_picture(self._output / f"step_{step:06d}.png", sheet, self._fabric.loggers, step)

    def _score(self) -> float:
        with self._averaged():
            batches = (self._method.collate([sample], self._fabric.device) for sample in self._validation)
            return sum(map(self._method.score, batches)) / len(self._validation)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The networks with their averaged weights, to look and not to learn. The step's random numbers stay as they are."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(self._fabric.autocast())
            for name, ema in self._emas.items():
                stack.enter_context(ema.swapped_in(self._networks[name]))
            yield
