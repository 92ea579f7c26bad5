"""`diff2ct register`, without the command line: a CT that was taken elsewhere, moved to where two X-rays show it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.atomic import replacing_file
from diff2ct.image_file import suffix_of
from diff2ct.overlay import DOUBTFUL_RIVAL, LEAST_AGREEMENT
from diff2ct.registration import Registration, register
from diff2ct.volume import CtVolume
from diff2ct.volume_io import WRITTEN_SUFFIXES, read_ct, write_volume
from diff2ct_training.outputs import check_distinct, check_output
from diff2ct_training.stated_film import NAMES_OF_VIEWS, PairRequest, StatedPair

TRANSFORM_SUFFIXES = (".tfm",)


@dataclass(frozen=True, kw_only=True)
class RegistrationRequest(PairRequest):
    """ct: what `read_ct` reads, of the patient whom the X-rays show. output: file for the same voxels in their new place.
    transform_output: file for `write_transform`, None is not wanted. search: as of `diff2ct.registration.register`."""

    ct: Path
    output: Path
    transform_output: Path | None = None
    search: bool = True
    overwrite: bool = False


def register_files(request: RegistrationRequest, on_progress: Callable[[float], None] = lambda share: None) -> dict[str, Any]:
    """Read, register, write; nothing is written before the registration is there. on_progress: as of
    `diff2ct.registration.register`.

    Returns the report, JSON types only: output, transform_output, seconds, pose_lps (4 rows), shift_lps_mm (of the CT's
    middle), turn_deg, agreement (per view, by its name: before and after, None without overlap), warnings, notes and assumed
    (as of `StatedPair`), provenance.
    """
    _check_outputs(request)
    with warnings.catch_warnings(record=True) as python_warnings:
        warnings.simplefilter("always", UserWarning)
        pair = request.read_pair()
        ct = read_ct(request.ct)
        found = register(ct, pair.radiographs, search=request.search, on_progress=on_progress)
    told = [warning for warning in python_warnings if issubclass(warning.category, UserWarning)]
    provenance = _provenance(found, pair)
    write_volume(moved(ct, found.pose_lps), request.output, attributes=provenance, overwrite=request.overwrite)
    if request.transform_output is not None:
        write_transform(found.pose_lps, request.transform_output, overwrite=request.overwrite)
    center = ct.grid.center_lps
    shift = found.pose_lps[:3, :3] @ center + found.pose_lps[:3, 3] - center
    return {
        "output": str(request.output),
        "transform_output": None if request.transform_output is None else str(request.transform_output),
        "seconds": round(found.seconds, 3),
        "pose_lps": found.pose_lps.tolist(),
        "shift_lps_mm": shift.tolist(),
        "turn_deg": _turn_deg(found.pose_lps),
        "agreement": {
            name: {"before": _finite(before), "after": _finite(after)}
            for name, before, after in zip(NAMES_OF_VIEWS, found.before, found.after, strict=True)
        },
        "warnings": [*pair.warnings, *(str(w.message) for w in told), *_doubts(found)],
        "notes": [*pair.notes, *_how_to_compare(pair)],
        "assumed": pair.assumed,
        "provenance": provenance,
    }


def moved(ct: CtVolume, pose_lps: np.ndarray) -> CtVolume:
    """The same voxels where `pose_lps`, (4, 4), rigid, brings them [mm]; nothing is resampled."""
    origin = (pose_lps @ ct.grid.ijk_to_lps)[:3, 3]
    direction = pose_lps[:3, :3] @ np.array(ct.grid.direction)
    x, y, z = origin.tolist()
    return CtVolume(ct.hu, replace(ct.grid, origin_lps=(x, y, z), direction=tuple(map(tuple, direction.tolist()))))


def write_transform(pose_lps: np.ndarray, path: Path, *, overwrite: bool = False) -> None:
    """The inverse of `pose_lps` as ITK's text file: its transforms map points of the fixed image, here of the X-rays' space, to
    the moving one, the CT as it was. Written here because ITK does not notice a full disk."""
    inverse = np.linalg.inv(pose_lps)
    numbers = [*inverse[:3, :3].ravel().tolist(), *inverse[:3, 3].tolist()]
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {' '.join(map(repr, numbers))}",
        "FixedParameters: 0 0 0",
    ]
    with replacing_file(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def summary_lines(report: dict[str, Any]) -> list[str]:
    """The report for a person."""
    lines = [f"registered CT   {report['output']}"]
    if report["transform_output"] is not None:
        lines.append(f"transform       {report['transform_output']}")
    shift = report["shift_lps_mm"]
    along = ", ".join(f"{mm:.1f}" for mm in shift)
    lines += [
        f"time            {report['seconds']:.1f} s",
        f"shift           {math.hypot(*shift):.1f} mm of the CT's middle (x, y, z in LPS: {along})",
        f"turn            {report['turn_deg']:.1f} degrees",
    ]
    for name, view in report["agreement"].items():
        before, after = ("-" if view[when] is None else f"{view[when]:.2f}" for when in ("before", "after"))
        lines.append(f"edges           {name}: {before} -> {after} (gradient correlation, 1 is perfect)")
    return lines


def _check_outputs(request: RegistrationRequest) -> None:
    """ValueError, by the options' names, if something cannot be written or would replace what it must not."""
    if suffix_of(request.output) == "":
        raise ValueError(
            f"--output: {request.output} would be a DICOM folder, accepted are files, {', '.join(WRITTEN_SUFFIXES)}: a series "
            "that Diff2CT writes says that it is synthetic, and this CT is not"
        )
    check_output(request.output, WRITTEN_SUFFIXES, overwrite=request.overwrite)
    check_output(request.transform_output, TRANSFORM_SUFFIXES, overwrite=request.overwrite)
    outputs = {"--output": request.output, "--transform-output": request.transform_output}
    check_distinct(outputs, {**request.pair_files, "the CT": request.ct})


