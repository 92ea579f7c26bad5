"""The command line `diff2ct`. Commands only translate options into calls; what is heavy is imported when a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diff2ct.process import limit_threads, tune_allocator
from diff2ct_training.console import note, one_line_errors, progress_bar
from diff2ct_training.phantom_seeds import FIRST_TRAINING_SEED

if TYPE_CHECKING:
    from diff2ct.consistency import Consistency
    from diff2ct_training.drr import BiplanarSetup

main = typer.Typer(
    name="diff2ct",
    help="Reconstruct a CT volume from two orthogonal X-rays. Research use only - not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it takes [mm] for markup and cuts long names of options
)

DEFAULT_SAMPLES = 4
"""Their mean is nearer the truth than one sample, and their standard deviation says where not to trust it."""

Checkpoint = Annotated[Path | None, typer.Option(help="Trained model (.safetensors). Default: the embedded one.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps per sample. Default: as the checkpoint says.")]
Samples = Annotated[int, typer.Option(help="Volumes to draw; the result is their mean.")]
ConsistencyOption = Annotated[
    bool | None,
    typer.Option(
        "--consistency/--no-consistency", help="Move the volume toward its X-rays. Default: where their scale is known."
    ),
]
ConsistencyOptions = Annotated[
    list[str] | None,
    typer.Option("--consistency-option", help="NAME=VALUE, such as when=steps, trust=1 or tv=0.1; repeatable, see the README."),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same volume.")]
FrontalXray = Annotated[Path, typer.Argument(help="Frontal X-ray: DICOM, PNG, JPEG, TIFF, NRRD ...")]
LateralXray = Annotated[Path, typer.Argument(help="Lateral X-ray.")]
Geometry = Annotated[Path | None, typer.Option(help='JSON {"ap": {...}, "lateral": {...}}.')]
FrontalView = Annotated[str | None, typer.Option(help="AP or PA, if the file does not state it.")]
LateralView = Annotated[str | None, typer.Option(help="LL or RL, if the file does not state it.")]
Frame = Annotated[int | None, typer.Option(help="Frame of a file with several, from 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]
Output = Annotated[Path, typer.Option(help="Folder to write to.")]
SourceToDetector = Annotated[float, typer.Option("--sdd", help="Source to detector [mm].")]
SourceToIsocenter = Annotated[float, typer.Option("--sod", help="Source to isocentre [mm].")]
DetectorMm = Annotated[float, typer.Option(help="Edge of the square detector [mm].")]
Pixels = Annotated[int, typer.Option(help="Pixels along that edge.")]
Lateral = Annotated[str, typer.Option("--view-lateral", help="LL or RL.")]
BeamKind = Annotated[str, typer.Option("--beam", help="cone, fan (moving along the body, as EOS) or parallel.")]


@main.callback()
def _first() -> None:
    tune_allocator()  # before any command imports torch
    limit_threads()


@main.command()
def reconstruct(
    ap: FrontalXray,
    lateral: LateralXray,
    output: Annotated[
        Path, typer.Option(help="Volume to write, in HU: .nrrd, .nii.gz or .mha; without suffix, a DICOM folder.")
    ],
    geometry: Geometry = None,
    ap_view: FrontalView = None,
    lateral_view: LateralView = None,
    ap_frame: Frame = None,
    lateral_frame: Frame = None,
    truth: Annotated[Path | None, typer.Option(help="The patient's CT, in the X-rays' coordinates, to compare with.")] = None,
    steps: Steps = None,
    samples: Samples = DEFAULT_SAMPLES,
    seed: Seed = 0,
    checkpoint: Checkpoint = None,
    translator: Annotated[Path | None, typer.Option(help="Real-to-DRR translator (.safetensors) for real X-rays.")] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
    figure: Annotated[Path | None, typer.Option(help="Picture of X-rays and slices to write (.png, .pdf, .svg).")] = None,
    consistency: ConsistencyOption = None,
    consistency_options: ConsistencyOptions = None,
    sd_output: Annotated[Path | None, typer.Option(help="File for the standard deviation of the samples [HU].")] = None,
    error_output: Annotated[Path | None, typer.Option(help="File for the expected error of each voxel [HU].")] = None,
    lower_output: Annotated[Path | None, typer.Option(help="File for the lower end of the interval of --level [HU].")] = None,
    upper_output: Annotated[Path | None, typer.Option(help="File for the upper end of that interval [HU].")] = None,
    level: Annotated[float, typer.Option(help="Share of body voxels whose true HU lies in the interval, up to 0.9.")] = 0.9,
    support_output: Annotated[Path | None, typer.Option(help="File for what the X-rays settle, 0 to 1.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Two X-rays in, one CT volume out."""
    from diff2ct_training.reconstruct_command import ReconstructionRequest, reconstruct_files, summary_lines
    from diff2ct_training.stated_film import remarks

    maps = {"sd": sd_output, "error": error_output, "lower": lower_output, "upper": upper_output, "support": support_output}
    with one_line_errors(), progress_bar("reconstructing") as update:
        request = ReconstructionRequest(
            ap=ap, lateral=lateral, output=output, geometry=geometry, ap_view=ap_view, lateral_view=lateral_view,
            ap_frame=ap_frame, lateral_frame=lateral_frame, truth=truth, checkpoint=checkpoint, translator=translator,
            num_steps=steps, num_samples=samples, seed=seed, device=device, figure=figure, level=level,
            consistency=_consistency(consistency, consistency_options),
            maps={name: path for name, path in maps.items() if path is not None}, overwrite=overwrite,
        )  # fmt: skip
        report = reconstruct_files(request, on_step=update)
    for line in remarks(report):
        note(line)
    typer.echo(json.dumps(report) if as_json else "\n".join(summary_lines(report)))


