"""`diff2ct calibrate`, without the command line: a checkpoint's errors on held-out cases -> its calibration, inside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import EMBEDDED, load_checkpoint, store_calibration
from diff2ct.process import check_device
from diff2ct.reconstruct import reconstruct
from diff2ct.uncertainty import LEVELS, Calibration
from diff2ct.volume import VolumeGrid
from diff2ct_training.calibration_fit import CalibrationFit, check_num_cases
from diff2ct_training.cases import list_cases
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import PHANTOMS, PlannedCase, made, plan_cts, plan_phantom, plan_prepared
from diff2ct_training.evaluation.seen import listed, origin_of
from diff2ct_training.lineage import ORIGINS, trained_on
from diff2ct_training.outputs import check_output
from diff2ct_training.parallel import Failed
from diff2ct_training.phantom_seeds import TEST_SEEDS

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """checkpoint: None is the embedded one. output: the calibrated checkpoint, None is in its own place. overwrite: what is at
    `output`, or the calibration that the checkpoint has.
    num_phantoms, first_seed: evaluation phantoms, none of which may be evaluated on later. cts: what `plan_cts` takes.
    cases: a folder that `diff2ct prepare` wrote; split: which of them. In errors and quantiles all CTs together weigh as much
    as the phantoms. Others: `diff2ct.reconstruct`.
    """

    checkpoint: Path | None = None
    output: Path | None = None
    num_phantoms: int = 12
    first_seed: int = 100
    cts: tuple[Path, ...] = ()
    cases: Path | None = None
    split: str = "val"
    num_steps: int | None = None
    num_samples: int = 4
    seed: int = 0
    device: str = "cpu"
    overwrite: bool = False


def run_calibration(request: CalibrationRequest, on_progress: Callable[[int, int, str], None]) -> tuple[Path, Calibration]:
    """Reconstruct every case, measure, store. Returns the calibrated checkpoint's file and the calibration."""
    source = request.checkpoint or EMBEDDED
    check_output(request.output, (".safetensors",), overwrite=request.overwrite)
    if request.num_samples < 2:
        raise ValueError(f"--samples: got {request.num_samples}, accepted is 2 or more: one sample has no spread")
    check_device(request.device)
    checkpoint = load_checkpoint(source, device=request.device)
    if checkpoint.in_one_pass:
        raise ValueError(f"--checkpoint: {source} reconstructs in one pass; only the spread of samples can be calibrated")
    if checkpoint.calibration is not None and request.output is None and not request.overwrite:
        raise ValueError(f"{source} is calibrated already; --overwrite measures it anew, --output writes another file")
    checkpoint = replace(checkpoint, calibration=None)
    grid, setup = checkpoint.grid, BiplanarSetup()
    seeds = _seeds(request)
    cases, left_out = _plan_cases(request, seeds, grid, setup)
    check_num_cases(len(cases))
    known = trained_on(checkpoint.provenance)
    seen = [case.name for case in cases if known and origin_of(case) in known]
    if seen:
        _log.warning("it was trained on %s: the errors on them are not those on other patients", listed(seen))

    fit, kinds, used = CalibrationFit(), [], []
    num_cts = sum(not _is_phantom(case) for case in cases)
    weight_of_ct = (len(cases) - num_cts) / num_cts if 0 < num_cts < len(cases) else 1.0
    for done, planned in enumerate(cases, start=1):
        case = made(planned.make)
        if isinstance(case, Failed):
            if _is_phantom(planned):
                raise ValueError(case.reason)
            left_out.append(f"{planned.name}: {case.reason}")
            on_progress(done, len(cases), planned.name)
            continue
        result = reconstruct(
            case.radiographs,
            checkpoint,
            num_steps=request.num_steps,
            num_samples=request.num_samples,
            seed=request.seed,
            device=request.device,
        )
        samples, truth, inside = (torch.from_numpy(a) for a in (result.samples_hu, case.truth.hu, case.mask))
        used.append(planned)
        kinds.append("phantoms" if _is_phantom(planned) else "CTs")
        fit.add(samples, truth, inside, case.grid.voxel_ml, weight=1.0 if _is_phantom(planned) else weight_of_ct)
        on_progress(done, len(cases), planned.name)

    num_prepared = kinds.count("phantoms") - len(seeds)
    calibration = fit.result(
        num_samples=request.num_samples,
        num_steps=request.num_steps or checkpoint.sampling.num_steps,
        provenance={
            "cases": "; ".join(
                [f"{len(seeds)} phantoms, seeds {seeds.start} to {seeds.stop - 1}"] * bool(len(seeds))
                + [f"{num_prepared} prepared phantoms"] * bool(num_prepared)
                + [f"{kinds.count('CTs')} CTs"] * bool(kinds.count("CTs"))
            ),
            ORIGINS: sorted({origin_of(case) for case in used} - {""}),
            **({"trained_on": seen} if seen else {}),
            **({"left_out": left_out} if left_out else {}),
            "xrays": f"noiseless line integrals of the whole body or scan, {setup.describe()}",
            "seed": request.seed,
            "held_out_coverage": _by_kind(fit.held_out_coverage(), kinds),
            "date": datetime.now(UTC).date().isoformat(),
        },
    )
    store_calibration(calibration, checkpoint.sha256, source, request.output)
    return request.output or source, calibration


