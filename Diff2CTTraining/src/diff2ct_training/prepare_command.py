"""`diff2ct prepare`, without the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diff2ct_training.cases import describe_case, list_cases
from diff2ct_training.cyclegan import CycleGanRecipe
from diff2ct_training.film_style import FilmStyle
from diff2ct_training.one_writer import one_writer
from diff2ct_training.phantom_seeds import FIRST_TRAINING_SEED
from diff2ct_training.prepare import CaseOptions, prepare, prepare_xrays
from diff2ct_training.prepare_report import SUMMARY, in_several_splits, verify
from diff2ct_training.recipes import recipe_named
from diff2ct_training.reference import check_reference, reference_acquisition, reference_seeds
from diff2ct_training.scans import AUTO, Rejected, Scan, find_cts
from diff2ct_training.splits import PAPER_SPLIT, SplitRule
from diff2ct_training.volume_samples import VolumeRecipe


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """Without cts, phantoms and reference only X-rays of what `output` holds are rendered.

    cts: files and folders for `find_cts`, which explains layout, label_scheme and patient_pattern. split: for
    `SplitRule.parse`. reference: a name for `reference_seeds`, or None. num_xrays: acquisitions rendered per case; style: of
    a part of them."""

    output: Path
    cts: tuple[Path, ...] = ()
    layout: str = AUTO
    label_scheme: str | None = None
    patient_pattern: str | None = None
    split: str = PAPER_SPLIT
    num_phantoms: int = 0
    first_seed: int = FIRST_TRAINING_SEED
    reference: str | None = None
    options: CaseOptions = field(default_factory=CaseOptions)
    num_xrays: int = 0
    recipe: str = "default"
    style: FilmStyle | None = None
    workers: int = 1
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """text: what there is now, for the reader."""

    text: str
    rejected: list[Rejected]


def run_preparation(request: PrepareRequest, on_progress: Callable[..., None]) -> Outcome:
    """Prepare what is asked for, then render X-rays of all that is there. on_progress: as `console.Progress`. ValueError if
    nothing could be prepared."""
    split, recipe = SplitRule.parse(request.split), recipe_named(request.recipe)
    if request.num_xrays and not isinstance(recipe, VolumeRecipe | CycleGanRecipe):
        raise ValueError(f"--recipe: {request.recipe!r} has no X-rays to render")
    if min(request.num_phantoms, request.first_seed, request.num_xrays) < 0:
        raise ValueError("--phantoms, --first-seed, --xrays: got a number below 0, accepted is 0 or more")
    scans: list[Scan] = []
    rejected: list[Rejected] = []
    for root in request.cts:
        on_progress(0, None, f"looking for CTs in {root}")
        found, refused = find_cts(
            root, layout=request.layout, patient_pattern=request.patient_pattern, label_scheme=request.label_scheme
        )
        scans += found
        rejected += refused
    seeds = list(range(request.first_seed, request.first_seed + request.num_phantoms))
    seeds += [seed for seed in reference_seeds(request.reference) if seed not in seeds] if request.reference else []
    if not scans and not seeds and not request.num_xrays:
        raise ValueError("prepare: got no CTs and no phantoms; --cts, --phantoms and --reference say what to prepare")
    if not scans and not seeds:
        list_cases(request.output)  # there must be some
    with one_writer(request.output):
        lines: list[str] = []
        if scans or seeds:
            lines, rejected = _prepare_cases(request, scans, rejected, seeds, split, on_progress)
        if isinstance(recipe, VolumeRecipe | CycleGanRecipe) and request.num_xrays:
            lines.append(_prepare_xrays(request, recipe, on_progress))
    return Outcome("\n".join(lines), rejected)


def _prepare_cases(
    request: PrepareRequest,
    scans: list[Scan],
    rejected: list[Rejected],
    seeds: list[int],
    split: SplitRule,
    on_progress: Callable[..., None],
) -> tuple[list[str], list[Rejected]]:
    """What was found, the scans and not the `rejected`, and the phantoms of `seeds`; (lines for the reader, all rejected)."""
    on_progress(0, len(scans) + len(seeds))
    done = prepare(
        request.output,
        scans=scans,
        rejected=rejected,
        phantom_seeds=seeds,
        split=split,
        options=request.options,
        workers=request.workers,
        overwrite=request.overwrite,
        on_case=lambda name: on_progress(description=name),
    )
    if not done.cases:
        reasons = "; ".join(f"{one.source}: {one.reason}" for one in done.rejected[:3])
        raise ValueError(f"prepare: none of {len(scans)} CTs could be prepared ({reasons})")
    lines = [f"{len(done.cases)} cases in {request.output}, {len(done.rejected)} not prepared: {request.output / SUMMARY}"]
    cases = {file.stem: describe_case(file) for file in list_cases(request.output)}
    lines += [f"warning: {leak}; see --patient-pattern and --split" for leak in in_several_splits(cases)]
    if request.reference:
        lines.append(check_reference(request.reference, request.output))
    return lines, done.rejected


def _prepare_xrays(request: PrepareRequest, recipe: VolumeRecipe | CycleGanRecipe, on_progress: Callable[..., None]) -> str:
    """A line that says how many there are."""
    on_progress(0, len(list_cases(request.output)))
    count = prepare_xrays(
        request.output,
        request.num_xrays,
        reference_acquisition(recipe.acquisition) if request.reference else recipe.acquisition,
        recipe.grid,
        style=request.style,
        workers=request.workers,
        overwrite=request.overwrite,
        on_case=lambda name: on_progress(description=name),
    )
    return f"{count} X-ray pairs in {request.output}"


def verify_folder(folder: Path) -> str:
    """One line if `folder` is as its manifest says; ValueError with what is not."""
    problems = verify(folder)
    if problems:
        raise ValueError(f"{folder}: {len(problems)} files are not as the manifest says: {'; '.join(problems[:10])}")
    return f"{folder}: {len(list_cases(folder))} cases, all as the manifest says"
