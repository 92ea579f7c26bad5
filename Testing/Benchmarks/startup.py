"""Cold start: what passes between the start of the worker's process and its first step."""

from __future__ import annotations

import statistics
import subprocess
import sys

from child import run_worker
from harness import Section, Settings

_IMPORTS = ("numpy", "torch", "diff2ct.geometry", "diff2ct.radiograph", "diff2ct.checkpoint", "diff2ct.reconstruct")
_TIMED = "{0}; import time; w, c = time.perf_counter(), time.process_time(); {1}; print({2})"
_PREPARE, _LOAD = "from diff2ct.checkpoint import load_checkpoint", "load_checkpoint()"
_CLOCKS = {"wall": "time.perf_counter() - w", "cpu": "time.process_time() - c"}


def measure(settings: Settings) -> Section:
    section = Section("Cold start")
    for name in _IMPORTS:
        section.rows.append({"what": f"import {name}", "s": _seconds("pass", f"import {name}", settings.clock)})
    section.rows.append({"what": "load the embedded checkpoint", "s": _seconds(_PREPARE, _LOAD, settings.clock)})
    runs = [run_worker(settings, steps=1)["marks"] for _ in range(3)]
    for mark, what in (("reading", "reading begins"), ("sampling", "sampling begins"), ("progress", "first step done")):
        at = statistics.median(next(t for name, t in marks if name == mark) for marks in runs)
        section.rows.append({"what": f"process start until {what}", "s": at})
    first_step = section.rows[-2]["s"]
    section.expect("process start until sampling begins [s]", first_step, 3, at_least=False)
    return section


def _seconds(first: str, timed: str, clock: str) -> float:
    """Median of three processes."""
    command = [sys.executable, "-c", _TIMED.format(first, timed, _CLOCKS[clock])]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
    )
