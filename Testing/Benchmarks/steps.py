"""Quality against steps: every sampler with 1 to 1000 steps on held-out phantoms and CTs, one sample each.

    .venv/bin/python Testing/Benchmarks/steps.py --output steps [--checkpoint FILE] [--steps 1 2 4 8] [--phantoms 900 901]
        [--cts CT.nii.gz ...]

Writes `steps.csv`, a row per reconstruction as soon as it is done, and `steps.md`, the means. The same command goes on where it
was stopped, another one adds to the file; rows of another checkpoint stay, but are not in the table. 250 and 1000 steps take
minutes per case on a CPU: the small counts come first.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from diff2ct.atomic import replacing_file
from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.diffusion import SAMPLERS
from diff2ct.metrics import evaluate_volume
from diff2ct.process import best_device, tune_allocator
from diff2ct.reconstruct import reconstruct
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase, plan_ct, plan_phantom

STEPS = (1, 2, 4, 8, 16, 25, 50, 250, 1000)
METRICS = ("ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "bias_hu_body", "psnr_wide")
KEPT = ("ssim_3d_body", "bone_dice")
"""Metrics of which the table also tells the share of what the most steps give."""


@dataclass(frozen=True)
class Run:
    """What decides a row."""

    made_by: str
    dataset: str
    case: str
    sampler: str
    num_steps: int
    seed: int
    consistency: bool

    def key(self) -> tuple[str, ...]:
        return tuple(str(value) for value in vars(self).values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("steps"))
    parser.add_argument("--checkpoint", type=Path, help="default: the embedded one")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=tuple(SAMPLERS))
    parser.add_argument("--phantoms", type=int, nargs="*", default=(903, 904, 905), help="seeds; training starts at 10000")
    parser.add_argument("--cts", type=Path, nargs="*", default=(), help="never trained on")
    parser.add_argument("--consistency", action="store_true", help="move the volumes toward the X-rays, the default elsewhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    tune_allocator()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = best_device()
    checkpoint = load_checkpoint(options.checkpoint, device=device)
    if checkpoint.diffusion is None:
        parser.error(f"--checkpoint: {options.checkpoint} reconstructs in one pass, accepted is a diffusion model")
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "steps.csv"
    setup = BiplanarSetup()
    planned = [plan_phantom(seed, checkpoint.grid, setup) for seed in options.phantoms]
    planned += [plan_ct(path, checkpoint.grid, setup) for path in options.cts]

    wanted: list[tuple[Run, PlannedCase]] = []
    for num_steps in sorted(options.steps):
        for case in planned:
            made_by = f"checkpoint {checkpoint.sha256[:16]}, {case.identity}"
            for sampler in options.samplers:
                run = Run(made_by, case.dataset, case.name, sampler, num_steps, options.seed, options.consistency)
                wanted.append((run, case))
    rows, made = read(file), {}
    for number, (run, case) in enumerate(wanted, start=1):
        if run.key() not in rows:
            made[case.name] = made.get(case.name) or case.make()
            rows[run.key()] = score(run, made[case.name], checkpoint, device)
            write(rows, file)
            shown = ", ".join(f"{name} {rows[run.key()][name]:.3f}" for name in METRICS[:3])
            print(f"{number}/{len(wanted)} {run.case} {run.sampler} {run.num_steps}: {shown}", flush=True)
    text = report([rows[run.key()] for run, _ in wanted])
    (options.output / "steps.md").write_text(text)
    print(text)
    return 0


def score(run: Run, case: EvaluationCase, checkpoint: Checkpoint, device: str) -> dict[str, float | str]:
    start = time.perf_counter()
    result = reconstruct(
        case.radiographs,
        checkpoint,
        num_steps=run.num_steps,
        seed=run.seed,
        sampler=run.sampler,
        consistency=None if run.consistency else False,
        device=device,
    )
    seconds = time.perf_counter() - start
    scores = evaluate_volume(*(torch.from_numpy(a) for a in (result.volume.hu, case.truth.hu, case.mask)))
    return {**vars(run), "seconds": seconds, **{name: scores[name] for name in METRICS}}


def read(file: Path) -> dict[tuple[str, ...], dict[str, float | str]]:
    """Rows by `Run.key`, in order."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    numbers = ("seconds", *METRICS)
    return {
        tuple(row[name] for name in Run.__dataclass_fields__): {
            name: float(value) if name in numbers else value for name, value in row.items()
        }
        for row in rows
    }


def write(rows: dict[tuple[str, ...], dict[str, float | str]], file: Path) -> None:
    with replacing_file(file, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, next(iter(rows.values())))
        writer.writeheader()
        writer.writerows(rows.values())


def report(rows: list[dict[str, float | str]]) -> str:
    """Means over cases; where not every case has been run with a count of steps, the row says how many have."""
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        columns = ["sampler", "steps", "cases", *METRICS, *(f"{name}, % of the most steps" for name in KEPT), "seconds"]
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for sampler in dict.fromkeys(row["sampler"] for row in rows):
            group = [row for row in rows if row["dataset"] == dataset and row["sampler"] == sampler]
            counts = sorted({float(row["num_steps"]) for row in group})
            most = means([row for row in group if float(row["num_steps"]) == counts[-1]])
            for count in counts:
                of_count = [row for row in group if float(row["num_steps"]) == count]
                mean = means(of_count)
                shares = [f"{100 * mean[name] / most[name]:.1f}" if most[name] else "-" for name in KEPT]
                cells = [f"{mean[name]:.3f}" if abs(mean[name]) < 10 else f"{mean[name]:.1f}" for name in METRICS]
                shown = [sampler, f"{count:.0f}", len(of_count), *cells, *shares, f"{mean['seconds']:.1f}"]
                lines.append("| " + " | ".join(map(str, shown)) + " |")
        parts.append(f"{dataset}:\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def means(rows: list[dict[str, float | str]]) -> dict[str, float]:
    """Over cases that have a figure; NaN where none has, such as the metal Dice without metal."""
    found = {}
    for name in (*METRICS, "seconds"):
        values = [float(row[name]) for row in rows if float(row[name]) == float(row[name])]
        found[name] = fmean(values) if values else float("nan")
    return found


if __name__ == "__main__":
    sys.exit(main())