@main.command()
def register(
    ap: FrontalXray,
    lateral: LateralXray,
    ct: Annotated[Path, typer.Option(help="The same patient's CT: .nrrd, .nii.gz, .mha, DICOM folder.")],
    output: Annotated[Path, typer.Option(help="The CT, moved, nothing resampled: .nrrd, .nii.gz or .mha.")],
    transform_output: Annotated[
        Path | None,
        typer.Option(
            help="ITK transform (.tfm) to write: it maps points of the X-rays' space to the CT as it was, so under it Slicer "
            "shows that CT where the X-rays do."
        ),
    ] = None,
    geometry: Geometry = None,
    ap_view: FrontalView = None,
    lateral_view: LateralView = None,
    ap_frame: Frame = None,
    lateral_frame: Frame = None,
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Start where the CT lies, if that is right to about a centimetre.")
    ] = False,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """A CT of the same patient, moved to where two X-rays show it. 2D/3D registration, rigid."""
    from diff2ct_training.register_command import RegistrationRequest, register_files, summary_lines
    from diff2ct_training.stated_film import remarks

    with one_line_errors(), progress_bar("registering") as update:
        request = RegistrationRequest(
            ap=ap, lateral=lateral, ct=ct, output=output, transform_output=transform_output, geometry=geometry,
            ap_view=ap_view, lateral_view=lateral_view, ap_frame=ap_frame, lateral_frame=lateral_frame,
            search=not no_search, overwrite=overwrite,
        )  # fmt: skip
        report = register_files(request, on_progress=lambda share: update(round(100 * share), 100))
    for line in remarks(report):
        note(line)
    typer.echo(json.dumps(report) if as_json else "\n".join(summary_lines(report)))


