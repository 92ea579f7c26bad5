"""A network's call as one recorded CUDA graph: a small network is asked for faster than a CPU can start its kernels."""

from __future__ import annotations

import logging
from typing import Protocol

import torch

_log = logging.getLogger(__name__)


class Network(Protocol):
    def __call__(self, x: torch.Tensor, t: torch.Tensor, *known: torch.Tensor) -> torch.Tensor:
        """x: (B, 1, D, H, W). t: (B,). known: what else the network is told about this batch. Returns the shape of x."""
        ...


PAYS_FROM = 32
"""Calls from which recording is worth it: it takes some calls to warm up and empties torch's store of memory. An estimate;
`Testing/Benchmarks/gpu.py` measures both sides of it."""
_WARM_UP_CALLS = 3  # libraries choose their algorithms and allocate


class RecordedNetwork:
    """`network`, recorded at the first call and replayed at each call with x of that shape; as it is for other shapes, and for
    good if recording fails, which the log then says.

    All that `network` reads but its arguments must stay where it is. Call it in one inference mode and autocast context.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._given_up = False

    def __call__(self, x: torch.Tensor, t: torch.Tensor, *known: torch.Tensor) -> torch.Tensor:
        given = (x, t, *known)
        if self._graph is None and not self._given_up:
            try:
                self._record(given)
            except RuntimeError as error:
                self._given_up, self._inputs = True, ()
                _log.warning("no CUDA graph, sampling goes on without: %s", str(error).strip().split("\n")[0])
        if self._graph is None or x.shape != self._inputs[0].shape:
            return self._network(*given)
        for kept, new in zip(self._inputs, given, strict=True):
            kept.copy_(new)
        self._graph.replay()
        return self._y.clone()  # the next call overwrites it

    def _record(self, given: tuple[torch.Tensor, ...]) -> None:
        self._inputs = tuple(tensor.clone() for tensor in given)
        with torch.cuda.device(given[0].device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):  # the stream that records must have been used before
                for _ in range(_WARM_UP_CALLS):
                    self._network(*self._inputs)
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self._y = self._network(*self._inputs)
        self._graph = graph
