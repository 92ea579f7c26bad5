"""Cases x methods -> per-case CSV, summary tables and figures. Phantoms and real CTs are separate datasets and never
averaged together.

Every method gets the same radiographs, rendered from the whole body or scan; every score is taken on the model grid, and for
real CTs only where the scan has data. Phantom seeds 0..999 are for evaluation, the training's start at 10000.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.metrics import body_mask, evaluate_volume
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import grid_around_isocenter, reconstruct
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training import baselines
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.prepare import body_center
from diff2ct_training.tables import Row, compare, markdown_table, summarize, write_rows

EVALUATION_SEEDS = range(1000)
FIRST_TRAINING_SEED = 10_000
HEADLINE_METRICS = ("ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "bias_hu_body")
"""Inside the body, where it counts."""
WIDE_METRICS = ("ssim_3d_wide", "psnr_wide", "mae_wide", "ssim_2d_x2ct", "psnr_x2ct", "bias_hu_whole", "seconds")
"""Whole volume, as other papers report; a body filled with water already scores high."""
CASES_IN_FIGURE = 3


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """One patient. truth: on the model grid. mask: (D, H, W) bool, where the truth is known."""

    dataset: str
    name: str
    radiographs: tuple[Radiograph, Radiograph]
    truth: CtVolume
    mask: np.ndarray

    @property
    def grid(self) -> VolumeGrid:
        return self.truth.grid


Method = Callable[[EvaluationCase], np.ndarray]
"""A case's radiographs -> HU (D, H, W) on its grid. Only oracles look at the truth."""


def phantom_case(seed: int, model_grid: VolumeGrid, setup: BiplanarSetup, *, body_spacing_mm: float = 2.0) -> EvaluationCase:
    """An evaluation phantom; its isocentre is the origin of its own frame. model_grid: the cube around the origin."""
    from diff2ct.phantom import make_phantom

    if seed not in EVALUATION_SEEDS:
        raise ValueError(f"seed: got {seed}, accepted are evaluation seeds 0..{EVALUATION_SEEDS[-1]}")
    phantom = make_phantom(seed)
    name = f"phantom_{seed:03d}"
    body = phantom.render(phantom.body_grid(body_spacing_mm)).hu
    radiographs = render_radiographs(body, setup.beams((0.0, 0.0, 0.0)), name)
    return EvaluationCase("phantoms", name, radiographs, phantom.render(model_grid).hu, np.ones(model_grid.size, dtype=bool))


def ct_case(path: Path, model_grid: VolumeGrid, setup: BiplanarSetup) -> EvaluationCase:
    """A real CT; isocentre as `body_center` chooses it, scores where the scan has data."""
    from diff2ct.volume_io import inside_grid, read_ct, resample

    scan = read_ct(path)
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    radiographs = render_radiographs(scan, setup.beams(body_center(scan)), name)
    grid = grid_around_isocenter(model_grid, radiographs)
    return EvaluationCase("real CTs", name, radiographs, resample(scan, grid), inside_grid(scan, grid))


def diff2ct_method(checkpoint: Checkpoint, *, num_steps: int | None, num_samples: int, seed: int, device: str) -> Method:
    """The whole inference path that the module and the command line run."""

    def method(case: EvaluationCase) -> np.ndarray:
        result = reconstruct(
            case.radiographs, checkpoint, num_steps=num_steps, num_samples=num_samples, seed=seed, device=device
        )
        return result.volume.hu

    return method


BASELINES: dict[str, Method] = {
    "flat-body": lambda case: baselines.flat_body(case.radiographs, case.grid),
    "backprojection": lambda case: baselines.backprojection(case.radiographs, case.grid),
    "sirt": lambda case: baselines.sirt(case.radiographs, case.grid),
    "oracle-true-body-flat": lambda case: baselines.fill_body(body_mask(torch.from_numpy(case.truth.hu)).numpy()),
}
"""Methods without weights. The oracle, the true outline filled with soft tissue, shows what a score owes to outlines alone."""


def train_mean_method(num_phantoms: int, model_grid: VolumeGrid, on_phantom: Callable[[], None] | None = None) -> Method:
    """The same volume for every case: the mean of the first `num_phantoms` training phantoms, computed here once."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + num_phantoms)
    mean = baselines.train_mean(seeds, model_grid, on_phantom)
    return lambda case: mean


def evaluate(
    cases: Sequence[Callable[[], EvaluationCase]],
    methods: Mapping[str, Method],
    output: Path,
    *,
    settings: str = "",
    on_result: Callable[[str, str], None] | None = None,
) -> list[Row]:
    """Run every method on every case and write `per_case.csv` (after each case), `summary.csv`, `tests.csv`, `summary.md`
    and one figure per dataset into the folder `output`.

    settings: lines on top of the summary that say how it was made. on_result: called with case and method after each.

    Returns the per-case rows.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    shown: dict[str, list[tuple[str, CtVolume, dict[str, np.ndarray]]]] = {}
    for make_case in cases:
        case = make_case()
        volumes = {}
        for name, method in methods.items():
            start = time.perf_counter()
            volumes[name] = method(case)
            seconds = time.perf_counter() - start
            scores = evaluate_volume(*(torch.from_numpy(a) for a in (volumes[name], case.truth.hu, case.mask)))
            rows.append({"dataset": case.dataset, "case": case.name, "method": name, "seconds": seconds, **scores})
            if on_result is not None:
                on_result(case.name, name)
        write_rows(rows, output / "per_case.csv")
        of_dataset = shown.setdefault(case.dataset, [])
        if len(of_dataset) < CASES_IN_FIGURE:
            of_dataset.append((case.name, case.truth, volumes))
    _write_report(rows, shown, output, settings)
    return rows


def _write_report(rows: Sequence[Row], shown: Mapping[str, Sequence[Any]], output: Path, settings: str) -> None:
    from diff2ct_training.figures import methods_figure

    write_rows(summarize(rows), output / "summary.csv")
    reference = rows[0]["method"]
    tests = compare(rows, reference, HEADLINE_METRICS)
    if tests:
        write_rows(tests, output / "tests.csv")
    tables = (markdown_table(rows, HEADLINE_METRICS), markdown_table(rows, WIDE_METRICS))
    text = (
        f"{settings}\n\n## Inside the body\n\n{tables[0]}\n## Whole volume\n\n{tables[1]}\n"
        "SSIM, Dice and PSNR: higher is better; MAE [HU]: lower; bias [HU]: nearer 0.\n"
        "Windows, regions and kernels: diff2ct.metrics. All metrics with bootstrap intervals: summary.csv.\n"
        + (f"Paired Wilcoxon tests of {reference}, Holm-corrected: tests.csv.\n" if tests else "Too few cases for tests.\n")
    )
    (output / "summary.md").write_text(text, encoding="ascii")
    for dataset, cases in shown.items():
        name = dataset.replace(" ", "_").lower()
        methods_figure(output / f"figure_{name}.png", cases, f"{dataset}: every method got the same two X-rays")