@main.command()
def drr(
    ct: Annotated[
        Path,
        typer.Argument(help="CT: .nrrd, .nii.gz, .mha, DICOM folder. With --acquisitions: folder of CTs or prepared cases."),
    ],
    output: Output,
    sdd: SourceToDetector = 1020.0,
    sod: SourceToIsocenter = 700.0,
    detector_mm: DetectorMm = 430.0,
    pixels: Pixels = 256,
    isocenter: Annotated[
        str, typer.Option(help="x,y,z in LPS [mm], or auto: half way up, on the centroid of everything above -300 HU.")
    ] = "auto",
    view_lateral: Lateral = "LL",
    beam: BeamKind = "cone",
    formats: Annotated[list[str] | None, typer.Option("--format", help="dcm (default), png, nrrd; may be repeated.")] = None,
    write_truth: Annotated[bool, typer.Option("--write-truth", help="Also write the CT on the model grid.")] = False,
    acquisitions: Annotated[int | None, typer.Option(help="Write a set: this many X-ray pairs of each CT or case.")] = None,
    vary: Annotated[
        bool, typer.Option("--vary", help="Set: distances, angles and isocentre at random: cones near the case's centre.")
    ] = False,
    detectors: Annotated[
        list[str] | None, typer.Option("--detector", help="Set: ideal (default) or simulated; repeat for pairs of both.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Set: how poor simulated detectors may be, 0 to 1.")] = 1.0,
    split: Annotated[str | None, typer.Option(help="Set: only prepared cases of this split.")] = None,
    workers: Annotated[int, typer.Option(help="Set: processes.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """AP and lateral X-rays of a CT, or of many. With their exact geometry; sets go on where they stopped."""
    from diff2ct_training.drr_sets import DrrSet, render_set
    from diff2ct_training.sample_files import write_drr_files

    with one_line_errors():
        setup = _setup(sdd, sod, detector_mm, pixels, view_lateral, beam)
        if acquisitions is None:
            if vary or detectors or split is not None or workers != 1:
                raise ValueError("--vary, --detector, --split and --workers are for sets; --acquisitions makes one")
            files = write_drr_files(
                ct, output, setup, isocenter=isocenter, formats=formats or ["dcm"], write_truth=write_truth, overwrite=overwrite
            )
            typer.echo("\n".join(map(str, files)))
            return
        if isocenter != "auto":
            raise ValueError("--isocenter: got one point for a set, accepted is auto")
        wanted = DrrSet(
            count=acquisitions, setup=setup, vary=vary, detectors=tuple(detectors or ["ideal"]), strength=strength,
            formats=tuple(formats or ["dcm"]), write_truth=write_truth,
        )  # fmt: skip
        with progress_bar("X-rays") as update:
            text, rejected = render_set(
                ct, output, wanted, split=split, workers=workers, overwrite=overwrite, on_progress=update
            )
    for one in rejected:
        note(f"not rendered: {one.source}: {one.reason}")
    typer.echo(text)


@main.command()
def phantom(
    output: Output,
    seed: Annotated[int, typer.Option(help="First seed; 0 to 999 are for evaluation, 10000 and up for training.")] = 7,
    screws: Annotated[int | None, typer.Option(help="Pedicle screws, 0 to 12. Default: random.")] = None,
    count: Annotated[int, typer.Option(help="Patients to write; more than one go to folders of their own.")] = 1,
    sdd: SourceToDetector = 1020.0,
    sod: SourceToIsocenter = 700.0,
    detector_mm: DetectorMm = 430.0,
    pixels: Pixels = 256,
    view_lateral: Lateral = "LL",
    beam: BeamKind = "cone",
    overwrite: Overwrite = False,
) -> None:
    """Synthetic patients: CT, labels, pedicle screws, X-rays."""
    from diff2ct_training.sample_files import write_phantoms

    with one_line_errors(), progress_bar("phantoms", total=count) as update:
        setup = _setup(sdd, sod, detector_mm, pixels, view_lateral, beam)
        files = write_phantoms(
            range(seed, seed + count), output, setup, num_screws=screws, overwrite=overwrite, on_phantom=update
        )
    typer.echo("\n".join(map(str, files)))


@main.command()
def demo(
    output: Output = Path("demo"),
    steps: Steps = None,
    samples: Samples = DEFAULT_SAMPLES,
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
) -> None:
    """A phantom's X-rays and the CT reconstructed from them. With one picture of it all: demo.png."""
    from diff2ct_training.demo import run_demo
    from diff2ct_training.reconstruct_command import summary_lines

    with one_line_errors(), progress_bar("phantom and X-rays") as update:
        files, report = run_demo(
            output, checkpoint=checkpoint, num_steps=steps, num_samples=samples, device=device,
            on_step=lambda done, total: update(done, total, "reconstructing"),
        )  # fmt: skip
    typer.echo("\n".join([*map(str, files), "", *summary_lines(report)]))


@main.command()
def evaluate(
    output: Output,
    phantoms: Annotated[
        int | None,
        typer.Option(help="Evaluation phantoms, seeds from 0. Default: 56, or none beside --cts, --cases, --real-xrays."),
    ] = None,
    cts: Annotated[list[Path] | None, typer.Option(help="CT file, or folder with CTs anywhere below; may be repeated.")] = None,
    real_xrays: Annotated[
        Path | None, typer.Option(help="CSV of patients' CTs and their real X-rays in the same frame, see the README.")
    ] = None,
    cases: Annotated[Path | None, typer.Option(help="Folder that `prepare` wrote.")] = None,
    split: Annotated[str, typer.Option(help="Which of these cases: train, val, test or all.")] = "test",
    checkpoints: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="[NAME=]FILE; may be repeated. Default: the embedded one.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Name of a method; may be repeated. Default: all.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder with vertebra label maps of the CTs, named like them.")] = None,
    label_scheme: Annotated[
        str, typer.Option(help="Numbering of the label maps: totalsegmentator, verse, ctspine1k.")
    ] = "totalsegmentator",
    predicted_labels: Annotated[
        list[str] | None, typer.Option(help="METHOD=FOLDER with label maps of its reconstructions (see --keep-volumes).")
    ] = None,
    compat: Annotated[
        list[str] | None, typer.Option(help="Other papers' figures beside ours: x2ct, perx2ct, seed; may be repeated.")
    ] = None,
    lpips: Annotated[
        list[Path] | None, typer.Option(help="AlexNet or VGG-16 weights for LPIPS, see the README; may be repeated.")
    ] = None,
    inception: Annotated[Path | None, typer.Option(help="Inception-v3 for FID and KID, see the README.")] = None,
    steps: Annotated[
        list[str] | None,
        typer.Option(help="Denoising steps: COUNT, or NAME=COUNT for one checkpoint; repeatable. Default: the checkpoint's."),
    ] = None,
    samplers: Annotated[
        list[str] | None,
        typer.Option("--sampler", help="renoise, ddpm, ddim, dpm-solver, or NAME=... of one checkpoint. Default: its own."),
    ] = None,
    translator: Annotated[
        Path | None, typer.Option(help="Real-to-DRR translator (.safetensors) that the checkpoints' X-rays go through first.")
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(help="Volumes to draw (4), whose mean is scored: COUNT, or NAME=COUNT."),
    ] = None,
    seed: Seed = 0,
    consistency: ConsistencyOption = None,
    consistency_options: ConsistencyOptions = None,
    mean_phantoms: Annotated[int, typer.Option(help="Training phantoms of train-mean and nearest-neighbour.")] = 32,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option(help="Processes; they may share a GPU.")] = 1,
    keep_volumes: Annotated[bool, typer.Option("--keep-volumes", help="Write every reconstruction into volumes/.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard the results of an earlier evaluation in OUTPUT.")
    ] = False,
) -> None:
    """Score methods on cases. Per-case CSV, tables (Markdown, LaTeX), figures, one HTML report; goes on where it stopped."""
    from diff2ct_training.evaluate_command import EvaluationRequest, run_evaluation

    if phantoms is None:
        phantoms = 0 if cts or cases or real_xrays else 56
    with one_line_errors(), progress_bar("evaluation") as update:
        request = EvaluationRequest(
            output=output, num_phantoms=phantoms, cts=tuple(cts or ()), real_xrays=real_xrays, cases=cases,
            split=None if split == "all" else split,
            label_scheme=label_scheme, checkpoints=tuple(checkpoints or ()), methods=tuple(methods or ()), labels=labels,
            predicted_labels=tuple(predicted_labels or ()), compat=tuple(compat or ()),
            lpips=tuple(lpips or ()), inception=inception, steps=tuple(steps or ()), samplers=tuple(samplers or ()),
            translator=translator, samples=tuple(samples or ()), seed=seed, num_mean_phantoms=mean_phantoms,
            consistency=_consistency(consistency, consistency_options), device=device, workers=workers,
            keep_volumes=keep_volumes, overwrite=overwrite,
        )  # fmt: skip
        summary = run_evaluation(request, on_progress=update)
    typer.echo(summary)


