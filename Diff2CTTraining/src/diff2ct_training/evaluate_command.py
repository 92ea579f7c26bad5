"""`diff2ct evaluate`, without the command line: which cases, which methods, and where the results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.process import check_device, tune_allocator
from diff2ct.volume import VolumeGrid
from diff2ct_training import evaluation
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.outputs import output_folder
from diff2ct_training.train_command import find_cts

DIFFUSION = "diff2ct"
TRAIN_MEAN = "train-mean"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """num_phantoms: seeds 0, 1, ... cts: what `find_cts` takes. checkpoints: [NAME=]FILE, none for the embedded one.
    methods: names, none for all. num_mean_phantoms: how many training phantoms make the train-mean. Others:
    `diff2ct.reconstruct`.
    """

    output: Path
    num_phantoms: int
    cts: tuple[Path, ...] = ()
    checkpoints: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    num_steps: int | None = None
    num_samples: int = 1
    seed: int = 0
    num_mean_phantoms: int = 32
    device: str = "cpu"
    overwrite: bool = False


def run_evaluation(request: EvaluationRequest, on_progress: Callable[[int, int, str], None]) -> str:
    """Evaluate and write; returns the summary (Markdown). on_progress(done, total, what) counts reconstructions."""
    output_folder(request.output, ("per_case.csv", "summary.csv", "summary.md"), overwrite=request.overwrite)
    scans = find_cts(list(request.cts))
    missing = [str(path) for path in scans if not path.exists()]
    if missing:
        raise ValueError(f"--cts: {', '.join(missing)}: no such file or folder")
    if request.num_phantoms + len(scans) < 1:
        raise ValueError("cases: got none, accepted is at least one phantom or CT")
    tune_allocator()
    check_device(request.device)

    files = named_checkpoints(request.checkpoints)
    check_methods(request.methods, (*files, TRAIN_MEAN, *evaluation.BASELINES))
    wanted = request.methods or (*files, TRAIN_MEAN, *evaluation.BASELINES)
    checkpoints = {name: load_checkpoint(file, device=request.device) for name, file in files.items() if name in wanted}
    grids = {checkpoint.grid for checkpoint in checkpoints.values()} or {VolumeGrid.centered()}
    if len(grids) > 1:
        raise ValueError(f"--checkpoint: got models of {len(grids)} different grids, accepted is one grid for all")
    (grid,) = grids

    methods: dict[str, evaluation.Method] = {}
    for name in wanted:
        if name in checkpoints:
            methods[name] = evaluation.diff2ct_method(
                checkpoints[name],
                num_steps=request.num_steps,
                num_samples=request.num_samples,
                seed=request.seed,
                device=request.device,
            )
        elif name == TRAIN_MEAN:
            on_progress(0, 1, f"{TRAIN_MEAN} of {request.num_mean_phantoms} phantoms")
            methods[name] = evaluation.train_mean_method(request.num_mean_phantoms, grid)
        else:
            methods[name] = evaluation.BASELINES[name]

    setup = BiplanarSetup()
    cases = [partial(evaluation.phantom_case, seed, grid, setup) for seed in range(request.num_phantoms)]
    cases += [partial(evaluation.ct_case, path, grid, setup) for path in scans]
    total, done = len(cases) * len(methods), 0

    def count(case: str, method: str) -> None:
        nonlocal done
        done += 1
        on_progress(done, total, f"{case}, {method}")

    evaluation.evaluate(cases, methods, request.output, settings=settings_of(request, checkpoints, setup), on_result=count)
    return (request.output / "summary.md").read_text(encoding="ascii")


def settings_of(request: EvaluationRequest, checkpoints: Mapping[str, Checkpoint], setup: BiplanarSetup) -> str:
    """How the numbers were made, one Markdown list."""
    lines = [f"- {name}: checkpoint {checkpoint.sha256[:12]}" for name, checkpoint in checkpoints.items()]
    lines.append(f"- steps {request.num_steps or 'default'}, samples {request.num_samples}, seed {request.seed}")
    lines.append(
        f"- {TRAIN_MEAN}: mean of {request.num_mean_phantoms} training phantoms, seeds from {evaluation.FIRST_TRAINING_SEED}"
    )
    lines.append(
        f"- X-rays: noiseless line integrals of the whole body or scan, AP and {setup.lateral.value}, source to "
        f"detector {setup.source_to_detector_mm:g} mm, to isocentre {setup.source_to_isocenter_mm:g} mm, detector "
        f"{setup.detector_mm:g} mm, {setup.pixels} pixels"
    )
    return "\n".join(lines)


def named_checkpoints(options: tuple[str, ...]) -> dict[str, Path | None]:
    """Method name -> checkpoint file; None is the embedded one. A plain FILE is called diff2ct if it is the only one."""
    files: dict[str, Path | None] = {}
    for option in options:
        name, separator, file = option.rpartition("=")
        name = name if separator else DIFFUSION if len(options) == 1 else Path(file).stem
        if name in files:
            raise ValueError(f"--checkpoint: got the name {name!r} twice, accepted are NAME=FILE with different names")
        files[name] = Path(file)
    return files or {DIFFUSION: None}


def check_methods(names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """ValueError if one of `names` is not known."""
    for name in names:
        if name not in known:
            raise ValueError(f"--method: got {name!r}, accepted are {', '.join(known)}")
