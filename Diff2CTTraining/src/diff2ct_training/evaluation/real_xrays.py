"""Real X-rays of patients whose CT is known in the same frame of reference: what a reconstruction is worth outside the DRRs
that it has learnt from.

Each patient is two cases: the X-rays as they are, and DRRs of the CT along the very same rays in their place, hidden where the
X-rays are and taken for as little calibrated. What the second loses is what two views cannot tell; what the first loses beside
it is what scatter, detectors, processing, a pose that is not quite right and a body that goes on where its CT ends cost. Scouts
serve, whose headers place them in the frame of their CT, and films after a 2D/3D registration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.geometry import Beam, FanBeam, as_kind
from diff2ct.overlay import LEAST_AGREEMENT, crop_bands, cut_faces, match, without_padding
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.radiograph_pair import check_pair
from diff2ct.told import told
from diff2ct.units import TISSUE_HU, hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.cases import (
    EvaluationCase,
    PlannedCase,
    case_of_scan,
    ct_name,
    describe_grid,
    fingerprint,
    labels_for,
)
from diff2ct_training.evaluation.real_xray_table import SIDES, RealPatient, read_table
from diff2ct_training.framing import axis_aligned_grid
from diff2ct_training.labels import TOTALSEGMENTATOR, LabelFile
from diff2ct_training.scans import Rejected
from diff2ct_training.stated_film import NAMES_OF_VIEWS

AGREEMENT_MM = 3.0
"""Pixels in which X-ray and DRR are compared: below `overlay.LEAST_AGREEMENT` it is not taken for one of this CT in its
place."""
MIN_KNOWN = 0.25
"""Share of the cube that the CT must fill for its scores to stand beside others."""


@dataclass(frozen=True)
class PlannedXrays:
    """remarks: sentences about what is odd or assumed in the X-rays, with the case's name. rejected: patients of whom an X-ray
    cannot be used."""

    cases: list[PlannedCase]
    remarks: list[str]
    rejected: list[Rejected]


def plan_real_xrays(
    table: Path,
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    label_folder: Path | None = None,
    scheme: str = TOTALSEGMENTATOR,
) -> PlannedXrays:
    """The cases of a table as `read_table` takes it, two for each row; the one with DRRs is called NAME_drrs.

    For a view that there is not, a DRR about the other's isocentre stands in, as `setup` has it and by the same kind of beam.
    label_folder, scheme: as in `plan_cts`. Raises ValueError on a table that is not right.
    """
    planned = PlannedXrays([], [], [])
    for patient in read_table(table, scheme):
        try:
            real, landmarks = patient.read()
            said = told(list(real.values()))
            doubts = [*said.warnings, *(check_pair(real["ap"], real["lateral"]) if len(real) > 1 else ()), *said.doubts]
        except ValueError as error:
            planned.rejected.append(Rejected(patient.name, str(error)))
            continue
        doubts += [] if landmarks is None else [str(landmarks)]
        planned.remarks.extend(f"{patient.name}: {sentence}" for sentence in doubts)
        planned.cases.extend(_cases(patient, real, model_grid, setup, label_folder, scheme))
    return planned


def _cases(
    patient: RealPatient,
    real: Mapping[str, Radiograph],
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    label_folder: Path | None,
    scheme: str,
) -> list[PlannedCase]:
    scan = patient.scan
    labels, known = labels_for((patient.stated, ct_name(scan.path)), label_folder, scheme, scan)
    ct = fingerprint(scan.path, scan.files)
    seen = ", ".join(f"{name} {_hash(radiograph)}" for name, radiograph in real.items())
    rays = ", ".join(str(beam.to_dict()) for beam in _beams(real, setup).values())
    identity = f"CT {ct}{known} on {describe_grid(model_grid)}, X-rays {seen}, rays {rays}"
    cases = []
    for drrs in (False, True):
        make = partial(real_case, patient, model_grid, setup, labels, drrs=drrs)
        case = PlannedCase(*_dataset_and_name(patient, drrs), f"{identity}{', as DRRs' * drrs}", make, patient.patient)
        cases.append(replace(case, files=scan.files, has_labels=None if drrs else bool(labels), has_scan=True))
    return cases


def real_case(
    patient: RealPatient, model_grid: VolumeGrid, setup: BiplanarSetup, labels: tuple[LabelFile, ...], *, drrs: bool
) -> EvaluationCase:
    """The patient with the X-rays as they are, or with DRRs along the same rays. Raises ValueError if an X-ray does not show
    this CT where its geometry puts it, or if the CT is hardly in the cube."""
    ct = patient.scan.read()
    read, _landmarks = patient.read()
    real = at_height_of(ct.grid, read) if all(isinstance(r.geometry, FanBeam) for r in read.values()) else read
    for radiograph in real.values():
        _check_agreement(radiograph, ct)
    beams = _beams(real, setup)
    shown = dict(zip(beams, render_radiographs(ct, (beams["ap"], beams["lateral"]), patient.name), strict=True))
    for name, film in real.items():
        shown[name] = replace(shown[name], valid=film.valid, scale_known=film.scale_known) if drrs else film
    pair = (shown["ap"], shown["lateral"])
    case = case_of_scan(*_dataset_and_name(patient, drrs), ct, pair, model_grid, labels, patient.scan.read)
    if case.mask.mean() < MIN_KNOWN:
        center = ", ".join(f"{mm:.0f}" for mm in case.grid.center_lps)
        raise ValueError(
            f"the CT fills {case.mask.mean():.0%} of the cube about the X-rays' isocentre ({center}), accepted are "
            f"{MIN_KNOWN:.0%} or more"
        )
    return case


def at_height_of(grid: VolumeGrid, fans: Mapping[str, Radiograph]) -> dict[str, Radiograph]:
    """The same X-rays and rays about an isocentre in the middle of what CT and fans share of the patient's height: a fan passes
    all heights, and a scout's middle may be far from the CT. Raises ValueError if they share none."""
    upright = axis_aligned_grid(grid, 1.0)  # however the scan is stored
    low, high = upright.origin_lps[2], upright.origin_lps[2] + upright.size[0] - 1.0
    for radiograph in fans.values():
        beam = radiograph.geometry
        half_mm = (beam.detector_size[0] - 1) * beam.patient_spacing_mm[0] / 2  # rows run straight toward the feet
        middle = beam.isocenter_lps[2] + beam.principal_point[0] * beam.patient_spacing_mm[0] - half_mm
        low, high = max(low, middle - half_mm), min(high, middle + half_mm)
    if low >= high:
        raise ValueError("the X-rays show nothing of the CT: their heights have none in common")
    return {name: replace(r, geometry=_about(r.geometry, (low + high) / 2)) for name, r in fans.items()}


