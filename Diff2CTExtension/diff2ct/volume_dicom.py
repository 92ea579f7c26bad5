"""A CT as a folder of DICOM slices: read with checks that keep the geometry true, written as a derived, synthetic series."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from diff2ct.atomic import replacing_folder
from diff2ct.dicom_file import (
    NOT_FOR_DIAGNOSIS,
    decimal_string,
    numbers,
    read_header,
    save,
    set_pixels,
    set_private_text,
    synthetic_dataset,
)
from diff2ct.file_name import check_name
from diff2ct.image_file import check_file, is_dicom, quiet_itk
from diff2ct.volume import CtVolume

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_HEADER_TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "InstanceNumber",
]
_INTERCEPT = -1024


@dataclass(frozen=True)
class _Slice:
    """Where one slice lies. columns, rows: unit LPS vectors along increasing column and row; spacing_mm: (row, column)."""

    path: Path
    position: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    spacing_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.columns, self.rows)


def read_dicom_series(path: Path, series_uid: str | None = None, files: Sequence[Path] | None = None) -> sitk.Image:
    """One CT series as SimpleITK image in HU (float32), slices sorted along their normal. files: those below `path` that are
    looked at; None for all."""
    headers, wanted = _headers(path, series_uid, files)
    uid = _choose_series(path, headers, wanted)
    files = [file for file, header in headers.items() if header.get("SeriesInstanceUID") == uid]
    slices = [_slice(file, headers[file]) for file in files if "LOCALIZER" not in (headers[file].get("ImageType") or [])]
    if slices:
        normal = slices[0].normal
        slices.sort(key=lambda s: float(s.position @ normal))
    step_mm = _slice_step(path.name, slices)
    return _stack(path.name, slices, step_mm)


def write_dicom_series(ct: CtVolume, folder: Path, *, attributes: Mapping[str, str], overwrite: bool) -> None:
    """One file per slice along k, rounded to whole HU in -1024 .. 64511, marked as computed and not for diagnosis."""
    words = "; ".join(f"{key}={value}" for key, value in attributes.items())
    template = synthetic_dataset(
        _CT_IMAGE_STORAGE,
        patient_name="DIFF2CT^SYNTHETIC",
        series_description="Synthetic CT (Diff2CT) - not for diagnosis",
        derivation=f"Volume computed by Diff2CT, not a measured CT. {NOT_FOR_DIAGNOSIS}. {words}",
    )
    grid = ct.grid
    direction = np.array(grid.direction)
    template.Modality, template.ImageType = "CT", ["DERIVED", "SECONDARY", "AXIAL"]
    template.FrameOfReferenceUID, template.PositionReferenceIndicator = generate_uid(), ""
    template.ImageOrientationPatient = [decimal_string(v) for v in [*direction[:, 0], *direction[:, 1]]]
    template.PixelSpacing = [decimal_string(grid.spacing_mm[1]), decimal_string(grid.spacing_mm[0])]
    template.SliceThickness = template.SpacingBetweenSlices = decimal_string(grid.spacing_mm[2])
    template.RescaleSlope, template.RescaleIntercept, template.RescaleType = 1, _INTERCEPT, "HU"
    template.KVP, template.AcquisitionNumber = "", ""
    template.WindowCenter, template.WindowWidth = 300, 1500
    set_private_text(template, json.dumps(dict(attributes)))
    stored = np.clip(np.rint(ct.hu) - _INTERCEPT, 0, 65535).astype(np.uint16)
    with replacing_folder(folder, overwrite=overwrite, may_hold="*.dcm") as temporary:
        for k, slice_pixels in enumerate(stored):
            template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID = generate_uid()
            template.InstanceNumber = k + 1
            template.ImagePositionPatient = [decimal_string(v) for v in grid.ijk_to_lps[:3] @ (0, 0, k, 1)]
            set_pixels(template, slice_pixels)
            save(template, temporary / f"{k + 1:04d}.dcm")


def cut_off(header: Dataset) -> bool:
    """Whether this is the header of a CT slice whose file ends inside it, which pydicom reads in silence."""
    return "Rows" not in header and header.file_meta.get("MediaStorageSOPClassUID") == _CT_IMAGE_STORAGE


def _headers(path: Path, series_uid: str | None, files: Sequence[Path] | None) -> tuple[dict[Path, Dataset], str | None]:
    """(headers of all DICOM images, wanted series): of a folder with all below it, or of the folder around a single file."""
    if path.is_dir():
        if files is None:
            files = sorted(file for file in path.rglob("*") if file.is_file())
        headers = {file: header for file in files if (header := _header_or_none(file)) is not None}
        if not headers:
            raise ValueError(f"{path}: the folder holds no DICOM images")
        return headers, series_uid
    check_file(path)
    own = read_header(path, _HEADER_TAGS)
    if series_uid not in (None, own.get("SeriesInstanceUID")):
        raise ValueError(f"{path.name}: belongs to series {own.get('SeriesInstanceUID')}, not {series_uid}")
    others = {file: _header_or_none(file) for file in sorted(path.parent.iterdir()) if file.is_file() and file != path}
    return {path: own, **{file: header for file, header in others.items() if header is not None}}, own.get("SeriesInstanceUID")


def _header_or_none(file: Path) -> Dataset | None:
    if not is_dicom(file):
        return None
    header = read_header(file, _HEADER_TAGS)
    if cut_off(header):
        raise ValueError(f"{file.name}: damaged DICOM file (it ends inside its header)")
    return header if "Rows" in header else None


def _choose_series(path: Path, headers: Mapping[Path, Dataset], wanted: str | None) -> str:
    """The one CT series, or the wanted one; ValueError lists the others."""
    modality = {header.get("SeriesInstanceUID"): header.get("Modality") for header in headers.values()}
    listing = ", ".join(_described(uid, headers) for uid in modality)
    if wanted is not None and wanted not in modality:
        raise ValueError(f"series_uid: got {wanted!r}, {path.name} holds {listing}")
    candidates = [uid for uid in modality if modality[uid] == "CT" and wanted in (None, uid)]
    if not candidates:
        raise ValueError(f"{path.name}: no CT series; it holds {listing}")
    if len(candidates) > 1:
        examples = ", ".join(f"{_first_file(uid, headers)} for {_described(uid, headers)}" for uid in candidates)
        raise ValueError(f"{path.name}: holds {len(candidates)} CT series; pass one file of the wanted one: {examples}")
    return str(candidates[0])


def _described(uid: str | None, headers: Mapping[Path, Dataset]) -> str:
    members = [header for header in headers.values() if header.get("SeriesInstanceUID") == uid]
    description = members[0].get("SeriesDescription", "no description")
    return f"{uid} ({members[0].get('Modality')}, {description}, {len(members)} images)"


def _first_file(uid: str | None, headers: Mapping[Path, Dataset]) -> Path:
    return next(file for file, header in headers.items() if header.get("SeriesInstanceUID") == uid)


def _slice(file: Path, header: Dataset) -> _Slice:
    check_name(file)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(f"{file.name}: an enhanced multi-frame CT, accepted are classic files with one slice each")
    position = _required(file, header, "ImagePositionPatient", 3)
    axes = _required(file, header, "ImageOrientationPatient", 6)
    row_mm, column_mm = _required(file, header, "PixelSpacing", 2)
    if min(row_mm, column_mm) <= 0:
        raise ValueError(f"{file.name}: PixelSpacing is {row_mm}, {column_mm}, accepted are two lengths above 0 mm")
    size = (int(header.Rows), int(header.Columns))
    return _Slice(file, np.array(position), np.array(axes[:3]), np.array(axes[3:]), (row_mm, column_mm), size)


def _required(file: Path, header: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    values = numbers(header, keyword, count)
    if values is None:
        raise ValueError(f"{file.name}: {keyword} is missing or not {count} numbers")
    return values


def _slice_step(name: str, slices: list[_Slice]) -> float:
    """Distance between slices [mm]; ValueError if they do not form an upright, evenly spaced stack."""
    if len(slices) < 2:
        raise ValueError(f"{name}: {len(slices)} slice, accepted is a volume of at least 2 slices")
    first = slices[0]
    for other in slices[1:]:
        same_plane = np.allclose([other.columns, other.rows], [first.columns, first.rows], atol=1e-3)
        if not same_plane or other.size != first.size or not np.allclose(other.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise ValueError(f"{name}: {first.path.name} and {other.path.name} differ in orientation, size or pixel spacing")
    along = np.array([s.position @ first.normal for s in slices])
    gaps = np.diff(along)
    step = float((along[-1] - along[0]) / (len(slices) - 1))
    if gaps.min() < 0.01 * step or step <= 0:
        raise ValueError(f"{name}: several slices lie at the same position, as in a series with more than one phase")
    off_grid = np.abs(along - along[0] - step * np.arange(len(slices))).max()
    if off_grid > 0.1 * step:
        k = int(np.argmax(gaps))
        raise ValueError(
            f"{name}: slices are missing or unevenly spaced: {np.median(gaps):.3f} mm apart, but {gaps[k]:.3f} mm between "
            f"{slices[k].path.name} and {slices[k + 1].path.name}"
        )
    if off_grid > 0.01 * step:
        warnings.warn(f"{name}: slices lie up to {off_grid:.3f} mm off an even spacing of {step:.3f} mm", stacklevel=4)
    across = slices[-1].position - first.position
    drift = float(np.linalg.norm(across - (across @ first.normal) * first.normal))
    if drift > 1.0:
        tilt = np.degrees(np.arctan2(drift, along[-1] - along[0]))
        raise ValueError(f"{name}: the gantry was tilted by {tilt:.1f} degrees; resample the series to an upright grid first")
    return step


def _stack(name: str, slices: list[_Slice], step_mm: float) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.path) for s in slices])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{name}: a slice cannot be read (damaged or truncated)") from error
    first = slices[0]
    image.SetSpacing((first.spacing_mm[1], first.spacing_mm[0], step_mm))
    image.SetOrigin(first.position.tolist())
    image.SetDirection(np.stack([first.columns, first.rows, first.normal], axis=1).ravel().tolist())
    return image
