"""CT series among DICOM files, by their headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

from diff2ct.dicom_file import read_header
from diff2ct.image_file import is_dicom, suffix_of
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
_SUFFIXES = (".dcm", ".dicom", ".ima")
_NAME = re.compile(r"[A-Z_-]*[\d_-]*\d|[\d.]+", re.IGNORECASE)
"""Of slices without suffix: IM0001, 00000012, IM-0001-0007, a UID."""
_WITHOUT_PREAMBLE = re.compile(rb"[\x02\x08]\x00[\x00-\x18]\x00([A-Z]{2}|..\x00\x00)", re.DOTALL)
"""The first element of group 2 or 8, of explicit VR or with a length."""


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
    """(series, damaged DICOM files with the reason) among any files; what neither is nor was DICOM is passed over."""
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    damaged: list[tuple[Path, str]] = []
    of_series: dict[Path, str] = {}  # damaged file -> its series, as far as it tells
    for file in files:
        try:
            if not is_dicom(file):
                damaged += [(file, f"{file.name}: {reason}") for reason in _lost(file)]
                continue
            header = read_header(file, _TAGS)
        except OSError as error:
            if suffix_of(file) in _SUFFIXES or _NAME.fullmatch(file.name):
                damaged.append((file, f"{file.name}: {error.strerror}"))
            continue
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


def _lost(file: Path) -> list[str]:
    """Why a file that does not say that it is DICOM is one that cannot be read; none if it is something else."""
    suffix = suffix_of(file)
    if suffix not in _SUFFIXES and not _NAME.fullmatch(file.name):
        return []
    with file.open("rb") as stream:
        start = stream.read(8)
    if not start:
        return ["the file is empty"]
    if _WITHOUT_PREAMBLE.match(start):
        return ["DICOM without the 128 bytes and DICM in front, accepted is with them"]
    return ["not a DICOM file"] if suffix in _SUFFIXES else []


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
