"""Whether bfloat16 pays on this machine: asked by trying, since CPUs differ by a factor of six and no flag tells."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)
_CAST_BY_AUTOCAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ENOUGH_S, _ENOUGH_CALLS = 0.1, 10  # in one arithmetic: an emulated one is not asked for again, a fast one is timed well
_FIRST_WITH_BF16 = (8, 0)  # compute capability, Ampere; torch calls older GPUs able too, but they emulate it slowly


@lru_cache(maxsize=4)
def fastest_dtype(device: str) -> torch.dtype:
    """bfloat16 or float32, whichever runs a convolution of the network's size faster on `device`; asked once, which takes 0.2 s
    and well below 1 s even where the CPU has to emulate bfloat16, four to ten times slower."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= _FIRST_WITH_BF16 else torch.float32
    if kind != "cpu":
        return torch.float32
    seconds = {dtype: _seconds_of_convolution(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def fastest_arithmetic(device: str) -> AbstractContextManager[Any]:
    """The context in which a network runs in `fastest_dtype`."""
    if fastest_dtype(device) == torch.float32:
        return nullcontext()  # torch.autocast to float32 would only warn
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def cast_once(network: NetworkT, device: str) -> NetworkT:
    """`network` for many calls in `fastest_arithmetic`: autocast would cast the weights of every layer anew at each call, here
    they are cast already. Same results; what is not cast is shared, and where float32 is fastest it is `network` itself."""
    dtype = fastest_dtype(device)
    if dtype == torch.float32:
        return network
    copies: dict[int, Any] = {}
    for layer in network.modules():
        for parameter in layer.parameters(recurse=False):
            cast = isinstance(layer, _CAST_BY_AUTOCAST)
            copies[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False) if cast else parameter
    return deepcopy(network, copies)


def _probe(dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    """A layer and what it is given. One float32 sample of no more than 20480 rows (channels times planes times rows) torch
    leaves to a kernel up to seven times slower than that of the network's large layers: then even an emulated bfloat16 seems
    fast."""
    layer = nn.Conv3d(32, 32, 3, padding=1).to(dtype)
    return layer, torch.zeros(1, 32, 32, 32, 32, dtype=dtype).to(memory_format=torch.channels_last_3d)


@torch.no_grad()
def _seconds_of_convolution(dtype: torch.dtype) -> float:
    layer, x = _probe(dtype)
    layer(x[..., :3, :3, :3])  # the first call also prepares
    times: list[float] = []
    while len(times) < _ENOUGH_CALLS and sum(times) < _ENOUGH_S:
        start = time.perf_counter()
        layer(x)
        times.append(time.perf_counter() - start)
    return min(times)
