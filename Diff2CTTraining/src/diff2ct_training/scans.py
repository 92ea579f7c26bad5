"""Which files below a folder are CTs, which are their label maps, and whose they are, in the layouts of public data sets.

Known layouts (paths as their publishers give them):
* totalsegmentator  sNNNN/ct.nii.gz, sNNNN/segmentations/STRUCTURE.nii.gz, meta.csv; patient = sNNNN
* verse             rawdata/sub-ID/*_ct.nii.gz, derivatives/sub-ID/*_seg-vert_msk.nii.gz; patient = sub-ID, also of VerSe20's
                    split scans
* ctspine1k         data/SUBSET/NAME.nii.gz or volumes/..., label/ or labels/SUBSET/NAME_seg.nii.gz, data_split.txt;
                    patient = NAME
* ctpelvic1k        [datasetN_]NAME_data.nii.gz, [datasetN_]NAME_mask_4label.nii.gz; patient = NAME
* lidc-idri         LIDC-IDRI-NNNN/STUDY/SERIES/*.dcm, DICOM alone; patient = PatientID. Its chest radiographs (CR, DX) and
                    readers' marks (XML) are passed over. Recognised by nothing: where it is not stated, its CTs are found as
                    other DICOM is
* plain             any NIfTI, NRRD or MetaImage; NAME_seg, _mask, _label... beside NAME is its label map; patient = the file
DICOM (a PACS export) is found in all of them: one scan per CT series, patient = PatientID.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diff2ct.image_file import suffix_of
from diff2ct.metaimage import files_of
from diff2ct.volume import CtVolume
from diff2ct.volume_io import VOLUME_SUFFIXES, read_ct
from diff2ct_training.labels import CTPELVIC1K, CTSPINE1K, NUMBERS, TOTALSEGMENTATOR, VERSE, LabelFile
from diff2ct_training.scans_dicom import DicomSeries, find_series
from diff2ct_training.splits import SPLITS

PLAIN, LIDC, DICOM, AUTO = "plain", "lidc-idri", "dicom", "auto"


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One CT. path: what `read_ct` takes, with `series_uid` and `files` for DICOM.

    source: the path below the folder that was searched.

    name: for files made from it. files: all that it is made of. official_split: where the data set itself puts it.
    contrast_agent: what DICOM says of it; None if nobody says anything.
    """

    path: Path
    source: str
    name: str
    patient: str
    dataset: str
    files: tuple[Path, ...]
    series_uid: str | None = None
    labels: tuple[LabelFile, ...] = ()
    official_split: str | None = None
    contrast_agent: str | None = None

    def read(self) -> CtVolume:
        """As `read_ct`. Of a DICOM series no other files than its own are opened, however many lie beside them."""
        return read_ct(self.path, series_uid=self.series_uid, files=self.files if self.series_uid else None)


@dataclass(frozen=True)
class Rejected:
    """Something that is not prepared, and why in one sentence."""

    source: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """Patterns are of paths below the searched folder, with "/". image and label: those with the same group "key" belong
    together; group "patient" of image, else key, is the patient. sign: the layout is recognised by a path like this.
    patient_id: of its DICOM series, None for any. passed_over: modalities that it holds besides CT."""

    name: str
    sign: re.Pattern[str]
    image: re.Pattern[str]
    label: re.Pattern[str]
    scheme: str = ""
    patient_id: re.Pattern[str] | None = None
    passed_over: tuple[str, ...] = ()


_NONE = re.compile(r"(?!)")
_VOLUME = r"\.(nii|nii\.gz|nrrd|mha|mhd)$"
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            TOTALSEGMENTATOR,
            re.compile(r"(^|/)s\d{4,5}/segmentations/[^/]+\.nii\.gz$"),
            re.compile(r"(^|/)(?P<key>s\d{4,5})/ct\.nii\.gz$"),
            re.compile(r"(^|/)(?P<key>s\d{4,5})/segmentations/(?P<structure>[^/]+)\.nii\.gz$"),
        ),
        Layout(
            VERSE,
            re.compile(r"(^|/)rawdata/sub-[^/]+/[^/]+_ct\.nii\.gz$"),
            re.compile(r"(^|/)rawdata/(?P<patient>sub-[^/]+)/(?P<key>[^/]+)_ct\.nii\.gz$"),
            re.compile(r"(^|/)derivatives/sub-[^/]+/(?P<key>[^/]+)_seg-vert_msk\.nii\.gz$"),
            VERSE,
        ),
        Layout(
            CTPELVIC1K,
            re.compile(r"_mask_4label\.nii\.gz$|(^|/)dataset\d_[^/]+_data\.nii\.gz$"),
            re.compile(r"(^|/)(dataset\d_)?(?P<key>[^/]+)_data\.nii\.gz$"),
            re.compile(r"(^|/)(dataset\d_)?(?P<key>[^/]+)_mask_4label\.nii\.gz$"),
            CTPELVIC1K,
        ),
        Layout(
            CTSPINE1K,
            re.compile(r"(^|/)data_split\.txt$|(^|/)labels?/[^/]+/[^/]+_seg\.nii\.gz$"),
            re.compile(r"(^|/)(data|volumes)/(?!.*_seg\.nii\.gz$)[^/]+/(?P<key>[^/]+)\.nii\.gz$"),
            re.compile(r"(^|/)(?P<key>[^/]+)_seg\.nii\.gz$"),
            CTSPINE1K,
        ),
        Layout(LIDC, _NONE, _NONE, _NONE, patient_id=re.compile(r"LIDC-IDRI-\d{4}"), passed_over=("CR", "DX")),
        Layout(
            PLAIN,
            re.compile(_VOLUME),
            re.compile(r"^(?P<key>.+)" + _VOLUME),
            re.compile(r"^(?P<key>.+?)[-_.](seg|mask|msk|label|labels|vertebrae)" + _VOLUME, re.IGNORECASE),
        ),
    )
}
"""In the order in which they are tried; `plain` takes what no other does."""


