"""All benchmarks, one report. Start it through Testing/run_benchmarks.py, which installs what it needs."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from diff2ct_training.parallel import usable_threads

SECTIONS = ("machine", "projection", "metrics", "denoising", "reconstruction", "scaling", "startup")
HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks"), help="folder for report.md and report.json")
    parser.add_argument("--threads", type=int, default=usable_threads(), help="default: all that this may use")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each contender takes")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu with --threads 1 on a shared machine")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: to see that it runs")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu: threads that wait for each other use CPU time, so it needs --threads 1")

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    sys.path.insert(0, str(HERE.parent))  # phantoms.py, which the tests use too
    from diff2ct.process import tune_allocator

    tune_allocator()
    import torch

    from harness import Section, Settings, describe_machine

    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(threads=options.threads, rounds=options.rounds, clock=options.clock, device=device, quick=options.quick)
    machine = describe_machine(settings)
    sections, has_failed = [], False
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        start = time.monotonic()
        try:
            section = importlib.import_module(name).measure(settings)
        except Exception as error:  # of memory on a small GPU, for one: the other parts are still to be measured
            section = Section(f"{name}: failed, {type(error).__name__}", notes=[str(error)[:2000]])
            has_failed = True
        section.notes.append(
            f"This part took {time.monotonic() - start:.0f} s, load average at its end {os.getloadavg()[0]:.1f}."
        )
        print(section.markdown(), flush=True)
        sections.append(section)
        _write(options.output, machine, sections)
    return int(has_failed)


def _write(folder: Path, machine: dict, sections: list) -> None:
    """After each section, so that an interrupted run leaves what it has."""
    heading = "# Benchmarks\n\n" + "\n".join(f"- {name}: {value}" for name, value in machine.items())
    (folder / "report.md").write_text("\n\n".join([heading, *(section.markdown() for section in sections)]))
    (folder / "report.json").write_text(json.dumps({"machine": machine, "sections": [asdict(s) for s in sections]}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