@main.command()
def calibrate(
    phantoms: Annotated[int, typer.Option(help="Held-out phantoms.")] = 12,
    first_seed: Annotated[int, typer.Option(help="Their first seed, 0 to 999; do not evaluate on them.")] = 100,
    cts: Annotated[list[Path] | None, typer.Option(help="Held-out CT, or folder with CTs below; may be repeated.")] = None,
    cases: Annotated[Path | None, typer.Option(help="Folder that `prepare` wrote, with held-out cases.")] = None,
    split: Annotated[str, typer.Option(help="Which of these cases: val or test; do not evaluate on them.")] = "val",
    checkpoint: Checkpoint = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the calibrated checkpoint. Default: the checkpoint itself.")
    ] = None,
    steps: Steps = None,
    samples: Samples = DEFAULT_SAMPLES,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Measure how far off a checkpoint is, on held-out cases. Stores expected error, intervals and bounds in it."""
    from diff2ct_training.calibrate_command import CalibrationRequest, run_calibration, summary_lines

    request = CalibrationRequest(
        checkpoint=checkpoint, output=output, num_phantoms=phantoms, first_seed=first_seed, cts=tuple(cts or ()),
        cases=cases, split=split, num_steps=steps, num_samples=samples, seed=seed, device=device, overwrite=overwrite,
    )  # fmt: skip
    with one_line_errors(), progress_bar("calibration") as update:
        path, calibration = run_calibration(request, on_progress=update)
    typer.echo("\n".join(summary_lines(path, calibration)))


@main.command()
def prepare(
    output: Output,
    cts: Annotated[
        list[Path] | None, typer.Option(help="CT file, or folder of CTs: DICOM, NIfTI, NRRD, MetaImage; may be repeated.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="auto, ctspine1k, verse, ctpelvic1k, totalsegmentator, lidc-idri or plain; DICOM in all.")
    ] = "auto",
    label_scheme: Annotated[
        str | None, typer.Option(help="Numbering of label maps of a plain layout: totalsegmentator, verse ...")
    ] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Regular expression; its group finds the patient in a CT's path.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="TRAIN/TEST, TRAIN/VAL/TEST, official, or a CSV file with the columns patient and split.")
    ] = "212/56",
    center: Annotated[str, typer.Option(help="Isocentre: body, or a vertebra of the label maps such as L3.")] = "body",
    crop: Annotated[bool, typer.Option("--crop", help="Keep only the 256 mm cube around it, as the paper does.")] = False,
    clip: Annotated[tuple[int, int], typer.Option(help="Lowest and highest HU kept.")] = (-1024, 4096),
    remove_table: Annotated[
        bool, typer.Option("--remove-table", help="Remove the table: air everywhere outside the body.")
    ] = False,
    variants: Annotated[int, typer.Option(help="Cases per training CT: itself and randomly bent and scaled copies.")] = 1,
    screws: Annotated[
        float | None, typer.Option(help="Share that gets pedicle screws, 0 to 1: of the copies (default 0.4), else of the CTs.")
    ] = None,
    phantoms: Annotated[int, typer.Option(help="Phantoms to render, seeds from --first-seed.")] = 0,
    first_seed: Annotated[
        int, typer.Option(help="First seed; below 1000 are test cases, below 10000 validation.")
    ] = FIRST_TRAINING_SEED,
    reference: Annotated[str | None, typer.Option(help="A reference data set: lumbar-phantom-268.")] = None,
    xrays: Annotated[
        int, typer.Option(help="X-ray pairs rendered now per train and val case in OUTPUT; 0 leaves it to `train`.")
    ] = 0,
    recipe: Annotated[str, typer.Option(help="With --xrays: the recipe they are for.")] = "default",
    translator: Annotated[
        Path | None, typer.Option(help="With --xrays: DRR-to-real translator (.safetensors), whose style a part of them gets.")
    ] = None,
    style_share: Annotated[float, typer.Option(help="With --translator: that part, 0 to 1.")] = 0.5,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Only check OUTPUT against its manifest.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make cases and X-rays again that were made with other options.")
    ] = False,
) -> None:
    """CTs and phantoms as cases to train with. With quality report and manifest; goes on where it stopped."""
    from diff2ct_training.film_style import FilmStyle
    from diff2ct_training.prepare import CaseOptions
    from diff2ct_training.prepare_command import PrepareRequest, run_preparation, verify_folder

    with one_line_errors():
        if verify:
            typer.echo(verify_folder(output))
            return
        request = PrepareRequest(
            output=output, cts=tuple(cts or ()), layout=layout, label_scheme=label_scheme, patient_pattern=patient_pattern,
            split=split, num_phantoms=phantoms, first_seed=first_seed, reference=reference, num_xrays=xrays, recipe=recipe,
            style=None if translator is None else FilmStyle(translator=translator, share=style_share),
            workers=workers, overwrite=overwrite, options=CaseOptions(
                num_variants=variants, screw_share=screws, center=center, crop=crop, clip_hu=clip, remove_table=remove_table,
            ),
        )  # fmt: skip
        with progress_bar("preparing") as update:
            outcome = run_preparation(request, on_progress=update)
    for one in outcome.rejected:
        note(f"not prepared: {one.source}: {one.reason}")
    typer.echo(outcome.text)


@main.command()
def films(
    sources: Annotated[list[Path], typer.Argument(help="X-ray files, or folders with X-rays at any depth.")],
    output: Output,
) -> None:
    """Real X-rays for `train --recipe cyclegan`. Goes on where it stopped."""
    from diff2ct_training.films import prepare_films

    with one_line_errors(), progress_bar("films") as update:
        done = prepare_films(output, sources, on_film=lambda name: update(description=name))
    for sentence in done.skipped:
        note(f"skipped: {sentence}")
    typer.echo(f"{len(done.written)} X-rays in {output}, {len(done.skipped)} skipped")


@main.command()
def translate(
    xrays: Annotated[list[Path], typer.Argument(help="X-rays: DICOM, PNG, JPEG, TIFF, NRRD ...")],
    checkpoint: Annotated[Path, typer.Option(help="Translator (.safetensors) that `train --recipe cyclegan` wrote.")],
    output: Output,
    view: Annotated[str | None, typer.Option(help="AP, PA, LL or RL, for X-rays that do not tell.")] = None,
    frame: Annotated[int | None, typer.Option(help="Frame of a file with several, from 0.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="dcm, png, nrrd or npy.")] = "dcm",
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """X-rays in another style. Real ones as DRRs, or DRRs as real ones; geometry, pixels and side stay as they are."""
    from diff2ct_training.translate_command import TranslationRequest, translate_files

    request = TranslationRequest(
        xrays=tuple(xrays), checkpoint=checkpoint, output=output, view=view, frame=frame, format=file_format,
        device=device, overwrite=overwrite,
    )  # fmt: skip
    with one_line_errors(), progress_bar("translating", total=len(xrays)) as update:
        report = translate_files(request, on_xray=update)
    for warning in report.warnings:
        note(f"warning: {warning}")
    typer.echo("\n".join(map(str, report.files)))


@main.command()
def train(
    cases: Annotated[Path, typer.Option(help="Folder that `prepare` wrote.")],
    output: Output,
    recipe: Annotated[str, typer.Option(help="One of those that the README lists.")] = "default",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. Default: the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Train as long as this instead.")] = None,
    spacing: Annotated[
        float | None,
        typer.Option(help="Voxels [mm] of the same cube, 2 as it comes; 4 takes an eighth of the time."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step, over all processes.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a process takes its share of a batch in.")] = None,
    recompute: Annotated[bool | None, typer.Option("--recompute", help="Activation checkpointing: less memory.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16-mixed or 32-true. Default: the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: the recipe's.")] = None,
    ct_share: Annotated[float | None, typer.Option(help="Share of samples from CTs. Default: the recipe's.")] = None,
    films: Annotated[Path | None, typer.Option(help="With the recipe cyclegan: the folder that `films` wrote.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="With the recipe distilled: the checkpoint to learn from. Default: the embedded one.")
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="Cases to choose the best checkpoint by.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="Checkpoint whose weights to start with.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on each node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes.")] = 1,
    strategy: Annotated[str, typer.Option(help="auto, ddp, or fsdp: weights shared out among the processes.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that make samples; 0 makes them in the training process.")] = 0,
) -> None:
    """Train a model. A run that was stopped goes on where it was saved."""
    from diff2ct_training.train_command import TrainingRequest, run_training

    request = TrainingRequest(
        recipe=recipe, cases=cases, output=output, spacing_mm=spacing, num_steps=steps, minutes=minutes,
        batch_size=batch_size, accumulate=accumulate, activation_checkpointing=recompute, precision=precision,
        learning_rate=learning_rate, ct_share=ct_share, seed=seed, accelerator=accelerator, devices=devices, num_nodes=nodes,
        strategy=strategy, num_workers=workers, start_from=start_from, validation=validation, films=films, teacher=teacher,
    )  # fmt: skip
    with one_line_errors(), progress_bar("training") as update:
        folder = run_training(request, on_step=lambda step, total, loss: update(step, total, f"loss {loss:.4f}"))
    typer.echo(str(folder))


def _consistency(wanted: bool | None, options: list[str] | None) -> Consistency | bool | None:
    """What `diff2ct.reconstruct` takes, of --consistency and what is to be otherwise about it."""
    from diff2ct.consistency import consistency_from_words

    if options and wanted is False:
        raise ValueError("--consistency-option: got it with --no-consistency, accepted is one of them")
    return consistency_from_words(options) if options else wanted


def _setup(sdd: float, sod: float, detector_mm: float, pixels: int, lateral: str, beam: str) -> BiplanarSetup:
    """`BiplanarSetup` of the options."""
    from diff2ct.geometry import View
    from diff2ct_training.drr import BiplanarSetup

    return BiplanarSetup(
        source_to_detector_mm=sdd, source_to_isocenter_mm=sod, detector_mm=detector_mm, pixels=pixels,
        lateral=View.parse(lateral), beam=beam,
    )  # fmt: skip


if __name__ == "__main__":
    main()
