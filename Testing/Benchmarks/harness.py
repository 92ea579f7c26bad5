"""How benchmarks measure and report.

Only ratios within one run count, so contenders take turns, round after round, and the ratio is the median of the rounds'
ratios: what else the machine does then hits both.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Contender = Callable[[], Any]
"""One call of what is measured. A contender that measures itself (another program) returns `Seconds`."""


class Seconds(float):
    """The duration of a contender's call by its own account."""


class Unavailable(Exception):
    """A contender cannot run here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """threads: of torch and OpenMP. rounds: turns of each contender. turn_s: least duration of a turn. clock: "wall", or "cpu",
    the process's own time, for one thread on a machine that is shared. device: "cpu" or "cuda". quick: smallest sizes.
    """

    threads: int
    rounds: int = 7
    turn_s: float = 0.05
    clock: str = "wall"
    device: str = "cpu"
    quick: bool = False

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass
class Section:
    """One table of the report. ratios: what the issue asks for, with the wanted value."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def expect(self, what: str, value: float, wanted: float, *, at_least: bool = True) -> None:
        """A figure beside its target."""
        met = value >= wanted if at_least else value <= wanted
        sign = ">=" if at_least else "<="
        self.ratios.append({"what": what, "measured": value, "wanted": f"{sign} {wanted:g}", "met": bool(met)})

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """A part that is skipped, with its reason in the report, if a peer is not installed."""
        try:
            yield
        except (Unavailable, ImportError) as error:
            self.notes.append(f"{what}: skipped, {str(error).splitlines()[0]}")

    def markdown(self) -> str:
        parts = [f"## {self.title}", *([_table(self.rows)] if self.rows else [])]
        if self.ratios:
            parts.append(_table(self.ratios))
        return "\n\n".join([*parts, *self.notes]) + "\n"


class Timings:
    """Seconds per call of each contender in each round."""

    def __init__(self, wall: Mapping[str, list[float]], cpu: Mapping[str, list[float]], clock: str) -> None:
        self._wall, self._cpu, self._clock = wall, cpu, clock

    def ms(self, name: str) -> float:
        """Median by the chosen clock."""
        return 1e3 * statistics.median(self._of(name))

    def best_ms(self, name: str) -> float:
        return 1e3 * min(self._of(name))

    def ratio(self, slow: str, fast: str) -> float:
        """How many times as long `slow` takes: median over rounds."""
        return statistics.median(s / f for s, f in zip(self._of(slow), self._of(fast), strict=True))

    def _of(self, name: str) -> list[float]:
        return (self._cpu if self._clock == "cpu" else self._wall)[name]


def race(contenders: Mapping[str, Contender], settings: Settings) -> Timings:
    """Let the contenders take turns. A turn is as many calls as fill `turn_s`."""
    calls: dict[str, int] = {}
    for name, contender in contenders.items():
        contender()  # compiles, caches, allocates
        calls[name] = max(1, round(settings.turn_s / max(_turn(contender, 1, settings)[0], 1e-7)))
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(settings.rounds):
        for name, contender in contenders.items():
            of_wall, of_cpu = _turn(contender, calls[name], settings)
            wall[name].append(of_wall)
            cpu[name].append(of_cpu)
    return Timings(wall, cpu, settings.clock)


def _turn(contender: Contender, calls: int, settings: Settings) -> tuple[float, float]:
    """(wall, cpu) seconds per call."""
    gc.collect()
    settings.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    own = [result for result in (contender() for _ in range(calls)) if isinstance(result, Seconds)]
    settings.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return (sum(own) / calls,) * 2 if own else (wall / calls, cpu / calls)


def extra_memory_mb(make: Callable[..., Contender], *arguments: Any) -> float:
    """Peak resident memory [10^6 bytes] that the first call of make(*arguments) adds to a process of its own, on one thread."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(_measure_memory, (make, arguments))
        pool.close()
        pool.join()
    return memory


def extra_gpu_memory_mb(contender: Contender) -> float:
    """Peak that one call adds to what is allocated on the GPU, in 10^6 bytes."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contender()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _measure_memory(make: Callable[..., Contender], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    contender = make(*arguments)
    torch.nn.functional.conv1d(torch.zeros(1, 1, 8), torch.zeros(1, 1, 3))  # wakes the libraries
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    contender()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024 / 1e6


def describe_machine(settings: Settings) -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.partition(":")[::2] for line in info.splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in lines.items()}
    model = values.get("model name", platform.machine())
    return {
        "cpu": f"{model}, family {values.get('cpu family', '?')} model {values.get('model', '?')}",
        "bf16 instructions": "avx512_bf16" in info or "amx_bf16" in info,
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "clock": settings.clock,
        "load at start": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if settings.device == "cuda" else "none",
    }


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows)])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
