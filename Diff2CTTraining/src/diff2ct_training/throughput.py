"""How fast a run goes, and what share of the machine that is."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode


class Throughput:
    """Counts the arithmetic of the first step and the time of all.

    peak_flops: of the device in the run's precision, None where it is not known: then there is no MFU.
    """

    def __init__(self, samples_per_step: int, peak_flops: float | None = None) -> None:
        self._samples_per_step, self._peak_flops = samples_per_step, peak_flops
        self._started, self._steps = time.monotonic(), 0
        self._flops: int | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around the forward and backward passes of each step."""
        counter = FlopCounterMode(display=False) if self._flops is None else None
        with counter or nullcontext():
            yield
        if counter is not None:
            self._flops = counter.get_total_flops()
        self._steps += 1

    @property
    def seconds_per_step(self) -> float:
        """From one step to the next, with data, saving and pictures."""
        return (time.monotonic() - self._started) / max(1, self._steps)

    def values(self) -> dict[str, float]:
        """For the log. tflop_per_second and mfu (model FLOP utilisation) are of this process. Convolutions and matrix products
        count, forward and backward; what activation checkpointing computes twice counts twice."""
        seconds = self.seconds_per_step
        values = {"seconds_per_step": seconds, "samples_per_second": self._samples_per_step / seconds}
        if self._flops:
            values["tflop_per_second"] = self._flops / seconds / 1e12
            if self._peak_flops:
                values["mfu"] = self._flops / seconds / self._peak_flops
        return values


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Dense peak of a known GPU in floating point operations per second; None for others and for CPUs."""
    from lightning_fabric.utilities.throughput import get_available_flops

    dtype = {"bf16": torch.bfloat16, "16": torch.float16}.get(precision.partition("-")[0], torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about GPUs that it does not know
        try:
            return get_available_flops(device, dtype)
        except IndexError:  # it expects "NVIDIA GeForce RTX ...", and drivers before 2021 leave out the first word
            return None
