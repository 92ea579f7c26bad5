"""CTs and phantoms -> prepared cases (see `cases`), a manifest with checksums and a quality report.

Restartable: each case appears whole or not at all, and what is there already, made in the same way, is not made again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.phantom import make_phantom
from diff2ct.units import HU_AIR
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import inside_grid, resample
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views, acquisition_path, write_acquisition
from diff2ct_training.case_origin import Source, WantedCase, is_made
from diff2ct_training.cases import (
    BODY,
    CROPPED,
    UNSCANNED,
    Case,
    describe_case,
    list_cases,
    phantom_origin,
    read_case,
    write_case,
)
from diff2ct_training.ct_screws import insert_screws
from diff2ct_training.film_style import FilmStyle, acquire_styled_views
from diff2ct_training.framing import SPACING_MM, acquired_spacing, axis_aligned_grid, body_center, cube_around, cut_grid
from diff2ct_training.labels import NUMBERS, center_of, read_label_files
from diff2ct_training.parallel import Failed, run_all
from diff2ct_training.phantom_seeds import phantom_case_name, phantom_split
from diff2ct_training.prepare_pictures import write_pictures
from diff2ct_training.prepare_report import write_manifest, write_reports
from diff2ct_training.quality import measure
from diff2ct_training.scanner_table import find_body, without_table
from diff2ct_training.scans import Rejected, Scan, check_names
from diff2ct_training.splits import PAPER_SPLIT, SplitRule
from diff2ct_training.warp import Warp, random_warp, warp
from diff2ct_training.xray_origin import keep_wanted_xrays, xrays_made_by

VERSION = 1
"""Part of every case's `made_by`. Raise it when the same source and options come to give another case."""
SCREW_SHARE = 0.4
"""Part of a CT's bent copies that get pedicle screws, if nothing else is said."""
OnCase = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """How scans become cases.

    num_variants: cases per training patient's scan: itself and randomly bent and scaled copies. screw_share: part of the copies
    that get pedicle screws, 0 to 1, a function of the name which; with `num_variants` 1 part of the scans themselves. None for
    `SCREW_SHARE` of the copies and of no scan.
    center: "body", or a vertebra such as "L3" from the label maps: around it training places the isocentre.
    crop: keep only the 128^3 cube around that centre, as the paper does; X-rays are then of the cube alone.
    clip_hu: lowest and highest HU kept. remove_table: everything outside the body becomes air.
    """

    num_variants: int = 1
    screw_share: float | None = None
    center: str = BODY
    crop: bool = False
    clip_hu: tuple[int, int] = (-1024, 4096)
    remove_table: bool = False

    def __post_init__(self) -> None:
        if self.num_variants < 1:
            raise ValueError(f"num_variants: got {self.num_variants}, accepted is 1 or more")
        if self.screw_share is not None and not 0 <= self.screw_share <= 1:
            raise ValueError(f"screw_share: got {self.screw_share}, accepted is 0 to 1")
        if self.center not in (BODY, *NUMBERS):
            raise ValueError(f"center: got {self.center!r}, accepted are {BODY}, {', '.join(NUMBERS)}")
        low, high = self.clip_hu
        if not UNSCANNED < low < high <= 32767 or low > -500 or high < 500:
            raise ValueError(f"clip_hu: got {low} to {high}, accepted are a lowest HU up to -500 and a highest from 500 on")

    def screws_for(self, variant: int) -> float:
        """The chance that this variant gets screws."""
        if self.num_variants == 1:
            return self.screw_share or 0.0
        return (SCREW_SHARE if self.screw_share is None else self.screw_share) if variant else 0.0

    def describe(self, variant: int) -> str:
        """All that decides variant `variant`, but for the scan, as text."""
        parts = [f"v{VERSION}", f"{SPACING_MM:g} mm", f"HU {self.clip_hu[0]} to {self.clip_hu[1]}", f"centre {self.center}"]
        parts += [CROPPED] * self.crop + ["no table"] * self.remove_table + [f"variant {variant}"] * bool(variant)
        share = self.screws_for(variant)
        return ", ".join(parts + [f"screws {share:g}"] * bool(share))


@dataclass(frozen=True, kw_only=True)
class ScanTask:
    """A scan and those of its cases, with the number of the variant, that are to be made."""

    folder: Path
    scan: Scan
    options: CaseOptions
    cases: tuple[tuple[int, WantedCase], ...]


@dataclass(frozen=True, kw_only=True)
class PhantomTask:
    folder: Path
    seed: int
    options: CaseOptions


@dataclass(frozen=True, kw_only=True)
class XrayTask:
    """A case and those of its acquisitions (numbers) that are to be rendered."""

    json_file: Path
    numbers: tuple[int, ...]
    config: AcquisitionConfig
    grid: VolumeGrid
    style: FilmStyle | None
    made_by: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """cases: names of all that were asked for and are there. rejected: what was found and not prepared."""

    cases: list[str]
    rejected: list[Rejected]