def _about(fan: Beam, z_mm: float) -> Beam:
    """The same rays with the isocentre at another height."""
    x, y, _ = fan.isocenter_lps
    row, column = fan.project_points(np.array([[x, y, z_mm]]))[0]
    return replace(fan, isocenter_lps=(x, y, z_mm), principal_point=(float(row), float(column)))


def _beams(real: Mapping[str, Radiograph], setup: BiplanarSetup) -> dict[str, Beam]:
    """ "ap" and "lateral", in this order: those of the real X-rays, and what `setup` has for one that there is not."""
    first = next(iter(real.values())).geometry
    usual = dict(zip(NAMES_OF_VIEWS, setup.beams(first.isocenter_lps), strict=True))
    return {name: real[name].geometry if name in real else as_kind(usual[name], first.KIND) for name in NAMES_OF_VIEWS}


def _check_agreement(radiograph: Radiograph, ct: CtVolume) -> None:
    small = radiograph.resized(patient_spacing_mm=AGREEMENT_MM)
    drr = project(hu_to_mu(torch.from_numpy(ct.hu)), ct.grid, small.geometry).numpy()
    hu, grid = without_padding(ct.hu, ct.grid)
    seen = small.valid & ~crop_bands(grid, np.eye(4), small.geometry, cut_faces(hu, TISSUE_HU))
    agreement = match(drr, small.line_integral, seen).agreement
    if not agreement >= LEAST_AGREEMENT:
        raise ValueError(
            f"{radiograph.source} does not show this CT where its geometry puts it: gradient correlation with the DRR "
            f"{agreement:.2f}, accepted is {LEAST_AGREEMENT:g} or more; are isocenter_lps, view and mirrored right?"
        )


def _dataset_and_name(patient: RealPatient, drrs: bool) -> tuple[str, str]:
    """What is real of the X-rays, as figures of different kinds are never averaged, and what the case's files are called."""
    only = "" if len(patient.films) == len(NAMES_OF_VIEWS) else "".join(f"{SIDES[name]} " for name in patient.films)
    return (f"DRRs for real {only}X-rays", f"{patient.name}_drrs") if drrs else (f"real {only}X-rays", patient.name)


def _hash(radiograph: Radiograph) -> str:
    digest = hashlib.sha256(radiograph.line_integral.tobytes() + radiograph.valid.tobytes() + bytes([radiograph.scale_known]))
    return digest.hexdigest()[:16]
