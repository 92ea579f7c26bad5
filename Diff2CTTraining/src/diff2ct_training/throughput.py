"""How fast a run goes, and what share of the machine that is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

PEAK_TFLOPS = (
    ("B200", 2250.0, 1125.0),
    ("H200 NVL", 835.5, 417.5),
    ("(H200|GH200)", 989.5, 494.5),
    ("H100 NVL", 835.5, 417.5),
    ("H100 PCIe", 756.0, 378.0),
    ("H100", 989.5, 494.5),
    ("A100", 312.0, 156.0),
    ("L40S", 362.0, 183.0),
    ("L40", 181.0, 90.5),
    ("L4", 121.0, 60.0),
    ("A40", 149.7, 74.8),
    ("A10", 125.0, 62.5),
    ("RTX A6000", 154.8, 77.4),
    ("RTX 4090", 165.2, 82.6),
    ("RTX 3090", 71.0, 35.6),
)
"""(pattern in the name that CUDA tells, bfloat16, TF32), by NVIDIA's data sheets without sparsity, the first that fits.
Lightning's table knows the H200 by no name that a driver tells, gives the H100 NVL's with sparsity and takes an L40S for an
L4."""


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
    """Dense peak of a known GPU in floating point operations per second, of its tensor cores in bfloat16 or TF32, which is what
    torch runs float32 convolutions in; None for others, laptops' and CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    if "laptop" in name.lower():  # less power than the card of that name
        return None
    known = next((peaks for pattern, *peaks in PEAK_TFLOPS if re.search(rf"\b{pattern}\b", name, re.IGNORECASE)), None)
    return None if known is None else 1e12 * known[0 if precision.startswith("bf16") else 1]
