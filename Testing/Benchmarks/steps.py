"""Quality against steps: every sampler with 1 to 1000 steps on held-out phantoms and CTs, one sample each; renoise up to 8.

    .venv/bin/python Testing/Benchmarks/steps.py --output steps [--checkpoint FILE] [--steps 1 2 4 8] [--phantoms 900 901]
        [--cts CT.nii.gz ...] [--device cuda --batch 8]

Writes `steps.csv`, a row per reconstruction as soon as it is done, and `steps.md`, the means. The same command goes on where it
was stopped, another one adds to the file: the table has all rows of the checkpoint and cases that are asked for, whichever
command made them, and tells what each keeps of the most steps of ddpm. 250 and 1000 steps take minutes per case on a CPU: the
small counts come first. `--batch N` samples N cases at once, which a GPU wants; each gets the volume that it would get alone,
and the batch's time divided by N.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from diff2ct.atomic import replacing_file
from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.condition import stack_conditions
from diff2ct.diffusion import RENOISE_STEPS, SAMPLERS, SampleNoise, predict_x0, trailing_timesteps
from diff2ct.metrics import evaluate_volume
from diff2ct.precision import cast_once, fastest_arithmetic
from diff2ct.process import best_device, tune_allocator
from diff2ct.reconstruct import condition_of, frontal_and_lateral, grid_around_isocenter, reconstruct, sample_seed
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase, plan_ct, plan_phantom

STEPS = (1, 2, 4, 8, 16, 25, 50, 250, 1000)
METRICS = ("ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "bias_hu_body", "psnr_wide")
KEPT = ("ssim_3d_body", "bone_dice", "metal_dice")
"""Metrics of which the table also tells the share of what the most steps of `REFERENCE` give."""
REFERENCE = "ddpm"


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
        return key_of(vars(self))


def key_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """The key of the run that a row is of."""
    return tuple(str(row[name]) for name in Run.__dataclass_fields__)


def same_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """What the rows of one table share with what is asked for; samplers and counts of steps differ."""
    return tuple(str(row[name]) for name in ("made_by", "case", "seed", "consistency"))


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
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: the fastest here")
    parser.add_argument("--batch", type=int, default=1, help="cases sampled at once; without --consistency")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    tune_allocator()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.batch < 1 or (options.batch > 1 and options.consistency):
        accepted = "1 with --consistency" if options.consistency else "1 or more"
        parser.error(f"--batch: got {options.batch}, accepted is {accepted}")
    device = options.device or best_device()
    checkpoint = load_checkpoint(options.checkpoint, device=device)
    if checkpoint.diffusion is None:
        parser.error(f"--checkpoint: {options.checkpoint} reconstructs in one pass, accepted is a diffusion model")
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "steps.csv"
    setup = BiplanarSetup()
    planned = [plan_phantom(seed, checkpoint.grid, setup) for seed in options.phantoms]
    planned += [plan_ct(path, checkpoint.grid, setup) for path in options.cts]

    where = "" if device == "cpu" else f", on {device}"
    wanted: list[list[tuple[Run, PlannedCase]]] = []
    for num_steps in sorted(options.steps):
        for sampler in options.samplers:
            if sampler == "renoise" and num_steps > RENOISE_STEPS:
                continue
            wanted.append([])
            for case in planned:
                made_by = f"checkpoint {checkpoint.sha256[:16]}, {case.identity}{where}"
                run = Run(made_by, case.dataset, case.name, sampler, num_steps, options.seed, options.consistency)
                wanted[-1].append((run, case))
    rows, made = read(file), {}
    for number, alike in enumerate(wanted, start=1):
        missing = [(run, case) for run, case in alike if run.key() not in rows]
        for first in range(0, len(missing), options.batch):
            runs, cases = zip(*missing[first : first + options.batch], strict=True)
            for case in cases:
                made[case.name] = made.get(case.name) or case.make()
            for row in score(runs, [made[case.name] for case in cases], checkpoint, device):
                rows[key_of(row)] = row
                shown = ", ".join(f"{name} {row[name]:.3f}" for name in METRICS[:3])
                print(f"{number}/{len(wanted)} {row['case']} {row['sampler']} {row['num_steps']}: {shown}", flush=True)
            write(rows, file)
    asked = {same_of(vars(run)) for alike in wanted for run, _ in alike}
    text = report([row for row in rows.values() if same_of(row) in asked])
    (options.output / "steps.md").write_text(text)
    print(text)
    return 0


def score(
    runs: Sequence[Run], cases: Sequence[EvaluationCase], checkpoint: Checkpoint, device: str
) -> list[dict[str, float | str]]:
    """A row for each of several runs that differ in their case only."""
    start = time.perf_counter()
    volumes = (
        sample_together(runs[0], cases, checkpoint, device)
        if len(runs) > 1
        else [sample(runs[0], cases[0], checkpoint, device)]
    )
    seconds = (time.perf_counter() - start) / len(runs)
    rows = []
    for run, case, hu in zip(runs, cases, volumes, strict=True):
        scores = evaluate_volume(*(torch.from_numpy(a) for a in (hu, case.truth.hu, case.mask)))
        rows.append({**vars(run), "seconds": seconds, **{name: scores[name] for name in METRICS}})
    return rows


def sample(run: Run, case: EvaluationCase, checkpoint: Checkpoint, device: str) -> np.ndarray:
    """(D, H, W) HU."""
    result = reconstruct(
        case.radiographs,
        checkpoint,
        num_steps=run.num_steps,
        seed=run.seed,
        sampler=run.sampler,
        consistency=None if run.consistency else False,
        device=device,
    )
    return result.volume.hu


def sample_together(run: Run, cases: Sequence[EvaluationCase], checkpoint: Checkpoint, device: str) -> np.ndarray:
    """(B, D, H, W) HU: what `sample` gives without data consistency, as noise depends on a sample's seed alone."""
    conditions, diffusion, network = [], checkpoint.diffusion, cast_once(checkpoint.network, device)
    for case in cases:
        pair = frontal_and_lateral(case.radiographs)
        grid = grid_around_isocenter(checkpoint.grid, pair)
        conditions.append(condition_of(pair, checkpoint.condition, grid, device)[0])
    noise = SampleNoise([sample_seed(run.seed, 0)] * len(cases), (1, *checkpoint.grid.size), device)
    times = trailing_timesteps(diffusion.num_timesteps, run.num_steps)
    with torch.inference_mode(), fastest_arithmetic(device):
        embedded = network.embed_condition(stack_conditions(conditions, device), checkpoint.grid.size)
        denoiser = predict_x0(lambda x, t: network.denoise(x, t, embedded), diffusion)
        x_0 = SAMPLERS[run.sampler](denoiser, diffusion.alpha_bar, times, noise)
        return checkpoint.hu_map.to_hu(x_0[:, 0].float()).cpu().numpy()


