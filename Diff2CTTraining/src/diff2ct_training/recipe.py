"""What every training run states, whatever it trains."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diff2ct_training.method import Method

DECAYS = ("cosine", "linear", "constant")
PRECISIONS = ("bf16-mixed", "32-true")
MAY_CHANGE = (
    "num_steps", "minutes", "save_every", "picture_every", "accumulate", "activation_checkpointing", "films",
)  # fmt: skip
"""Of a run that goes on: how long it is, what it leaves, how much memory it takes, where its data lie."""


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """num_steps: optimiser steps. minutes: train as long as this instead, with as many steps as there is time for, the learning
    rate by the clock: how methods are compared at equal time.
    batch_size: samples per step, over all processes. accumulate: parts that a process takes its share of a batch in, one after
        the other: less memory, the same step.

    learning_rate: after `warmup_steps`. learning_rate_decay: "cosine" falls to a twentieth, "linear" stays for half of the run
        and then falls to zero, "constant" stays.
    ema_decay: of the weights that a checkpoint holds; 0 holds the last ones. gradient_clip: greatest norm, 0 for none.
    activation_checkpointing: compute activations again instead of keeping them: less memory, a third more time.
    save_every, picture_every: in steps.
    """

    name: str
    num_steps: int = 20_000
    minutes: float | None = None
    batch_size: int = 1
    accumulate: int = 1
    learning_rate: float = 3e-4
    learning_rate_decay: str = "cosine"
    warmup_steps: int = 200
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    activation_checkpointing: bool = False
    precision: str = "bf16-mixed"
    seed: int = 0
    save_every: int = 500
    picture_every: int = 1000

    def __post_init__(self) -> None:
        if self.learning_rate_decay not in DECAYS:
            raise ValueError(f"learning_rate_decay: got {self.learning_rate_decay!r}, accepted are {', '.join(DECAYS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: got {self.precision!r}, accepted are {', '.join(PRECISIONS)}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes: got {self.minutes}, accepted is more than 0")
        for name in ("num_steps", "batch_size", "accumulate", "save_every", "picture_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is 1 or more")

    @abstractmethod
    def method(self) -> Method:
        """What this recipe trains, with fresh weights from torch's current seed."""

    def to_json(self) -> str:
        """All fields, those of network and the like too."""
        return json.dumps(asdict(self), indent=1)

    def check_goes_on(self, started: str) -> None:
        """ValueError with the field if a run of the recipe `started`, as `to_json` wrote it, cannot go on as this one. A field
        that only one of the two has, as other versions may, does not count."""
        was = dict(_leaves(json.loads(started)))
        for name, value in _leaves(json.loads(self.to_json())):
            if name not in MAY_CHANGE and was.get(name, value) != value:
                raise ValueError(f"{name} is {value!r}, the run was started with {was[name]!r}")


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of what is inside, e.g. of network.widths."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
