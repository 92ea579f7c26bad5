"""`diff2ct evaluate`, without the command line: which cases, which methods, and where the results go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diff2ct import __version__
from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.consistency import Consistency
from diff2ct.diffusion import SAMPLERS
from diff2ct.process import check_device
from diff2ct.translator import Translator, load_translator
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import CUBE_ONLY
from diff2ct_training.cases import list_cases
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import PlannedCase, describe_grid, plan_cts, plan_phantom, plan_prepared
from diff2ct_training.evaluation.labels import LABEL_NAMES
from diff2ct_training.evaluation.methods import (
    BASELINES,
    CheckpointUse,
    PlannedMethod,
    describe_sampling,
    plan_baseline,
    plan_checkpoint,
    plan_nearest_neighbour,
    plan_train_mean,
    training_patients,
)
from diff2ct_training.evaluation.real_xrays import plan_real_xrays
from diff2ct_training.evaluation.results import TRUTH
from diff2ct_training.evaluation.run import evaluate
from diff2ct_training.evaluation.seen import seen_by
from diff2ct_training.labels import SCHEMES, TOTALSEGMENTATOR
from diff2ct_training.one_writer import one_writer
from diff2ct_training.outputs import output_folder
from diff2ct_training.phantom_seeds import TEST_SEEDS
from diff2ct_training.scoring.case_scores import ScoringOptions
from diff2ct_training.scoring.compatibility import COMPATIBILITY

_log = logging.getLogger(__name__)
DIFFUSION = "diff2ct"
TRAIN_MEAN, NEAREST = "train-mean", "nearest-neighbour"
RESERVED = (TRUTH, TRAIN_MEAN, NEAREST, *BASELINES)
"""Names that no checkpoint can have."""
SAMPLES = 4
"""Of a checkpoint of which nothing is said."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """num_phantoms: seeds 0, 1, ... cts: what `plan_cts` takes. real_xrays: a table as `plan_real_xrays` takes it.
    cases: a folder that `diff2ct prepare` wrote; split: which of them, None for all. checkpoints: [NAME=]FILE, none for the
    embedded one. methods: names, none for all.
    steps, samplers, samples: VALUE for all checkpoints, NAME=VALUE for one, none for what each checkpoint says and `SAMPLES`.
    translator: real-to-DRR translator that the X-rays go through before checkpoints see them.
    labels: folder with label maps of the CTs; for one that has none there, those that `prepare` would find. predicted_labels:
    METHOD=FOLDER with label maps of its reconstructions. label_scheme: the numbers in both.
    compat, lpips, inception: `ScoringOptions`. num_mean_phantoms: how many training phantoms make the train-mean and are
    neighbours, where `cases` has no training cases. overwrite: keep nothing of an earlier evaluation in the same folder.
    keep_volumes: write every reconstruction. workers: processes; several may share a GPU.
    Others: `diff2ct.reconstruct`.
    """

    output: Path
    num_phantoms: int
    cts: tuple[Path, ...] = ()
    real_xrays: Path | None = None
    cases: Path | None = None
    split: str | None = None
    checkpoints: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    labels: Path | None = None
    label_scheme: str = TOTALSEGMENTATOR
    predicted_labels: tuple[str, ...] = ()
    compat: tuple[str, ...] = ()
    lpips: tuple[Path, ...] = ()
    inception: Path | None = None
    steps: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()
    translator: Path | None = None
    samples: tuple[str, ...] = ()
    seed: int = 0
    consistency: Consistency | bool | None = None
    num_mean_phantoms: int = 32
    device: str = "cpu"
    overwrite: bool = False
    keep_volumes: bool = False
    workers: int = 1


def run_evaluation(request: EvaluationRequest, on_progress: Callable[[int, int, str], None]) -> str:
    """Evaluate and write; returns the summary (Markdown). on_progress(done, total, what) counts results, those that were there
    already too."""
    started = (request.output / "per_case.csv").is_file()  # by an earlier evaluation, which this one goes on with
    output_folder(request.output, ("summary.csv", "summary.md", "report.html"), overwrite=request.overwrite or started)
    scoring = scoring_options(request)
    check_device(request.device)

    files = named_checkpoints(request.checkpoints)
    known = (*files, TRAIN_MEAN, NEAREST, *BASELINES)
    check_names("--method", request.methods, known)
    check_names("--predicted-labels", tuple(scoring.predicted_labels), known)
    wanted = request.methods or known
    checkpoints = {name: load_checkpoint(file) for name, file in files.items() if name in wanted}
    translator = None if request.translator is None else load_translator(request.translator, direction="real_to_drr")
    uses = checkpoint_uses(files, request)
    grid = scored_grid(checkpoints)
    setup = BiplanarSetup()
    cases, remarks = plan_cases(request, grid, setup)
    methods = {name: plan_checkpoint(checkpoint, uses[name], translator) for name, checkpoint in checkpoints.items()}
    methods = {name: methods.get(name) or plan_method(name, grid, request) for name in wanted}
    total, done = len(cases) * len(methods), 0

    def count(case: str, method: str) -> None:
        nonlocal done
        done += 1
        on_progress(done, total, f"{case}, {method}")

    settings = settings_of(request, checkpoints, uses, translator, setup, grid, methods)
    settings += labels_found(request, cases, scoring)
    for name, checkpoint in checkpoints.items():
        for use, names in seen_by(checkpoint, cases):
            _log.warning("%s was %s %s: its figures there are not those on other patients", name, use, names)
            settings.append((use, f"{name}: {names}"))
    settings += remarks
    with one_writer(request.output):
        evaluate(
            cases, methods, request.output, scoring=scoring, settings=settings, afresh=request.overwrite,
            keep_volumes=request.keep_volumes, workers=request.workers, on_result=count,
        )  # fmt: skip
    return (request.output / "summary.md").read_text(encoding="utf-8")


def scored_grid(checkpoints: Mapping[str, Checkpoint]) -> VolumeGrid:
    """Where all methods are scored, in whatever order they are named: the finest grid of the checkpoints, of equally fine ones
    the largest; 128^3 voxels of 2 mm without checkpoints."""
    grids = [checkpoint.grid for checkpoint in checkpoints.values()] or [VolumeGrid.centered()]
    return min(grids, key=lambda grid: (grid.spacing_mm, tuple(-n for n in grid.size)))


def plan_cases(
    request: EvaluationRequest, grid: VolumeGrid, setup: BiplanarSetup
) -> tuple[list[PlannedCase], list[tuple[str, str]]]:
    """(all cases of a request, phantoms first; what is to be said about them: lines as of `settings_of`)."""
    if not 0 <= request.num_phantoms <= len(TEST_SEEDS):
        raise ValueError(f"--phantoms: got {request.num_phantoms}, accepted are 0 to {len(TEST_SEEDS)}")
    missing = [
        str(path) for path in (*request.cts, request.labels, request.real_xrays) if path is not None and not path.exists()
    ]
    if missing:
        raise ValueError(f"--cts, --labels, --real-xrays: {', '.join(missing)}: no such file or folder")
    scans, rejected = plan_cts(request.cts, grid, setup, request.labels, request.label_scheme)
    remarks = [("left out", f"{one.source}: {one.reason}") for one in rejected]
    prepared = [] if request.cases is None else list_cases(request.cases, request.split)
    cases = [plan_phantom(seed, grid, setup) for seed in range(request.num_phantoms)]
    cases += scans
    cases += [plan_prepared(path, grid, setup) for path in prepared]
    if request.real_xrays is not None:
        real = plan_real_xrays(request.real_xrays, grid, setup, request.labels, request.label_scheme)
        cases += real.cases
        for sentence in real.remarks:
            _log.warning("%s", sentence)
        how = f"{len(real.cases) // 2} rows of {request.real_xrays.name}; the DRRs for them along the same rays"
        remarks += [("real X-rays", sentence) for sentence in (how, *real.remarks)]
        remarks += [("left out", f"{one.source}: {one.reason}") for one in real.rejected]
    if not cases:
        why = "; ".join(text for name, text in remarks if name == "left out")
        raise ValueError(f"cases: got none{f' ({why})' if why else ''}, accepted is at least one phantom, CT, case or patient")
    return cases, remarks


def labels_found(request: EvaluationRequest, cases: Sequence[PlannedCase], scoring: ScoringOptions) -> list[tuple[str, str]]:
    """How many cases have the label maps that were asked for; ValueError if none has."""
    lines = []
    if request.labels is not None:
        labelled = [case.has_labels for case in cases if case.has_labels is not None]
        lines.append(("labels", _share(labelled, "CTs", "--labels", request.labels)))
    for method, folder in scoring.predicted_labels.items():
        labelled = [scoring.labels_of(method, case.name) is not None for case in cases]
        lines.append((f"labels of {method}", _share(labelled, "cases", "--predicted-labels", folder)))
    return lines


def _share(labelled: Sequence[bool], what: str, option: str, folder: Path) -> str:
    if not any(labelled):
        raise ValueError(f"{option}: {folder} has a label map of none of {len(labelled)} {what}, {LABEL_NAMES}")
    return f"{sum(labelled)} of {len(labelled)} {what}"


def checkpoint_uses(files: Mapping[str, Path | None], request: EvaluationRequest) -> dict[str, CheckpointUse]:
    """How each checkpoint is run."""
    steps = per_checkpoint("--steps", request.steps, tuple(files))
    samplers = per_checkpoint("--sampler", request.samplers, tuple(files))
    samples = per_checkpoint("--samples", request.samples, tuple(files))
    check_names("--sampler", tuple(value for value in samplers.values() if value is not None), tuple(SAMPLERS))
    return {
        name: CheckpointUse(
            file=file, num_steps=_count("--steps", steps[name]), sampler=samplers[name],
            num_samples=_count("--samples", samples[name]) or SAMPLES, seed=request.seed, consistency=request.consistency,
            translator=request.translator, device=request.device,
        ) for name, file in files.items()
    }  # fmt: skip


def per_checkpoint(option: str, values: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str | None]:
    """What `option` says of each of `names`, VALUE of all and NAME=VALUE of one; None of whom it says nothing."""
    said: dict[str, str] = {}
    for text in values:
        name, _, value = text.rpartition("=")
        check_names(option, (name,) if name else (), names)
        if name in said:
            raise ValueError(f"{option}: got {said[name]!r} and {value!r} for {name or 'all'}, accepted is one of them")
        said[name] = value
    return {name: said.get(name, said.get("")) for name in names}


def _count(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{option}: got {text!r}, accepted is a count of 1 or more, or NAME=COUNT")
    return int(text)


def plan_method(name: str, grid: VolumeGrid, request: EvaluationRequest) -> PlannedMethod:
    """The method called `name`, no checkpoint."""
    if name not in (TRAIN_MEAN, NEAREST):
        return plan_baseline(name)
    known = [] if request.cases is None else training_patients(request.cases)
    if name == TRAIN_MEAN:
        return plan_train_mean(request.num_mean_phantoms, grid, known, workers=request.workers)
    return plan_nearest_neighbour(request.num_mean_phantoms, known, workers=request.workers)


def scoring_options(request: EvaluationRequest) -> ScoringOptions:
    check_names("--compat", request.compat, tuple(COMPATIBILITY))
    check_names("--label-scheme", (request.label_scheme,), tuple(SCHEMES))
    folders = {}
    for option in request.predicted_labels:
        method, separator, folder = option.partition("=")
        if not separator or not Path(folder).is_dir():
            raise ValueError(f"--predicted-labels: got {option!r}, accepted is METHOD=FOLDER with an existing folder")
        folders[method] = Path(folder)
    return ScoringOptions(request.compat, request.lpips, request.inception, folders, request.label_scheme, request.device)


def settings_of(
    request: EvaluationRequest,
    checkpoints: Mapping[str, Checkpoint],
    uses: Mapping[str, CheckpointUse],
    translator: Translator | None,
    setup: BiplanarSetup,
    grid: VolumeGrid,
    methods: Mapping[str, PlannedMethod],
) -> list[tuple[str, str]]:
    """How the numbers were made."""
    lines = []
    for name, checkpoint in checkpoints.items():
        how = describe_sampling(checkpoint, uses[name])
        how += ", no data consistency" if request.consistency is False or checkpoint.calibration is None else ""
        how += f", {request.consistency}" if isinstance(request.consistency, Consistency) else ""
        if checkpoint.provenance.get(CUBE_ONLY, 0) > 0.5:
            how += "; trained on X-rays of the cube alone: those of whole bodies and scans look otherwise"
        lines.append((name, f"{checkpoint.network_name}, checkpoint {checkpoint.sha256[:12]}, {how}"))
    lines += [(name, methods[name].identity) for name in (TRAIN_MEAN, NEAREST) if name in methods]
    lines.append(("scored on", describe_grid(grid)))
    if request.num_phantoms or request.cts or request.cases:
        lines.append(("X-rays", f"noiseless line integrals of the whole body or scan, {setup.describe()}"))
    if translator is not None and request.translator is not None:
        how = f"of checkpoints, real to DRR by translator {request.translator.name} {translator.sha256[:12]}"
        lines.append(("X-ray style", how))
    lines.append(("FID, KID", "not computed" if request.inception is None else f"features of {request.inception.name}"))
    lines.append(("LPIPS", f"v0.1, {', '.join(file.name for file in request.lpips)}" if request.lpips else "not computed"))
    lines.append(("program", f"diff2ct {__version__}"))
    return lines


def named_checkpoints(options: tuple[str, ...]) -> dict[str, Path | None]:
    """Method name -> checkpoint file; None is the embedded one. A plain FILE is called diff2ct if it is the only one."""
    files: dict[str, Path | None] = {}
    for option in options:
        name, separator, file = option.partition("=")
        if not separator or Path(option).is_file():
            name, file = DIFFUSION if len(options) == 1 else Path(option).stem, option
        if name in RESERVED:
            raise ValueError(f"--checkpoint: got the name {name!r}, which is taken, accepted are NAME=FILE with another name")
        if name in files:
            raise ValueError(f"--checkpoint: got the name {name!r} twice, accepted are NAME=FILE with different names")
        files[name] = Path(file)
    return files or {DIFFUSION: None}


def check_names(option: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """ValueError if one of `names` is not known."""
    for name in names:
        if name not in known:
            raise ValueError(f"{option}: got {name!r}, accepted are {', '.join(known)}")