def prepare(
    folder: Path,
    *,
    scans: Sequence[Scan] = (),
    rejected: Sequence[Rejected] = (),
    phantom_seeds: Sequence[int] = (),
    split: SplitRule | None = None,
    options: CaseOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_case: OnCase | None = None,
) -> Prepared:
    """Prepare all into `folder`, with manifest.csv, report.csv and report.md (see `prepare_report`) and pictures of the CTs.

    scans, rejected: as `find_scans` gives them. A scan that cannot be prepared is rejected with the reason; the others go on.
    split: default the paper's 212 to 56. overwrite: make those cases again that are there but were made in another way, which
    is an error otherwise.
    """
    options, split = options or CaseOptions(), split or SplitRule.parse(PAPER_SPLIT)
    check_names(scans)
    tasks: list[ScanTask | PhantomTask] = []
    wanted: list[tuple[str, str]] = []  # (case, source)
    out = list(rejected)
    for scan in scans:
        try:
            where = split.split_of(scan.patient, scan.official_split)
        except ValueError as error:
            out.append(Rejected(scan.source, str(error)))
            continue
        cases = _wanted_of(scan, where, options)
        wanted += [(case.name, scan.source) for case in cases]
        try:
            missing = tuple((n, case) for n, case in enumerate(cases) if not is_made(folder, case, overwrite=overwrite))
        except OSError as error:
            out.append(Rejected(scan.source, f"cannot be read: {error}"))
            continue
        if missing:
            tasks.append(ScanTask(folder=folder, scan=scan, options=options, cases=missing))
        elif on_case is not None:
            on_case(scan.source)
    for seed in phantom_seeds:
        name = phantom_case_name(seed)
        wanted.append((name, ""))
        case = WantedCase(name=name, made_by=options.describe(0), split=phantom_split(seed), patient=name)
        if not is_made(folder, case, overwrite=overwrite):
            tasks.append(PhantomTask(folder=folder, seed=seed, options=options))
        elif on_case is not None:
            on_case(name)

    for task, result in run_all(_prepare, tasks, workers):
        what = task.scan.source if isinstance(task, ScanTask) else phantom_case_name(task.seed)
        if isinstance(result, Failed):
            out.append(Rejected(what, result.reason))
        if on_case is not None:
            on_case(what)
    bad = {one.source for one in out}
    folder.mkdir(parents=True, exist_ok=True)
    write_pictures(folder)
    write_reports(folder, out, {scan.source for scan in scans})
    return Prepared([name for name, source in wanted if source not in bad and (source or name not in bad)], out)


def prepare_xrays(
    folder: Path,
    count: int,
    config: AcquisitionConfig,
    grid: VolumeGrid,
    *,
    style: FilmStyle | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_case: OnCase | None = None,
) -> int:
    """X-ray every training and validation case in `folder` in `count` random ways for a recipe's `config` and model `grid`, so
    that training need not render; returns how many that is. style: of a part of them, None for the recipe's detectors alone.
    overwrite: render those again that are stored but were made in another way, which is an error otherwise."""
    made_by = xrays_made_by(config, grid, style)
    files = [file for file in list_cases(folder) if describe_case(file)["split"] != "test"]
    tasks, is_removed = [], False
    for file in files:
        is_removed |= keep_wanted_xrays(folder, file.stem, made_by, overwrite=overwrite)
        missing = tuple(n for n in range(count) if not acquisition_path(folder, file.stem, n).exists())
        if missing:
            tasks.append(XrayTask(json_file=file, numbers=missing, config=config, grid=grid, style=style, made_by=made_by))
        elif on_case is not None:
            on_case(file.stem)
    for task, result in run_all(_render_xrays, tasks, workers):
        if isinstance(result, Failed):
            raise ValueError(f"{task.json_file.stem}: {result.reason}")
        if on_case is not None:
            on_case(task.json_file.stem)
    if tasks or is_removed:
        write_manifest(folder)
    return count * len(files)


def _wanted_of(scan: Scan, split: str, options: CaseOptions) -> list[WantedCase]:
    """The cases of a scan, itself and its bent copies. Label maps decide those that have labels or are centred by them."""
    plain, labelled = Source(scan.files), Source(scan.files, scan.labels)
    return [
        WantedCase(
            name=f"ct_{scan.name}_{n:03d}",
            made_by=options.describe(n),
            split=split,
            patient=scan.patient,
            source=labelled if n == 0 or options.center != BODY else plain,
        )
        for n in range(options.num_variants if split == "train" else 1)
    ]


