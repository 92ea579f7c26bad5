"""`diff2ct reconstruct`, without the command line: two X-ray files in, one CT file out, and a report of what happened."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diff2ct.checkpoint import load_checkpoint
from diff2ct.compare import compare_volumes
from diff2ct.consistency import Consistency
from diff2ct.maps import DEFAULT_LEVEL, MAPS, check_maps
from diff2ct.process import check_device, peak_memory_mb
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct.told import unexplained
from diff2ct.translator import load_translator
from diff2ct.volume import CtVolume
from diff2ct.volume_io import WRITTEN_SUFFIXES, read_ct, write_volume
from diff2ct_training.outputs import FIGURE_SUFFIXES, OUTPUT_SUFFIXES, check_distinct, check_output
from diff2ct_training.stated_film import NAMES_OF_VIEWS, PairRequest, check_in_frame_of_ct

SHOWN_METRICS = (
    ("ssim_3d_body", "SSIM in the body, [-200, 800] HU", ""),
    ("bone_dice", "bone Dice (> 200 HU)", ""),
    ("metal_dice", "metal Dice (> 2500 HU)", ""),
    ("mae_hu_bone", "MAE in bone", " HU"),
    ("mae_hu_body", "MAE in the body", " HU"),
    ("bias_hu_body", "bias in the body", " HU"),
    ("psnr_x2ct", "PSNR, [-1000, 1500] HU", " dB"),
)


@dataclass(frozen=True, kw_only=True)
class ReconstructionRequest(PairRequest):
    """What to reconstruct from what. Paths of None are not wanted; the other fields are those of `diff2ct.reconstruct`.

    translator: real-to-DRR translator for X-rays of another style than those that the checkpoint was trained on.
    truth: the patient's CT in the same frame of reference, to be compared with.
    maps: files to write by name, one of `diff2ct.maps.MAPS`; level: of lower and upper.
    """

    output: Path
    truth: Path | None = None
    checkpoint: Path | None = None
    translator: Path | None = None
    num_steps: int | None = None
    num_samples: int = 1
    seed: int = 0
    device: str = "cpu"
    figure: Path | None = None
    title: str = "Diff2CT: two X-rays in, one CT volume out"
    consistency: Consistency | bool | None = None
    maps: Mapping[str, Path] = field(default_factory=dict)
    level: float = DEFAULT_LEVEL
    overwrite: bool = False


def reconstruct_files(request: ReconstructionRequest, on_step: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Read, reconstruct, compare, write; nothing is written before the reconstruction is there.

    Returns the report, JSON types only: output, seconds, peak_memory_mb, metrics (None without truth), reprojection (per view),
    reprojection_before (None without data consistency), figures (of the patient, by name: value, intervals by level, text; none
    without calibration), calibration_limits (why these may not hold), warnings, notes (what is assumed without harm to the
    result), assumed (per view, by its name: the facts that nobody measured, with their values), provenance.
    """
    _check_outputs(request)
    # what can be told without the checkpoint
    check_maps(request.maps, num_samples=request.num_samples, calibrated=True, level=request.level)
    check_device(request.device)
    with warnings.catch_warnings(record=True) as python_warnings:
        warnings.simplefilter("always", UserWarning)
        pair = request.read_pair()
        scan = None if request.truth is None else _truth(request.truth, pair.radiographs)
        checkpoint = load_checkpoint(request.checkpoint, device=request.device)
        num_samples = 1 if checkpoint.in_one_pass else request.num_samples
        check_maps(request.maps, num_samples=num_samples, calibrated=checkpoint.calibration is not None)
        style = request.translator
        translator = None if style is None else load_translator(style, direction="real_to_drr", device=request.device)
        result = reconstruct(
            pair.radiographs,
            checkpoint,
            num_steps=request.num_steps,
            num_samples=request.num_samples,
            seed=request.seed,
            consistency=request.consistency,
            translator=translator,
            device=request.device,
            on_step=on_step,
        )
        comparison = None if scan is None else compare_volumes(result.volume, scan)
        truth, metrics = (None, None) if comparison is None else (comparison.truth, comparison.scores)

    write_volume(result.volume, request.output, attributes=result.provenance, overwrite=request.overwrite)
    for name, path in request.maps.items():
        attributes = {**result.provenance, "Values": MAPS[name]}
        write_volume(result.map(name, request.level), path, attributes=attributes, overwrite=request.overwrite)
    said = pair.warnings + unexplained(result.reprojection)
    calibrated = ", ".join(name for name in request.maps if name != "sd")
    said += [f"{calibrated}: may not hold, {sentence}" for sentence in result.calibration_limits if calibrated]
    if request.figure is not None:
        from diff2ct_training.figures import reconstruction_figure

        text = caption(result.seconds, metrics)
        reconstruction_figure(request.figure, pair.radiographs, result.volume, truth, text=text, title=request.title)
    before = result.reprojection_before
    return {
        "output": str(request.output),
        "seconds": round(result.seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "metrics": metrics,
        "reprojection": [_finite(view) for view in result.reprojection],
        "reprojection_before": before and [_finite(view) for view in before],
        "figures": {f.name: {"value": f.value, "intervals": f.intervals, "text": str(f)} for f in result.figures},
        "calibration_limits": list(result.calibration_limits),
        "warnings": said + [str(w.message) for w in python_warnings if issubclass(w.category, UserWarning)],
        "notes": pair.notes,
        "assumed": pair.assumed,
        "provenance": result.provenance,
    }


def _check_outputs(request: ReconstructionRequest) -> None:
    """ValueError, by the options' names, if something cannot be written or would replace what it must not."""
    check_output(request.figure, FIGURE_SUFFIXES, overwrite=request.overwrite)
    check_output(request.output, OUTPUT_SUFFIXES, overwrite=request.overwrite)
    for path in request.maps.values():
        check_output(path, WRITTEN_SUFFIXES, overwrite=request.overwrite)
    maps = {f"--{name}-output": path for name, path in request.maps.items()}
    inputs = {"the CT": request.truth, "checkpoint": request.checkpoint, "translator": request.translator}
    check_distinct({"--output": request.output, "--figure": request.figure, **maps}, request.pair_files | inputs)


def _truth(path: Path, radiographs: Sequence[Radiograph]) -> CtVolume:
    """The CT to compare with; ValueError if an X-ray does not tell where it was taken in the CT's frame of reference."""
    for radiograph in radiographs:
        check_in_frame_of_ct(radiograph)
    return read_ct(path)


def caption(seconds: float, metrics: dict[str, float | None] | None) -> list[tuple[str, str]]:
    """(name, value) lines for the figure."""
    lines = [] if metrics is None else [(label, _shown(metrics[name], unit)) for name, label, unit in SHOWN_METRICS]
    return [*lines, ("reconstruction time", f"{seconds:.1f} s")]


def summary_lines(report: dict[str, Any]) -> list[str]:
    """The report for a person."""
    lines = [f"reconstruction  {report['output']}", f"time            {report['seconds']:.1f} s"]
    lines.append(f"peak memory     {report['peak_memory_mb']:.0f} MB")
    for when, key in (("before data consistency, ", "reprojection_before"), ("", "reprojection")):
        for name, view in zip(NAMES_OF_VIEWS, report[key] or (), strict=False):
            error, correlation = view["relative_l2"], view["ncc"]
            percent = None if error is None else 100 * error
            lines.append(f"re-projection   {when}{name}: error {_shown(percent, ' %')}, correlation {_shown(correlation, '')}")
    for name, label, unit in SHOWN_METRICS if report["metrics"] else ():
        lines.append(f"{label:<34}{_shown(report['metrics'][name], unit)}")
    lines += [f"of the patient  {figure['text']}" for figure in report["figures"].values()]
    lines += [f"its intervals   may not hold, {sentence}" for sentence in report["calibration_limits"] if report["figures"]]
    return [*lines, report["provenance"]["Notice"]]


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}{unit}" if unit else f"{value:.3f}"


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: a figure over an empty region is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
