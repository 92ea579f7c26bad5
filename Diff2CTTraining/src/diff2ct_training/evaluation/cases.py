"""Patients to be evaluated on: phantoms, CT files and prepared cases. Datasets are never averaged together.

X-rays are rendered from the whole body or scan; the truth is on the model grid around their isocentre, known only where the
scan has data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from diff2ct.metaimage import files_of
from diff2ct.phantom import PedicleScrew, make_phantom
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import grid_around_isocenter
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import inside_grid, read_ct, resample
from diff2ct_training.acquisitions import coarsened
from diff2ct_training.case_origin import Source
from diff2ct_training.cases import UNSCANNED, describe_case, filled, labels_file, phantom_origin, read_case, read_labels
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.labels import find_labels, labels_on_grid, vertebrae_of
from diff2ct_training.framing import acquired_spacing, body_center, on_voxels
from diff2ct_training.labels import TOTALSEGMENTATOR, LabelFile, read_label_files
from diff2ct_training.parallel import Caught, Failed
from diff2ct_training.phantom_seeds import TEST_SEEDS, phantom_name
from diff2ct_training.scans import Rejected, Scan, find_cts
from diff2ct_training.scoring.grid_ceiling import part_in

PHANTOMS, REAL_CTS = "phantoms", "real CTs"


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """One patient. truth: on the model grid. mask: (D, H, W) bool, where the truth is known.

    labels: (D, H, W) uint8 vertebra numbers, 0 elsewhere. screws: all that are in the truth. Both None where not known.
    spacing_mm: (in-plane, between slices) of the original scan; None for phantoms, which have none. read_scan: reads the
    original voxels in the cube, often some 200 MB, or None where they are too few; None for phantoms, and for prepared cases,
    whose truth was made of other voxels.
    """

    dataset: str
    name: str
    radiographs: tuple[Radiograph, Radiograph]
    truth: CtVolume
    mask: np.ndarray
    labels: np.ndarray | None = None
    screws: tuple[PedicleScrew, ...] | None = None
    spacing_mm: tuple[float, float] | None = None
    read_scan: Callable[[], CtVolume | None] | None = None

    @property
    def grid(self) -> VolumeGrid:
        return self.truth.grid


Make = Callable[[], EvaluationCase]


@dataclass(frozen=True, eq=False)
class PlannedCase:
    """A case that is rendered when it is needed. identity: everything that decides what it is, as text. patient: whose it is,
    empty for one of whom there is nothing else. origin: what tells it from others wherever it lies, SHA-256 or
    `phantom_origin`; empty for a CT of these `files`, or where nobody knows. has_labels: None for one that no label maps can
    be given for. has_scan: it has `EvaluationCase.read_scan`."""

    dataset: str
    name: str
    identity: str
    make: Make
    patient: str = ""
    origin: str = ""
    files: tuple[Path, ...] = ()
    has_labels: bool | None = None
    has_scan: bool = False


def made(make: Make) -> EvaluationCase | Failed:
    """A case, or why there is none: its file is damaged, or too large."""
    return Caught(_call)(make)


def _call(make: Make) -> EvaluationCase:
    return make()


def plan_phantom(seed: int, model_grid: VolumeGrid, setup: BiplanarSetup) -> PlannedCase:
    """`phantom_case`, later."""
    identity = f"{phantom_origin(seed)} on {describe_grid(model_grid)}, X-rays {setup.describe()}"
    make = partial(phantom_case, seed, model_grid, setup)
    return PlannedCase(PHANTOMS, phantom_name(seed), identity, make, origin=phantom_origin(seed))


def plan_cts(
    roots: Iterable[Path],
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    label_folder: Path | None = None,
    scheme: str = TOTALSEGMENTATOR,
) -> tuple[list[PlannedCase], list[Rejected]]:
    """All CTs that `diff2ct prepare` would find in files and folders, and what is not taken. label_folder: with their label
    maps, None for no labels; of one that has none there those count that `prepare` would find.

    A case has the name of its file, or of the folder that is one DICOM series, if that is what was given or lies directly in
    it; else the name that it would be prepared under.
    """
    cases, rejected = [], []
    for root in roots:
        scans, refused = find_cts(root, label_scheme=scheme)
        rejected += refused
        for scan in scans:
            is_root = scan.series_uid is not None and len(scans) == 1 and scan.path == root
            near = is_root or (scan.series_uid is None and "/" not in scan.source)
            name = ct_name(scan.path) if near else scan.name
            cases.append(plan_ct(scan.path, model_grid, setup, label_folder, scheme, name=name, scan=scan))
    return cases, rejected


def plan_ct(
    path: Path,
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    label_folder: Path | None = None,
    scheme: str = TOTALSEGMENTATOR,
    *,
    name: str = "",
    scan: Scan | None = None,
) -> PlannedCase:
    """`ct_case`, later. Files count by what is in them, not by where they are. scheme: of the numbers in `label_folder`. name:
    default the file's. scan: what is known of it, for one of several DICOM series in a folder."""
    name = name or ct_name(path)
    labels, known = labels_for((name,), label_folder, scheme, scan)
    content = fingerprint(path, () if scan is None else scan.files)
    identity = f"CT {content}{known} on {describe_grid(model_grid)}, X-rays {setup.describe()}"
    make = partial(ct_case, path, model_grid, setup, labels, name=name, scan=scan)
    return PlannedCase(
        REAL_CTS,
        name,
        identity,
        make,
        patient="" if scan is None else scan.patient,
        files=scan.files if scan is not None else (path,) if path.is_file() else (),
        has_labels=bool(labels),
        has_scan=True,
    )


