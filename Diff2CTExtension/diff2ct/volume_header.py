"""What the header of a NIfTI, NRRD or MetaImage file says about where its voxels are: ITK fills in 1 mm and LPS for what is
missing, so it is looked for in the file itself."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from diff2ct.image_file import suffix_of
from diff2ct.metaimage import meta_header
from diff2ct.nifti import nifti_header
from diff2ct.text_header import text_header

_NRRD_SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las")
"""The patient's, among those of the NRRD format's definition; "scanner-xyz" and others do not tell left from right."""
_META_SPACINGS = ("elementspacing", "elementsize")
_META_ORIENTATIONS = ("transformmatrix", "rotation", "orientation")


def check_known_grid(path: Path, *, is_label_map: bool = False) -> None:
    """ValueError where ITK fills in a spacing or an orientation that the file does not state; a warning of a MetaImage without
    orientation, which then is LPS by its definition. Other formats are not looked at.

    is_label_map: a matrix of 1 mm steps needs no unit then, as programs that save an array with its matrix write none.
    """
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        _check_nifti(path, is_label_map)
    elif suffix == ".nrrd":
        _check_nrrd(path)
    elif suffix in (".mha", ".mhd"):
        _check_meta(path)


def _check_nifti(path: Path, is_label_map: bool) -> None:
    header = nifti_header(path)
    spacing = header["pixdim"][1:4]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"{path.name}: the voxel spacing is missing, pixdim is {spacing}")
    if max(header["codes"]) == 0:
        raise ValueError(f"{path.name}: qform and sform code are 0, so it does not tell where the patient's left is")
    needs_unit = not (is_label_map and header["codes"][1] > 0)
    if needs_unit and header["units"][0] & 7 == 0 and all(abs(s - 1) < 1e-5 for s in spacing):
        raise ValueError(f"{path.name}: the voxel spacing is missing, it is 1 without a unit")


def _check_nrrd(path: Path) -> None:
    fields, _ = text_header(path, ":", "")
    if "space directions" not in fields and "spacings" not in fields:
        raise ValueError(f"{path.name}: the voxel spacing is missing, it has no space directions")
    if fields.get("space", "").lower() not in _NRRD_SPACES or "space directions" not in fields:
        got = f"its space is {fields['space']!r}" if "space" in fields else "it has no space"
        raise ValueError(f"{path.name}: {got}, so it does not tell where the patient's left is; accepted is RAS, LPS or LAS")


def _check_meta(path: Path) -> None:
    fields, _ = meta_header(path)
    if not any(name in fields for name in _META_SPACINGS):
        raise ValueError(f"{path.name}: the voxel spacing is missing, it has no ElementSpacing")
    if not any(name in fields for name in _META_ORIENTATIONS):
        warnings.warn(f"{path.name}: it has no TransformMatrix, its axes are taken for left, posterior, superior", stacklevel=3)
