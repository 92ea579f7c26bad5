"""The worker as a user's computer runs it: a process of its own, watched from its start to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diff2ct.radiograph import write_radiograph
from diff2ct.sample_case import sample_case
from harness import Settings


@lru_cache
def _sample_folder() -> TemporaryDirectory:
    """A folder with the sample case's radiographs; it goes with the process."""
    folder = TemporaryDirectory(prefix="diff2ct-benchmark-")
    for radiograph, name in zip(sample_case()[0], ("ap", "lateral"), strict=True):
        write_radiograph(radiograph, Path(folder.name) / f"{name}.npy")
    return folder


def run_worker(settings: Settings, **request: Any) -> dict[str, Any]:
    """The worker's "done" event, and {"marks": [(event, seconds)]} since its process began, by the clock of `settings`."""
    folder = Path(_sample_folder().name)
    request = {
        "ap": str(folder / "ap.npy"),
        "lateral": str(folder / "lateral.npy"),
        "output": str(folder / "ct.nrrd"),
        "overwrite": True,
        "compress": False,
        "device": settings.device,
        **request,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}
    start = time.perf_counter()
    command = [sys.executable, "-m", "diff2ct.worker"]
    marks = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        for line in worker.stdout:
            event = json.loads(line)
            passed = _cpu_seconds(worker.pid) if settings.clock == "cpu" else time.perf_counter() - start
            marks.append((event.get("name", event["event"]), passed))
            if event["event"] == "error":
                raise RuntimeError(event["message"])
            if event["event"] == "done":
                break  # closes its standard input, which ends it
    return {**event, "marks": marks}


def _cpu_seconds(pid: int) -> float:
    """User and system time of a running process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
