"""Real X-rays of patients whose CT is known in the same frame of reference: what a reconstruction is worth outside the DRRs
that it has learnt from.

Each patient is two cases: the X-rays as they are, and DRRs of the CT along the very same rays in their place. What the second
loses is what two views cannot tell; what the first loses beside it is what scatter, detectors, processing and a pose that is
not quite right cost. Scouts serve, whose headers place them in the frame of their CT, and films after a 2D/3D registration.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.geometry import Beam, as_kind
from diff2ct.overlay import crop_bands, match
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.told import told
from diff2ct.units import hu_to_mu
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
from diff2ct_training.labels import TOTALSEGMENTATOR, LabelFile
from diff2ct_training.scans import Scan, find_cts, slug
from diff2ct_training.stated_film import NAMES_OF_VIEWS, check_in_frame_of_ct, read_film, read_geometry

REQUIRED = ("ct", "ap", "lateral")
OPTIONAL = ("name", "geometry", "ap_view", "lateral_view", "ap_frame", "lateral_frame")
PIXEL_MM = 1.0
"""At the isocentre, to which finer X-rays are averaged, as are the DRRs in their place: half a voxel of the model."""
AGREEMENT_MM, MIN_AGREEMENT = 3.0, 0.35
"""Gradient correlation of X-ray and DRR (`overlay.match`), in pixels of so many mm, below which an X-ray is not taken for one
of this CT in its place. A real scout has 0.75 over its CT, 5 mm beside it 0.51, 10 mm 0.34, and mirrored 0.29."""
SIDES = {"ap": "frontal", "lateral": "lateral"}


@dataclass(frozen=True, kw_only=True)
class Film:
    """An X-ray file and what the table states of it, as `stated_film.read_film` takes it."""

    path: Path
    view: str | None = None
    frame: int | None = None
    geometry: Mapping[str, Any] = field(default_factory=dict)

    def read(self, name: str) -> Radiograph:
        """The X-ray called `name`, with pixels of `PIXEL_MM`. Raises ValueError if it is not placed in the frame of the CT."""
        radiograph = read_film(name, self.path, self.view, self.frame, self.geometry, option="column {}_{}")
        check_in_frame_of_ct(radiograph)
        return radiograph.resized(patient_spacing_mm=PIXEL_MM)


@dataclass(frozen=True)
class RealPatient:
    """A row of the table. films: by name of the view, one or both."""

    name: str
    scan: Scan
    films: Mapping[str, Film]


@dataclass(frozen=True)
class PlannedXrays:
    """remarks: sentences about what is odd or assumed in the X-rays, with the patient's name."""

    cases: list[PlannedCase]
    remarks: list[str]


def plan_real_xrays(
    table: Path,
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    label_folder: Path | None = None,
    scheme: str = TOTALSEGMENTATOR,
) -> PlannedXrays:
    """The cases of a CSV file with the columns `REQUIRED` and any of `OPTIONAL`, two for each row; paths are relative to it.

    ct: a file or a folder with one CT. ap, lateral: the X-rays; where one of both is left empty, a DRR about the other's
    isocentre stands in for it, as `setup` has it and by the same kind of beam. name: default the CT's; the case with DRRs is
    called NAME_drrs. geometry: a JSON file as for `diff2ct reconstruct`. Others: where the X-ray does not tell. label_folder,
    scheme: as in `plan_cts`.

    Raises ValueError, naming the row, on what cannot be read or is not placed in the CT's frame of reference.
    """
    cases, remarks = [], []
    for patient in read_table(table):
        try:
            real = {name: film.read(name) for name, film in patient.films.items()}
            beams = _beams(real, setup)
        except ValueError as error:
            raise ValueError(f"--real-xrays: {patient.name}: {error}") from None
        found = told(list(real.values()))
        remarks += [f"{patient.name}: {sentence}" for sentence in (*found.warnings, *found.doubts)]
        labels, known = labels_for(patient.name, label_folder, scheme, patient.scan)
        ct = fingerprint(patient.scan.path, patient.scan.files if patient.scan.series_uid else ())
        seen = ", ".join(f"{name} {_hash(radiograph)}" for name, radiograph in real.items())
        rays = ", ".join(str(beam.to_dict()) for beam in beams.values())
        identity = f"CT {ct}{known} on {describe_grid(model_grid)}, X-rays {seen}, rays {rays}"
        for drrs in (False, True):
            make = partial(real_case, patient, model_grid, setup, labels, drrs=drrs)
            planned = PlannedCase(*_dataset_and_name(patient, drrs), f"{identity}{', as DRRs' * drrs}", make)
            cases.append(replace(planned, patient=patient.scan.patient, files=patient.scan.files, has_labels=bool(labels)))
    return PlannedXrays(cases, remarks)