def find_scans(
    root: Path, *, layout: str = AUTO, patient_pattern: str | None = None, label_scheme: str | None = None
) -> tuple[list[Scan], list[Rejected]]:
    """All CTs below a folder (or one file) and all that looked like an image and is not taken, each sorted by path.

    layout: a name in `LAYOUTS`, or auto. patient_pattern: regular expression with one group, searched in `source`; what the
    group holds is the patient. label_scheme: of the numbers in the label maps of a plain layout.
    """
    if layout != AUTO and layout not in LAYOUTS:
        raise ValueError(f"--layout: got {layout!r}, accepted are {AUTO}, {', '.join(LAYOUTS)}")
    if not root.exists():
        raise ValueError(f"{root}: no such file or folder")
    files, unfollowed = _below_folder(root) if root.is_dir() else ([root], [])
    base = root if root.is_dir() else root.parent
    paths = {file.relative_to(base).as_posix(): file for file in files}
    chosen = LAYOUTS[layout] if layout != AUTO else recognised(list(paths))
    images = {path: file for path, file in paths.items() if suffix_of(file) in VOLUME_SUFFIXES}
    volumes = {path: file for path, file in images.items() if file.is_file()}
    scans, rejected = _volume_scans(chosen, volumes, _official_splits(chosen.name, paths), label_scheme)
    rejected += [Rejected(path, "a link to a file that is not there") for path in images if path not in volumes]
    rejected += [Rejected(_below(link, base), "a link to a folder, which is not followed") for link in unfollowed]
    known = {*images.values(), *(file for scan in scans for file in scan.files)}
    series, damaged = find_series([file for file in files if file not in known])
    series = [one for one in series if one.modality not in chosen.passed_over]
    reasons = {one.uid: one.not_a_volume or _not_of(chosen, one) for one in series}
    scans += [_dicom_scan(one, base) for one in series if not reasons[one.uid]]
    rejected += [Rejected(_below(one.folder, base), reasons[one.uid]) for one in series if reasons[one.uid]]
    rejected += [Rejected(_below(file, base), reason) for file, reason in damaged]
    if patient_pattern is not None:
        scans, unknown = _with_patients(scans, patient_pattern)
        rejected += unknown
    return sorted(scans, key=lambda scan: scan.source), sorted(rejected, key=lambda one: one.source)


def find_cts(
    root: Path, *, layout: str = AUTO, patient_pattern: str | None = None, label_scheme: str | None = None
) -> tuple[list[Scan], list[Rejected]]:
    """`find_scans`, which must find one. ValueError if not."""
    scans, rejected = find_scans(root, layout=layout, patient_pattern=patient_pattern, label_scheme=label_scheme)
    if not scans:
        reasons = "; ".join(f"{one.source}: {one.reason}" for one in rejected[:3])
        raise ValueError(f"--cts: no CT in {root}{f' ({reasons})' if reasons else ''}")
    return scans, rejected


def recognised(paths: Sequence[str]) -> Layout:
    """The layout of these paths."""
    return next((one for one in LAYOUTS.values() if any(one.sign.search(path) for path in paths)), LAYOUTS[PLAIN])


def check_names(scans: Sequence[Scan]) -> None:
    """ValueError if two scans would be prepared under one name."""
    named = Counter(scan.name for scan in scans)
    for name, count in named.items():
        if count > 1:
            sources = ", ".join(str(scan.path) for scan in scans if scan.name == name)
            raise ValueError(f"--cts: {count} scans are called {name} ({sources}); prepare them into different folders")


