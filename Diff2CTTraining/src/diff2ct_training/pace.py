"""How far a run has come: by its steps, or by the clock where its recipe gives it minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import torch
from lightning_fabric import Fabric

from diff2ct_training.recipe import Recipe

SAVE_SECONDS = 600.0
"""The most training that a kill may cost."""


class Pace:
    """done: share of the run that is behind it, 0 to 1, the same on every process.

    spent: [s] of training so far, with those before a stop: a part of the run's state. By the clock a run takes as many steps
    as there is time for, so it is not the same twice; by steps it is.
    """

    def __init__(self, recipe: Recipe, fabric: Fabric) -> None:
        self._recipe, self._fabric = recipe, fabric
        self.spent = torch.zeros((), dtype=torch.float64)
        self.done = 0.0

    def start(self, step: int) -> None:
        """Before the first step of this process; `step`: where the run stands, `spent` put back."""
        self._begin = time.monotonic() - float(self.spent)
        self.saved()
        self._update(step)

    def steps(self, first: int) -> Iterator[int]:
        """Numbers of the steps after `first` for which samples may be asked."""
        return count(first + 1) if self._recipe.minutes else iter(range(first + 1, self._recipe.num_steps + 1))

    def tick(self, step: int) -> None:
        """After each step."""
        self.spent.fill_(time.monotonic() - self._begin)
        self._update(step)

    def expected_steps(self, step: int) -> int:
        """Of the whole run, as far as can be told at `step`."""
        return round(step / self.done) if self._recipe.minutes and self.done else self._recipe.num_steps

    def saved(self) -> None:
        """The run's state is on disk."""
        self._last_saved = time.monotonic()

    def save_due(self) -> bool:
        """Is it long since the state was saved? The same on every process."""
        due = time.monotonic() - self._last_saved > SAVE_SECONDS
        return due if self._fabric.world_size == 1 else bool(self._fabric.broadcast(due))

    def _update(self, step: int) -> None:
        if not self._recipe.minutes:
            self.done = min(1.0, step / self._recipe.num_steps)
            return
        share = min(1.0, float(self.spent) / (60 * self._recipe.minutes))
        self.done = share if self._fabric.world_size == 1 else float(self._fabric.broadcast(share))
