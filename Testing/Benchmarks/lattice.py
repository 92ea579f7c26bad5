"""Do reconstructions show the bricks or patches that their network works in? Blockiness, with the truth's beside it.

    .venv/bin/python Testing/Benchmarks/lattice.py [--phantoms 903 904] [--cts CT.nii.gz ...]

For each axis and period: mean absolute difference of the voxels on both sides of a block's border over the mean of the
differences before and after it, in HU clipped to the window `BODY`. 1.00 is no pattern; neighbours cancel what anatomy
contributes, up to chance, of which the truth tells how much there is. A pattern of one period shows in its multiples as well,
and diluted in its parts. Without data consistency. Prints Markdown, mean of the cases. A minute or two per case on two CPU
cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.metrics import BODY
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct, sample_seed
from diff2ct.volume import CtVolume
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case
from judging import mean_of

PERIODS = (2, 4, 8, 16)
"""Voxels: of the Haar bands and of what the network's levels see as one."""
AXES = ("along the body", "front to back", "across")
"""Of (D, H, W), in words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[903, 904])
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    parser.add_argument("--samples", type=int, nargs="*", default=[1, 4], help="numbers of samples, of which the mean is taken")
    options = parser.parse_args()
    tune_allocator()
    checkpoint, setup = load_checkpoint(), BiplanarSetup()
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for make, whom in ((phantom_case, options.phantoms), (ct_case, options.cts)):
        for one in whom:
            case = make(one, checkpoint.grid, setup)
            volumes = {"truth": case.truth}
            for count in options.samples:
                if count > 1:
                    volumes[f"mean of {count} on one grid"] = mean_on_one_grid(case.radiographs, checkpoint, count)
                name = "one sample" if count == 1 else f"mean of {count}"
                volumes[name] = reconstruct(case.radiographs, checkpoint, num_samples=count, consistency=False).volume
            for name, volume in volumes.items():
                figures = blockiness(volume.hu, case.mask)
                found.setdefault(case.dataset, {}).setdefault(name, []).append(figures)
                print(
                    f"{case.name} {name}: furthest from 1.00 is {figures.flat[np.nanargmax(abs(figures - 1))]:.3f}", flush=True
                )
    for kind, of_volumes in found.items():
        print(f"\n{kind}:\n\n{table(of_volumes)}")


def mean_on_one_grid(radiographs: Sequence[Radiograph], checkpoint: Checkpoint, count: int) -> CtVolume:
    """As without cycle spinning: a single sample is never moved."""
    seeds = [sample_seed(0, n) for n in range(count)]
    samples = [reconstruct(radiographs, checkpoint, seed=seed, consistency=False).volume for seed in seeds]
    return CtVolume(np.mean([sample.hu for sample in samples], axis=0), samples[0].grid)


def blockiness(hu: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(3, 4), axes (k, j, i) by `PERIODS`. hu: (D, H, W), blocks start at voxel 0. mask: voxels to look at; a figure for which
    there are none, or nothing changes beside the borders, is NaN."""
    values = BODY.to_unit(torch.from_numpy(hu)).numpy()
    rows = [[_blockiness(np.moveaxis(values, axis, 0), np.moveaxis(mask, axis, 0), p) for p in PERIODS] for axis in range(3)]
    return np.array(rows)


def _blockiness(values: np.ndarray, mask: np.ndarray, period: int) -> float:
    """Along the first axis. A border counts where the four voxels across it are looked at."""
    steps = abs(np.diff(values, axis=0))
    inside = np.logical_and.reduce([mask[n : len(mask) - 3 + n] for n in range(4)])
    before, across, after = (steps[n : len(steps) - 2 + n] for n in range(3))
    borders = slice(period - 2, None, period)  # across[n] is between voxels n + 1 and n + 2
    counts = inside[borders]
    beside = float((before[borders][counts] + after[borders][counts]).mean(dtype=np.float64)) / 2 if counts.any() else np.nan
    return float(across[borders][counts].mean(dtype=np.float64)) / beside if beside > 0 else np.nan


def table(of_volumes: dict[str, list[np.ndarray]]) -> str:
    """Markdown: a row for each volume and axis, means over the cases."""
    lines = ["| volume | axis | " + " | ".join(f"period {p}" for p in PERIODS) + " |", "|---" * (2 + len(PERIODS)) + "|"]
    for name, of_cases in of_volumes.items():
        for n, axis in enumerate(AXES):
            figures = [mean_of([case[n, p] for case in of_cases]) for p in range(len(PERIODS))]
            lines.append(f"| {name} | {axis} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