def labels_for(
    names: Sequence[str], label_folder: Path | None, scheme: str, scan: Scan | None
) -> tuple[tuple[LabelFile, ...], str]:
    """(label maps of a CT, what they are in words); none without a folder or if none is found. names: under which it may have
    one in the folder."""
    if label_folder is None:
        return (), ""
    for name in names:
        if (file := find_labels(label_folder, name)) is not None:
            return (LabelFile(file, scheme),), f", {scheme} labels {fingerprint(file)}"
    if scan is not None and scan.labels:
        return scan.labels, f", its own labels {Source(scan.files, scan.labels).labels_sha256[:16]}"
    return (), ""


def plan_prepared(json_file: Path, model_grid: VolumeGrid, setup: BiplanarSetup) -> PlannedCase:
    """`prepared_case`, later."""
    files = (json_file, json_file.with_suffix(".npy"), labels_file(json_file))
    content = " and ".join(fingerprint(file) for file in files if file.exists())
    identity = f"case {content} on its own voxels, {describe_grid(model_grid)}, X-rays {setup.describe()}"
    description = describe_case(json_file)
    return PlannedCase(
        prepared_dataset(description["kind"], description["split"]),
        json_file.stem,
        identity,
        partial(prepared_case, json_file, model_grid, setup),
        description["patient"],
        description["source"] if description["kind"] == "phantom" else description.get("record", {}).get("source_sha256", ""),
    )


def phantom_case(seed: int, model_grid: VolumeGrid, setup: BiplanarSetup, *, body_spacing_mm: float = 2.0) -> EvaluationCase:
    """An evaluation phantom; its isocentre is the origin of its own frame. model_grid: the cube around the origin."""
    if seed not in TEST_SEEDS:
        raise ValueError(f"seed: got {seed}, accepted are evaluation seeds 0..{TEST_SEEDS[-1]}")
    phantom = make_phantom(seed)
    name = phantom_name(seed)
    body = phantom.render(phantom.body_grid(body_spacing_mm)).hu
    radiographs = render_radiographs(body, setup.beams((0.0, 0.0, 0.0)), name)
    image = phantom.render(model_grid)
    known = np.ones(model_grid.size, dtype=bool)
    return EvaluationCase(PHANTOMS, name, radiographs, image.hu, known, image.labels, phantom.screws)


