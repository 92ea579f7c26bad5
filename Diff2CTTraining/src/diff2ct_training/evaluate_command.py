"""`diff2ct evaluate`, without the command line: which cases, which methods, and where the results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.process import check_device, tune_allocator
from diff2ct.reconstruct import DEFAULT_STEPS
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
    methods: names, none for all. num_mean_phantoms: how many training phantoms make the train-mean. overwrite: keep nothing of
    an earlier evaluation in the same folder. Others: `diff2ct.reconstruct`.
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
    """Evaluate and write; returns the summary (Markdown). on_progress(done, total, what) counts results, those that were there
    already too."""
    started = (request.output / "per_case.csv").is_file()  # by an earlier evaluation, which this one goes on with
    output_folder(request.output, ("summary.csv", "summary.md"), overwrite=request.overwrite or started)
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

    methods: dict[str, evaluation.PlannedMethod] = {}
    for name in wanted:
        if name in checkpoints:
            methods[name] = plan_diff2ct(checkpoints[name], request)
        elif name == TRAIN_MEAN:
            identity = f"mean of {request.num_mean_phantoms} training phantoms"
            build = partial(evaluation.train_mean_method, request.num_mean_phantoms, grid)
            methods[name] = evaluation.PlannedMethod(identity, build)
        else:
            methods[name] = evaluation.PlannedMethod(f"baseline {name}", partial(evaluation.BASELINES.__getitem__, name))

    setup = BiplanarSetup()
    cases = [evaluation.plan_phantom(seed, grid, setup) for seed in range(request.num_phantoms)]
    cases += [evaluation.plan_ct(path, grid, setup) for path in scans]
    total, done = len(cases) * len(methods), 0

    def count(case: str, method: str) -> None:
        nonlocal done
        done += 1
        on_progress(done, total, f"{case}, {method}")

    settings = settings_of(request, checkpoints, setup)
    evaluation.evaluate(cases, methods, request.output, settings=settings, afresh=request.overwrite, on_result=count)
    return (request.output / "summary.md").read_text(encoding="ascii")


def plan_diff2ct(checkpoint: Checkpoint, request: EvaluationRequest) -> evaluation.PlannedMethod:
    """The inference path with the options of `request`."""
    steps = DEFAULT_STEPS if request.num_steps is None else request.num_steps
    options = f"{steps} steps, {request.num_samples} samples, seed {request.seed}, on {request.device}"
    build = partial(
        evaluation.diff2ct_method,
        checkpoint,
        num_steps=steps,
        num_samples=request.num_samples,
        seed=request.seed,
        device=request.device,
    )
    return evaluation.PlannedMethod(f"checkpoint {checkpoint.sha256[:16]}, {options}", build)


def settings_of(request: EvaluationRequest, checkpoints: Mapping[str, Checkpoint], setup: BiplanarSetup) -> str:
    """How the numbers were made, one Markdown list."""
    lines = [f"- {name}: checkpoint {checkpoint.sha256[:12]}" for name, checkpoint in checkpoints.items()]
    lines.append(f"- steps {request.num_steps or DEFAULT_STEPS}, samples {request.num_samples}, seed {request.seed}")
    lines.append(
        f"- {TRAIN_MEAN}: mean of {request.num_mean_phantoms} training phantoms, seeds from {evaluation.FIRST_TRAINING_SEED}"
    )
    lines.append(f"- X-rays: noiseless line integrals of the whole body or scan, {setup.describe()}")
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