def read(file: Path) -> dict[tuple[str, ...], dict[str, float | str]]:
    """Rows by `Run.key`, in order."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    numbers = ("seconds", *METRICS)
    return {key_of(row): {name: float(value) if name in numbers else value for name, value in row.items()} for row in rows}


def write(rows: dict[tuple[str, ...], dict[str, float | str]], file: Path) -> None:
    with replacing_file(file, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, next(iter(rows.values())))
        writer.writeheader()
        writer.writerows(rows.values())


def report(rows: Sequence[Mapping[str, float | str]]) -> str:
    """Means over cases; where not every case has been run with a count of steps, the row says how many have."""
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_run: dict[tuple[str, int], list[Mapping[str, float | str]]] = {}
        for row in rows:
            if row["dataset"] == dataset:
                of_run.setdefault((str(row["sampler"]), int(row["num_steps"])), []).append(row)
        order = sorted(of_run, key=lambda run: (list(SAMPLERS).index(run[0]), run[1]))
        reference = max((run for run in order if run[0] == REFERENCE), key=lambda run: run[1], default=None)
        kept = [f"{name}, % of {reference[1]} {REFERENCE} steps" for name in KEPT] if reference else []
        columns = ["sampler", "steps", "cases", *METRICS, *kept, "seconds"]
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for sampler, num_steps in order:
            group = of_run[sampler, num_steps]
            mean = means(group)
            cells = [f"{mean[name]:.3f}" if abs(mean[name]) < 10 else f"{mean[name]:.1f}" for name in METRICS]
            shares = shares_of(group, of_run[reference]) if reference else []
            cells = [sampler, f"{num_steps}", f"{len(group)}", *cells, *shares, f"{mean['seconds']:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"{dataset}:\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def shares_of(group: Sequence[Mapping[str, float | str]], reference: Sequence[Mapping[str, float | str]]) -> list[str]:
    """Percent of the reference's `KEPT`, over the cases that both have."""
    cases = {row["case"] for row in group} & {row["case"] for row in reference}
    ours, most = (means([row for row in rows if row["case"] in cases]) for rows in (group, reference))
    return [f"{100 * ours[name] / most[name]:.1f}" if most[name] > 0 and math.isfinite(ours[name]) else "-" for name in KEPT]


def means(rows: Sequence[Mapping[str, float | str]]) -> dict[str, float]:
    """Over cases that have a figure; NaN where none has, such as the metal Dice without metal."""
    found = {}
    for name in (*METRICS, "seconds"):
        values = [float(row[name]) for row in rows if float(row[name]) == float(row[name])]
        found[name] = fmean(values) if values else float("nan")
    return found


if __name__ == "__main__":
    sys.exit(main())