def ct_case(
    path: Path,
    model_grid: VolumeGrid,
    setup: BiplanarSetup,
    labels: tuple[LabelFile, ...] = (),
    *,
    name: str = "",
    scan: Scan | None = None,
) -> EvaluationCase:
    """A real CT; isocentre as `body_center` chooses it, scores where the scan has data. labels: its label maps. Others: as in
    `plan_ct`."""
    read = partial(read_ct, path) if scan is None else scan.read
    ct = read()
    name = name or ct_name(path)
    radiographs = render_radiographs(ct, setup.beams(body_center(ct)), name)
    return case_of_scan(REAL_CTS, name, ct, radiographs, model_grid, labels, read)


def prepared_case(json_file: Path, model_grid: VolumeGrid, setup: BiplanarSetup) -> EvaluationCase:
    """A case that `diff2ct prepare` wrote, with the screws that were put into it. The truth is what training takes for it:
    voxels of the case, or means of whole blocks of them, to which the isocentre moves by less than a voxel."""
    stored, labels = read_case(json_file), read_labels(json_file)
    dataset = prepared_dataset(stored.kind, stored.split)
    center = on_voxels(stored.center_lps, stored.grid, model_grid)
    radiographs = render_radiographs(CtVolume(filled(stored.hu), stored.grid), setup.beams(center), stored.name)
    grid = grid_around_isocenter(model_grid, radiographs)
    seen = coarsened(stored, grid, aligned=True)
    case = _truth_on_grid(dataset, stored.name, CtVolume(filled(seen.hu), seen.grid), radiographs, grid)
    screws = tuple(PedicleScrew.from_dict(screw) for screw in stored.screws)
    spacings = [stored.record.get(name) for name in ("pixel_spacing_mm", "slice_spacing_mm")]
    never = labels_on_grid(np.asarray(seen.hu == UNSCANNED), seen.grid, case.grid)
    return replace(
        case,
        mask=case.mask & ~never,
        labels=None if labels is None else vertebrae_of(labels_on_grid(labels, stored.grid, case.grid)),
        screws=screws if screws or stored.kind == "phantom" else None,  # what a patient brought along is not known
        spacing_mm=None if None in spacings else (float(spacings[0]), float(spacings[1])),  # type: ignore[arg-type]
    )


def prepared_dataset(kind: str, split: str) -> str:
    return f"{'phantoms' if kind == 'phantom' else 'CTs'}, {split} split"


def case_of_scan(
    dataset: str,
    name: str,
    scan: CtVolume,
    radiographs: tuple[Radiograph, Radiograph],
    model_grid: VolumeGrid,
    labels: tuple[LabelFile, ...],
    read: Callable[[], CtVolume],
) -> EvaluationCase:
    """A case whose truth is a scan as `read` gave it, on `model_grid` moved to the radiographs' isocentre."""
    case = _truth_on_grid(dataset, name, scan, radiographs, grid_around_isocenter(model_grid, radiographs))
    spacing = acquired_spacing(scan.grid)
    return replace(
        case,
        labels=vertebrae_of(read_label_files(labels, case.grid)) if labels else None,
        spacing_mm=(spacing["pixel_spacing_mm"], spacing["slice_spacing_mm"]),
        read_scan=partial(_read_part, read, case.grid),
    )


def _read_part(read: Callable[[], CtVolume], grid: VolumeGrid) -> CtVolume | None:
    return part_in(read(), grid)


def _truth_on_grid(
    dataset: str, name: str, scan: CtVolume, radiographs: tuple[Radiograph, Radiograph], grid: VolumeGrid
) -> EvaluationCase:
    return EvaluationCase(dataset, name, radiographs, resample(scan, grid), inside_grid(scan, grid))


def describe_grid(grid: VolumeGrid) -> str:
    return f"{' x '.join(map(str, grid.size))} voxels of {' x '.join(f'{mm:g}' for mm in grid.spacing_mm)} mm"


def fingerprint(path: Path, files: Sequence[Path] = ()) -> str:
    """First 16 hex digits of the SHA-256 of a file (a MetaImage: with its voxels) or of all files in a folder with names.
    files: these alone, in the folder or beside the file."""
    files = files or (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else files_of(path))
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path) if file.is_relative_to(path) else file.name
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def ct_name(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
