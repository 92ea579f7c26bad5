"""CT series among DICOM files, by their headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

from diff2ct.dicom_file import read_header
from diff2ct.image_file import is_dicom
from diff2ct.volume_dicom import cut_off

_TAGS = [
    "PatientID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "NumberOfFrames",
    "SeriesDescription",
    "ContrastBolusAgent",
]
MIN_SLICES = 2


@dataclass(frozen=True, kw_only=True)
class DicomSeries:
    """files: in order of their paths; folder: the deepest one that holds them all. contrast_agent: "" if the tag is empty, None
    if it is absent. damaged: names of files that cannot be read and are of this series, or lie beside it and do not tell."""

    uid: str
    patient: str
    modality: str
    description: str
    folder: Path
    files: tuple[Path, ...]
    localizer: bool
    multi_frame: bool
    contrast_agent: str | None
    damaged: tuple[str, ...] = ()

    @property
    def is_volume(self) -> bool:
        return not self.not_a_volume

    @property
    def not_a_volume(self) -> str:
        """Why this is no CT volume; empty if it may be one."""
        named = f"series {self.uid} ({self.description or 'no description'}, {len(self.files)} images)"
        if self.modality != "CT":
            return f"{named}: modality {self.modality or 'missing'}, accepted is CT"
        if self.localizer:
            return f"{named}: a localizer"
        if self.multi_frame:
            return f"{named}: an enhanced multi-frame CT, accepted are classic files with one slice each"
        if len(self.files) < MIN_SLICES:
            return f"{named}: {len(self.files)} slice, accepted is a volume of at least {MIN_SLICES}"
        if self.damaged:
            return f"{named}: slices may be missing, {', '.join(self.damaged[:3])} cannot be read"
        return ""


def find_series(files: Sequence[Path]) -> tuple[list[DicomSeries], list[tuple[Path, str]]]:
    """(series, damaged DICOM files with the reason) among any files; what is not DICOM is passed over."""
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    damaged: list[tuple[Path, str]] = []
    of_series: dict[Path, str] = {}  # damaged file -> its series, as far as it tells
    for file in files:
        try:
            if not is_dicom(file):
                continue
            header = read_header(file, _TAGS)
        except ValueError as error:
            damaged.append((file, str(error)))
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        if cut_off(header):
            damaged.append((file, f"{file.name}: damaged DICOM file (it ends inside its header)"))
            of_series[file] = uid
        elif "Rows" in header:
            found.setdefault(uid, []).append((file, header))
    series = []
    for uid, members in found.items():
        folders = {file.parent for file, _ in members}
        lost = [file.name for file, _ in damaged if (of_series[file] == uid if of_series.get(file) else file.parent in folders)]
        series.append(replace(_series(uid, members), damaged=tuple(lost)))
    return series, damaged


def _series(uid: str, members: Sequence[tuple[Path, pydicom.Dataset]]) -> DicomSeries:
    files = tuple(sorted(file for file, _ in members))
    header = members[0][1]
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    agent = header.get("ContrastBolusAgent")
    return DicomSeries(
        uid=uid,
        patient=str(header.get("PatientID", "")),
        modality=str(header.get("Modality", "")),
        description=str(header.get("SeriesDescription", "")),
        folder=folder,
        files=files,
        localizer=all("LOCALIZER" in (one.get("ImageType") or []) for _, one in members),
        multi_frame=any(int(one.get("NumberOfFrames") or 1) > 1 for _, one in members),
        contrast_agent=None if agent is None else str(agent),
    )
