"""Cold start: what passes between the start of the worker's process and its first step."""

from __future__ import annotations

import statistics
import subprocess
import sys

from child import run_worker
from harness import Section, Settings

_IMPORTS = ("numpy", "torch", "diff2ct.geometry", "diff2ct.radiograph", "diff2ct.checkpoint", "diff2ct.reconstruct")
_TIMED = "import time; w, c = time.perf_counter(), time.process_time(); import {0}; print({1})"
_CLOCKS = {"wall": "time.perf_counter() - w", "cpu": "time.process_time() - c"}


def measure(settings: Settings) -> Section:
    section = Section("Cold start")
    for name in _IMPORTS:
        seconds = statistics.median(_import_seconds(name, settings.clock) for _ in range(3))
        section.rows.append({"what": f"import {name}", "s": seconds})
    runs = [run_worker(settings, steps=1)["marks"] for _ in range(3)]
    for mark, what in (("reading", "reading begins"), ("sampling", "sampling begins"), ("progress", "first step done")):
        at = statistics.median(next(t for name, t in marks if name == mark) for marks in runs)
        section.rows.append({"what": f"process start until {what}", "s": at})
    first_step = section.rows[-2]["s"]
    section.expect("process start until the first step begins [s]", first_step, 3, at_least=False)
    return section


def _import_seconds(name: str, clock: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(name, _CLOCKS[clock])], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