def _seeds(request: CalibrationRequest) -> range:
    seeds = range(request.first_seed, request.first_seed + request.num_phantoms)
    if request.num_phantoms < 0 or any(seed not in TEST_SEEDS for seed in seeds):
        got = f"{request.num_phantoms} phantoms from seed {request.first_seed}"
        raise ValueError(f"--phantoms, --first-seed: got {got}, accepted are seeds 0 to {TEST_SEEDS[-1]}")
    return seeds


def _plan_cases(
    request: CalibrationRequest, seeds: range, grid: VolumeGrid, setup: BiplanarSetup
) -> tuple[list[PlannedCase], list[str]]:
    """(all cases, phantoms of `seeds` first; what looked like a CT and is none)."""
    scans, rejected = plan_cts(request.cts, grid, setup)
    prepared = [] if request.cases is None else list_cases(request.cases, request.split)
    cases = [plan_phantom(seed, grid, setup) for seed in seeds]
    cases += [*scans, *(plan_prepared(path, grid, setup) for path in prepared)]
    return cases, [f"{one.source}: {one.reason}" for one in rejected]


def _is_phantom(case: PlannedCase) -> bool:
    return case.dataset.startswith(PHANTOMS)


def _by_kind(shares: Sequence[Mapping[str, float]], kinds: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean over the cases of each kind, by level."""
    return {
        kind: {
            str(level): round(float(np.mean([s[str(level)] for s, k in zip(shares, kinds, strict=True) if k == kind])), 4)
            for level in LEVELS
        }
        for kind in dict.fromkeys(kinds)
    }


def summary_lines(path: Path, calibration: Calibration) -> list[str]:
    """The calibration for a person."""
    covered = calibration.provenance["held_out_coverage"]
    lines = [f"checkpoint        {path}, calibrated", f"cases             {calibration.provenance['cases']}"]
    for level in LEVELS:
        shares = ", ".join(f"{by_level[str(level)]:.1%} ({kind})" for kind, by_level in covered.items())
        lines.append(f"{level:.0%} interval      covers {shares} of body voxels of a case left out")
    if seen := calibration.provenance.get("trained_on"):
        lines.append(f"trained on        {listed(seen)}: the errors on them are not those on other patients")
    lines += [f"left out          {what}" for what in calibration.provenance.get("left_out", ())]
    for name, by_level in calibration.bounds.items():
        bounds = ", ".join(f"{radius:.3g} ({float(level):.0%})" for level, radius in by_level.items())
        lines.append(f"{name:<18}+/- {bounds}")
    return lines
