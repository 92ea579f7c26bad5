"""The table of patients with real X-rays that `evaluate --real-xrays` takes: a CSV file with a row for each."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diff2ct.image_file import is_dicom
from diff2ct.landmarks import Match
from diff2ct.radiograph import Radiograph
from diff2ct_training.evaluation.cases import ct_name
from diff2ct_training.scans import Scan, find_scans, slug
from diff2ct_training.stated_film import (
    LANDMARKS,
    NAMES_OF_VIEWS,
    check_in_frame_of_ct,
    read_film,
    read_geometry,
    with_stated_landmarks,
)

REQUIRED = ("ct", "ap", "lateral")
OPTIONAL = ("name", "patient", "geometry", "ap_view", "lateral_view", "ap_frame", "lateral_frame")
PIXEL_MM = 1.0
"""At the isocentre, to which finer X-rays are averaged: half a voxel of the model."""
SIDES = {"ap": "frontal", "lateral": "lateral"}
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Film:
    """An X-ray file and what the table states of it, as `stated_film.read_film` takes it."""

    path: Path
    view: str | None = None
    frame: int | None = None
    geometry: Mapping[str, Any] = field(default_factory=dict)

    def read(self, name: str) -> Radiograph:
        """The X-ray called `name`. Raises ValueError if it is of the other view or not placed in the frame of the CT."""
        radiograph = read_film(name, self.path, self.view, self.frame, self.geometry, option="column {}_{}")
        view = radiograph.geometry.view
        if view.is_lateral != (name == "lateral"):
            raise ValueError(f"{radiograph.source} is {view.value}, accepted as {name} is a {SIDES[name]} X-ray")
        check_in_frame_of_ct(radiograph)
        return radiograph


@dataclass(frozen=True, kw_only=True)
class RealPatient:
    """A row of the table. name: of the case and its files; stated: as the table has it. patient: whose it is, empty for one of
    whom there is no other row. films: by name of the view, one or both."""

    name: str
    stated: str
    patient: str
    scan: Scan
    films: Mapping[str, Film]

    def read(self) -> tuple[dict[str, Radiograph], Match | None]:
        """(the X-rays by name, with pixels of `PIXEL_MM`; what landmarks in both have changed)."""
        films = {name: film.read(name) for name, film in self.films.items()}
        stated = {name: film.geometry for name, film in self.films.items()}
        match = None
        if len(films) == len(NAMES_OF_VIEWS):
            films["ap"], films["lateral"], match = with_stated_landmarks(films["ap"], films["lateral"], stated)
        else:
            for name in (name for name, geometry in stated.items() if LANDMARKS in geometry):
                raise ValueError(f"geometry: {LANDMARKS} of {name}: it is the only X-ray, accepted are those of two")
        return {name: film.resized(patient_spacing_mm=PIXEL_MM) for name, film in films.items()}, match


def read_table(table: Path, label_scheme: str | None = None) -> list[RealPatient]:
    """The rows of a CSV file with the columns `REQUIRED` and any of `OPTIONAL`; paths are relative to it.

    ct: a file, a folder with one CT, or one DICOM file of a series among others. ap, lateral: X-rays, one of which may be left
    empty. name: default the CT's. patient: where one has several rows. geometry: a JSON file as for `diff2ct reconstruct`.
    Others: where the X-ray does not tell. label_scheme: of the numbers in label maps beside the CTs.

    Raises ValueError with all rows in which something is missing or not known.
    """
    patients, wrong = [], []
    for line, row in _rows(table):
        try:
            patients.append(_patient(row, table.parent, label_scheme))
        except ValueError as error:
            wrong.append(f"line {line}: {error}")
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(f"--real-xrays: {table.name}, {'; '.join(wrong[:_SHOWN])}{more}")
    twice = [name for name, count in Counter(patient.name for patient in patients).items() if count > 1]
    if twice:
        raise ValueError(
            f"--real-xrays: {table.name} has several rows called {', '.join(twice)}; accepted is one each, as the column name "
            "may say"
        )
    return patients


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, values by column) of all rows that hold something."""
    accepted = f"accepted is CSV in UTF-8, separated by commas, with the columns {', '.join(REQUIRED)} and, if wanted, "
    accepted += ", ".join(OPTIONAL)
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            columns = [column.strip() for column in next(reader, [])]
            rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--real-xrays: {table} cannot be read ({error}); {accepted}") from error
    rows = [(line, row) for line, row in rows if any(row)]
    known = set(REQUIRED) <= set(columns) <= {*REQUIRED, *OPTIONAL} and len(set(columns)) == len(columns)
    if not known or not rows:
        raise ValueError(f"--real-xrays: {table} has {len(rows)} rows with the columns {', '.join(columns)}; {accepted}")
    for line, row in rows:
        if any(row[len(columns) :]):
            raise ValueError(f"--real-xrays: {table.name}, line {line}: {len(row)} values for {len(columns)} columns")
    return [(line, dict(zip(columns, row, strict=False))) for line, row in rows]


def _patient(row: Mapping[str, str], folder: Path, label_scheme: str | None) -> RealPatient:
    paths = {name: folder / row[name] for name in (*REQUIRED, "geometry") if row.get(name)}
    for column, path in paths.items():
        if not path.exists():
            raise ValueError(f"{column}: {path}: no such file")
    if "ct" not in paths or not set(NAMES_OF_VIEWS) & set(paths):
        raise ValueError("accepted is a ct with ap, lateral or both")
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
    name = row.get("name") or ct_name(paths["ct"])
    scan = _scan(paths["ct"], label_scheme)
    return RealPatient(name=slug(name), stated=name, patient=row.get("patient", ""), scan=scan, films=films)


def _scan(path: Path, label_scheme: str | None) -> Scan:
    """The CT in a file or folder, or the series that a DICOM file is of."""
    one_slice = path.is_file() and is_dicom(path)
    scans, rejected = find_scans(path.parent if one_slice else path, label_scheme=label_scheme)
    if one_slice:
        scans = [scan for scan in scans if path in scan.files]
    if len(scans) == 1:
        return scans[0]
    if scans:
        listed = ", ".join(f"{scan.files[0]} ({len(scan.files)} files)" for scan in scans[:_SHOWN])
        raise ValueError(f"ct: {len(scans)} CTs in {path}, accepted is one; name a file of the wanted one, such as {listed}")
    reasons = "; ".join(f"{one.source}: {one.reason}" for one in rejected[:3])
    raise ValueError(f"ct: no CT in {path}{f' ({reasons})' if reasons else ''}")


def _frame(column: str, text: str) -> int | None:
    if text and not text.isdecimal():
        raise ValueError(f"{column}: got {text!r}, accepted is a frame's number, from 0")
    return int(text) if text else None