def _below_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files, also links to such as are not there; links to folders), sorted, but what is hidden or in a hidden folder."""
    found = sorted(p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    links = [p for p in found if p.is_symlink() and p.is_dir()]
    return [p for p in found if p.is_file() or (p.is_symlink() and not p.exists())], links


def _volume_scans(
    layout: Layout, volumes: dict[str, Path], official: dict[str, str], label_scheme: str | None
) -> tuple[list[Scan], list[Rejected]]:
    labels: dict[str, list[LabelFile]] = {}
    images: dict[str, re.Match[str]] = {}
    rejected = []
    keys = {match["key"] for path in volumes if (match := layout.image.search(path))}
    label_paths = {}
    for path, file in volumes.items():
        label = layout.label.search(path)
        if label and (layout.name != PLAIN or label["key"] in keys):
            label_paths[path] = label["key"]
            if (known := _label_file(layout, file, label, label_scheme)) is not None:
                labels.setdefault(label["key"], []).append(known)
            elif layout.name == PLAIN:
                rejected.append(Rejected(path, "a label map; --label-scheme tells what its numbers mean"))
        elif image := layout.image.search(path):
            images[path] = image
        else:
            rejected.append(Rejected(path, f"neither a CT nor a label map of the layout {layout.name}"))
    taken = {match["key"] for match in images.values()}
    rejected += [Rejected(path, "a label map whose CT is not there") for path, key in label_paths.items() if key not in taken]
    scans = []
    for path, match in images.items():
        key, file = match["key"], volumes[path]
        patient = match.groupdict().get("patient") or key
        scans.append(
            Scan(
                path=file,
                source=path,
                name=slug(key),
                patient=patient,
                dataset=layout.name,
                files=files_of(file),
                labels=tuple(labels.get(key, ())),
                official_split=official.get(patient, official.get(file.name, _verse_split(path))),
            )
        )
    return scans, rejected


def _label_file(layout: Layout, file: Path, match: re.Match[str], label_scheme: str | None) -> LabelFile | None:
    """None for a structure that has no number here: TotalSegmentator's organs; and for numbers nobody explained."""
    if layout.name == TOTALSEGMENTATOR:
        structure = match["structure"].removeprefix("vertebrae_")
        return LabelFile(file, structure=structure) if structure in NUMBERS else None
    scheme = layout.scheme or label_scheme
    return LabelFile(file, scheme=scheme) if scheme else None


def _official_splits(layout: str, paths: dict[str, Path]) -> dict[str, str]:
    """Patient or file name -> split, from the data set's own list."""
    if layout == CTSPINE1K:
        return _ctspine1k_split(next((file for path, file in paths.items() if path.endswith("data_split.txt")), None))
    if layout == TOTALSEGMENTATOR:
        return _totalsegmentator_split(next((file for path, file in paths.items() if Path(path).name == "meta.csv"), None))
    return {}


def _ctspine1k_split(file: Path | None) -> dict[str, str]:
    """data_split.txt: file names below the headings trainset:, test_public:, test_private:, which are 610, 197 and 198."""
    headings = {"trainset:": "train", "test_public:": "val", "test_private:": "test"}
    split, found = None, {}
    for line in file.read_text(encoding="utf-8").splitlines() if file else ():
        split = headings.get(line.strip(), split)
        if split and line.strip() and line.strip() not in headings:
            found[line.strip()] = split
    return found


def _totalsegmentator_split(file: Path | None) -> dict[str, str]:
    """meta.csv: columns image_id and split (train, val, test), separated by semicolons."""
    if file is None:
        return {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    return {row["image_id"]: row["split"] for row in rows if row.get("split") in SPLITS and row.get("image_id")}


def _verse_split(path: str) -> str | None:
    """dataset-01training, dataset-02validation, dataset-03test."""
    match = re.search(r"(?:^|/)dataset-[^/]*(training|validation|test)/", path)
    return {"training": "train", "validation": "val", "test": "test"}[match[1]] if match else None


def _not_of(layout: Layout, series: DicomSeries) -> str:
    """Why a series is none of the layout's; empty if it is."""
    if layout.patient_id is None or layout.patient_id.fullmatch(series.patient):
        return ""
    accepted = f"accepted in the layout {layout.name} is {layout.patient_id.pattern}"
    return f"series {series.uid}: patient {series.patient or 'missing'}, {accepted}"


def _dicom_scan(series: DicomSeries, base: Path) -> Scan:
    short = series.uid.rpartition(".")[2][-8:]
    return Scan(
        path=series.folder,
        source=f"{_below(series.folder, base)}#{series.uid}",
        name=slug(f"{series.patient or series.folder.name}_{short}"),
        patient=series.patient or series.uid,
        dataset=DICOM if _not_of(LAYOUTS[LIDC], series) else LIDC,
        files=series.files,
        series_uid=series.uid,
        contrast_agent=series.contrast_agent,
    )


def _with_patients(scans: list[Scan], pattern: str) -> tuple[list[Scan], list[Rejected]]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--patient-pattern: {pattern!r} is no regular expression ({error})") from None
    if compiled.groups != 1:
        raise ValueError(f"--patient-pattern: {pattern!r} has {compiled.groups} groups, accepted is one, around the patient")
    matches = [(scan, compiled.search(scan.source)) for scan in scans]
    unknown = [
        Rejected(scan.source, f"--patient-pattern {pattern} finds no patient in this path") for scan, m in matches if not m
    ]
    return [replace(scan, patient=match[1]) for scan, match in matches if match], unknown


def _below(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) and path != base else path.name


def slug(text: str) -> str:
    """`text` with letters of any script, digits, ".", "-" and "_" only, so that it can be part of a file name."""
    return re.sub(r"[^\w.-]+", "_", text)