def _provenance(found: Registration, pair: StatedPair) -> dict[str, str]:
    """What to write beside the CT, all text. It names files without their folders; the pose is row by row, in LPS [mm]."""
    return {
        "RegisteredTo": ", ".join(r.source for r in pair.radiographs),
        "PoseLps": " ".join(map(repr, found.pose_lps.ravel().tolist())),
        "AgreementBefore": ", ".join(f"{value:.3f}" for value in found.before),
        "AgreementAfter": ", ".join(f"{value:.3f}" for value in found.after),
        "Assumed": ", ".join(sorted({fact for r in pair.radiographs for fact in r.assumed})) or "nothing",
        "Geometry": json.dumps([r.geometry.to_dict() for r in pair.radiographs]),
    }


def _doubts(found: Registration) -> list[str]:
    """A sentence if the CT may not lie where the X-rays show it, else none. NaN is no agreement."""
    before, after = (np.nan_to_num(values, nan=-1.0) for values in (found.before, found.after))
    what = ["got worse"] if after.mean() < before.mean() - 0.01 else []
    low = [name for name, value in zip(("frontal", "lateral"), after, strict=True) if value < LEAST_AGREEMENT]
    what += ["is nearly as good in another place"] if found.rival > DOUBTFUL_RIVAL else []
    what += [f"is below {LEAST_AGREEMENT:g} in the {name} X-ray" for name in low]
    return [f"The agreement of edges {' and '.join(what)}: look at it before you rely on it."] if what else []


def _how_to_compare(pair: StatedPair) -> list[str]:
    """What to state where the X-rays did not tell their place in the CT's frame of reference, and now have one."""
    missing = {
        name: list(radiograph.geometry.isocenter_lps)
        for name, radiograph in zip(NAMES_OF_VIEWS, pair.radiographs, strict=True)
        if "isocenter_lps" in radiograph.assumed
    }
    stated = ", ".join(f'"{name}": {{"isocenter_lps": {json.dumps(place)}}}' for name, place in missing.items())
    told = "the CT lies now where these X-rays have their isocentre: to compare with it, state {{{}}} in the geometry file"
    return [told.format(stated)] if missing else []


def _turn_deg(pose_lps: np.ndarray) -> float:
    cosine = (float(np.trace(pose_lps[:3, :3])) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