def real_case(
    patient: RealPatient, model_grid: VolumeGrid, setup: BiplanarSetup, labels: tuple[LabelFile, ...], *, drrs: bool
) -> EvaluationCase:
    """The patient with the X-rays as they are, or with DRRs along the same rays. Raises ValueError if an X-ray does not show
    this CT where its geometry puts it."""
    ct = patient.scan.read()
    real = {name: film.read(name) for name, film in patient.films.items()}
    beams = _beams(real, setup)
    rendered = dict(zip(beams, render_radiographs(ct, (beams["ap"], beams["lateral"]), patient.name), strict=True))
    for radiograph in real.values():
        _check_agreement(radiograph, ct)
    first, second = (rendered if drrs else {**rendered, **real}).values()
    return case_of_scan(*_dataset_and_name(patient, drrs), ct, (first, second), model_grid, labels)


def read_table(table: Path) -> list[RealPatient]:
    """The rows of a CSV file as `plan_real_xrays` takes it. Raises ValueError with the row on what is missing or not known."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--real-xrays: {table} cannot be read as CSV ({error})") from error
    unknown = [column for column in columns if column not in (*REQUIRED, *OPTIONAL)]
    if unknown or not set(REQUIRED) <= set(columns) or not rows:
        accepted = f"accepted are {', '.join(REQUIRED)} and, if wanted, {', '.join(OPTIONAL)}"
        raise ValueError(f"--real-xrays: {table} has {len(rows)} rows with the columns {', '.join(columns)}; {accepted}")
    patients = []
    for number, row in enumerate(rows, start=1):
        try:
            patients.append(_patient(row, table.parent))
        except ValueError as error:
            raise ValueError(f"--real-xrays: {table.name}, row {number}: {error}") from None
    return patients


def _patient(row: Mapping[str, str], folder: Path) -> RealPatient:
    paths = {name: folder / row[name] for name in (*REQUIRED, "geometry") if row.get(name)}
    for column, path in paths.items():
        if not path.exists():
            raise ValueError(f"{column}: {path}: no such file")
    if "ct" not in paths or not set(NAMES_OF_VIEWS) & set(paths):
        raise ValueError("accepted is a ct with ap, lateral or both")
    scans, _ = find_cts(paths["ct"])
    if len(scans) > 1:
        raise ValueError(f"ct: {len(scans)} CTs in {paths['ct']}, accepted is one")
    stated = read_geometry(paths.get("geometry"))
    films = {
        name: Film(
            path=paths[name],
            view=row.get(f"{name}_view") or None,
            frame=_frame(f"{name}_frame", row.get(f"{name}_frame", "")),
            geometry=stated.get(name, {}),
        )
        for name in NAMES_OF_VIEWS
        if name in paths
    }
    return RealPatient(slug(row.get("name") or ct_name(paths["ct"])), scans[0], films)


def _frame(column: str, text: str) -> int | None:
    if text and not text.isdecimal():
        raise ValueError(f"{column}: got {text!r}, accepted is a frame's number, from 0")
    return int(text) if text else None


def _beams(real: Mapping[str, Radiograph], setup: BiplanarSetup) -> dict[str, Beam]:
    """ "ap" and "lateral", in this order: those of the real X-rays, and what `setup` has for one that there is not."""
    for name, radiograph in real.items():
        view = radiograph.geometry.view
        if view.is_lateral != (name == "lateral"):
            raise ValueError(f"{radiograph.source} is {view.value}, accepted as {name} is a {SIDES[name]} X-ray")
    first = next(iter(real.values())).geometry
    usual = dict(zip(NAMES_OF_VIEWS, setup.beams(first.isocenter_lps), strict=True))
    return {name: real[name].geometry if name in real else as_kind(usual[name], first.KIND) for name in NAMES_OF_VIEWS}


def _check_agreement(radiograph: Radiograph, ct: CtVolume) -> None:
    small = radiograph.resized(patient_spacing_mm=AGREEMENT_MM)
    drr = project(hu_to_mu(torch.from_numpy(ct.hu)), ct.grid, small.geometry).numpy()
    seen = small.valid & ~crop_bands(ct.grid, np.eye(4), small.geometry)
    agreement = match(drr, small.line_integral, seen).agreement
    if not agreement >= MIN_AGREEMENT:
        raise ValueError(
            f"{radiograph.source} does not show this CT where its geometry puts it: gradient correlation with the DRR "
            f"{agreement:.2f}, accepted is {MIN_AGREEMENT:g} or more; are isocenter_lps, view and mirrored right?"
        )


def _dataset_and_name(patient: RealPatient, drrs: bool) -> tuple[str, str]:
    """What is real of the X-rays, as figures of different kinds are never averaged, and what the case's files are called."""
    only = "" if len(patient.films) == len(NAMES_OF_VIEWS) else "".join(f"{SIDES[name]} " for name in patient.films)
    return (f"DRRs for real {only}X-rays", f"{patient.name}_drrs") if drrs else (f"real {only}X-rays", patient.name)


def _hash(radiograph: Radiograph) -> str:
    digest = hashlib.sha256(radiograph.line_integral.tobytes() + radiograph.valid.tobytes())
    return digest.hexdigest()[:16]
