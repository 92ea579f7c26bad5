"""`diff2ct calibrate`, without the command line: a checkpoint's errors on held-out cases -> its calibration file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import EMBEDDED, load_checkpoint
from diff2ct.process import check_device, tune_allocator
from diff2ct.reconstruct import reconstruct
from diff2ct.uncertainty import LEVELS, Calibration, CalibrationFit, calibration_path, write_calibration
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import EvaluationCase, ct_case, phantom_case
from diff2ct_training.outputs import check_output
from diff2ct_training.scans import find_cts


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """checkpoint: None is the embedded one. output: None is beside the checkpoint, where loading it finds the file.
    num_phantoms, first_seed: evaluation phantoms, none of which may be evaluated on later. cts: what `find_cts` takes.
    Others: `diff2ct.reconstruct`.
    """

    checkpoint: Path | None = None
    output: Path | None = None
    num_phantoms: int = 12
    first_seed: int = 100
    cts: tuple[Path, ...] = ()
    num_steps: int | None = None
    num_samples: int = 4
    seed: int = 0
    device: str = "cpu"
    overwrite: bool = False


def run_calibration(request: CalibrationRequest, on_progress: Callable[[int, int, str], None]) -> tuple[Path, Calibration]:
    """Reconstruct every case, measure, write. Returns the file and what is in it."""
    path = request.output or calibration_path(request.checkpoint or EMBEDDED)
    check_output(path, (".json",), overwrite=request.overwrite)
    if request.num_samples < 2:
        raise ValueError(f"--samples: got {request.num_samples}, accepted is 2 or more: one sample has no spread")
    tune_allocator()
    check_device(request.device)
    checkpoint = load_checkpoint(request.checkpoint, device=request.device, calibrated=False)
    setup, scans = BiplanarSetup(), find_cts(list(request.cts))
    seeds = range(request.first_seed, request.first_seed + request.num_phantoms)
    cases: list[Callable[[], EvaluationCase]] = [partial(phantom_case, seed, checkpoint.grid, setup) for seed in seeds]
    cases += [partial(ct_case, scan, checkpoint.grid, setup) for scan in scans]

    fit = CalibrationFit()
    for done, make in enumerate(cases):
        case = make()
        result = reconstruct(
            case.radiographs,
            checkpoint,
            num_steps=request.num_steps,
            num_samples=request.num_samples,
            seed=request.seed,
            device=request.device,
        )
        voxel_ml = float(np.prod(case.grid.spacing_mm)) / 1000
        samples, truth, known = (torch.from_numpy(a) for a in (result.samples_hu, case.truth.hu, case.mask))
        fit.add(samples, truth, known, voxel_ml)
        on_progress(done + 1, len(cases), case.name)

    calibration = fit.result(
        num_samples=request.num_samples,
        num_steps=request.num_steps or checkpoint.sampling.num_steps,
        checkpoint_sha256=checkpoint.sha256,
        provenance={
            "cases": f"{len(seeds)} phantoms, seeds {seeds.start} to {seeds.stop - 1}" * bool(len(seeds))
            + f"; {len(scans)} CTs" * bool(scans),
            "xrays": f"noiseless line integrals of the whole body or scan, {setup.describe()}",
            "seed": request.seed,
            "held_out_coverage": fit.held_out_coverage(),
            "date": datetime.now(UTC).date().isoformat(),
        },
    )
    write_calibration(calibration, path, overwrite=request.overwrite)
    return path, calibration


def summary_lines(path: Path, calibration: Calibration) -> list[str]:
    """The calibration for a person."""
    covered = calibration.provenance["held_out_coverage"]
    lines = [f"calibration       {path}", f"cases             {calibration.provenance['cases']}"]
    lines += [
        f"{level:.0%} interval      covers {covered[str(level)]:.1%} of body voxels of a case left out" for level in LEVELS
    ]
    for name, by_level in calibration.bounds.items():
        bounds = ", ".join(f"{radius:.3g} ({float(level):.0%})" for level, radius in by_level.items())
        lines.append(f"{name:<18}+/- {bounds}")
    return lines