def _prepare(task: ScanTask | PhantomTask) -> None:
    if isinstance(task, PhantomTask):
        _prepare_phantom(task)
    else:
        _prepare_scan(task)


def _prepare_phantom(task: PhantomTask) -> None:
    """The phantom of a seed from end to end of its body."""
    name, options = phantom_case_name(task.seed), task.options
    phantom = make_phantom(task.seed)
    image = phantom.render(phantom.body_grid(SPACING_MM))
    center = (0.0, 0.0, 0.0) if options.center == BODY else center_of(image.labels, image.hu.grid, options.center)
    case = Case(
        name=name,
        kind="phantom",
        hu=image.hu.hu.clip(*options.clip_hu).round(),
        grid=image.hu.grid,
        center_lps=center,
        source=phantom_origin(task.seed),
        screws=tuple(screw.to_dict() for screw in phantom.screws),
        patient=name,
        split=phantom_split(task.seed),
        centered_on=options.center,
        record={"made_by": options.describe(0), "dataset": "phantom", "variant": 0},
    )
    _write(task.folder, case, image.labels, crop=options.crop)


def _prepare_scan(task: ScanTask) -> None:
    """Read the scan, measure it, bring it to the 2 mm grid, and write its cases."""
    scan, options = task.scan, task.options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        native = scan.read()
        whole = resample(native, axis_aligned_grid(native.grid, SPACING_MM))
        labels = read_label_files(scan.labels, whole.grid) if scan.labels else None
    unscanned = ~inside_grid(native, whole.grid)
    body = find_body(whole)
    quality = measure(native, whole, body, scan.contrast_agent)
    quality["warnings"] = [str(one.message) for one in caught]
    if options.remove_table:
        whole = without_table(whole, body)
    if options.center != BODY:
        if labels is None:
            raise ValueError(f"no {options.center} to centre on: it has no label map, or one without --label-scheme")
        stated = center_of(labels, whole.grid, options.center)
    for n, wanted in task.cases:
        name = wanted.name
        rng = np.random.default_rng([n, *name.encode()])
        bending = random_warp(rng, whole.hu.shape) if n else None
        ct = whole if bending is None else CtVolume(warp(whole.hu, bending), whole.grid)
        if options.center == BODY:
            center = body_center(ct)
        elif bending is None or labels is None:
            center = stated
        else:
            center = center_of(_bent_labels(labels, options.center, bending), whole.grid, options.center)
        screws: tuple[dict[str, Any], ...] = ()
        rng = np.random.default_rng([n, *f"{name} screws".encode()])
        if rng.random() < options.screws_for(n):
            ct, inserted = insert_screws(ct, rng)
            screws = tuple(screw.to_dict() for screw in inserted)
        never = unscanned if bending is None else _bent_mask(unscanned, bending)
        case = Case(
            name=name,
            kind="ct",
            hu=np.where(never, UNSCANNED, ct.hu.clip(*options.clip_hu).round()),
            grid=ct.grid,
            center_lps=center,
            source=scan.source,
            screws=screws,
            patient=wanted.patient,
            split=wanted.split,
            centered_on=options.center,
            record={
                "made_by": wanted.made_by,
                "dataset": scan.dataset,
                "variant": n,
                **(wanted.source.record() if wanted.source else {}),
                "unscanned_share": round(float(never.mean()), 4),
                **acquired_spacing(native.grid),
                "quality": quality,
            },
        )
        _write(task.folder, case, None if n else labels, crop=options.crop)


def _bent_labels(labels: np.ndarray, structure: str, bending: Warp) -> np.ndarray:
    """The label map with only `structure` in it, bent as the scan was."""
    return np.where(_bent_mask(labels == NUMBERS[structure], bending), NUMBERS[structure], 0)


def _bent_mask(mask: np.ndarray, bending: Warp) -> np.ndarray:
    """A (D, H, W) mask bent as the scan was, False where it moves in from beside the scan."""
    return warp(np.where(mask, np.float32(0), np.float32(HU_AIR)), bending) > HU_AIR / 2


def _write(folder: Path, case: Case, labels: np.ndarray | None, *, crop: bool) -> None:
    if crop:
        cut = cube_around(case.grid, case.center_lps)
        case = replace(case, hu=case.hu[cut], grid=cut_grid(case.grid, cut))
        labels = None if labels is None else labels[cut]
    write_case(folder, case, labels)


def _render_xrays(task: XrayTask) -> None:
    case, folder = read_case(task.json_file), task.json_file.parent
    for n in task.numbers:
        rng = np.random.default_rng([n, 1, *case.name.encode()])
        if task.style is None:
            acquisition = acquire_views(case, rng, task.config, task.grid)
        else:
            acquisition = acquire_styled_views(case, rng, task.config, task.grid, task.style)
        write_acquisition(folder, n, acquisition, task.made_by)
