"""CT volumes in and out of files, and from one grid to another.

Inside is patient LPS, as in SimpleITK and DICOM; ITK turns NIfTI's RAS into LPS and back. HU below -1024, which scanners write
outside their field of view, become -1024.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct.atomic import replacing_file
from diff2ct.image_file import read_image, suffix_of, write_image
from diff2ct.units import HU_AIR
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_header import check_known_grid

HU_PADDING = -1024.0
VOLUME_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
"""Of volumes that are read, beside folders of DICOM slices."""
WRITTEN_SUFFIXES = (".nrrd", ".nii.gz", ".mha")
"""Of files that are written; all keep any number as it is."""

_HIGHEST_HU = 32767.0
_INT16 = np.iinfo(np.int16)


def read_ct(path: str | Path, *, series_uid: str | None = None, files: Sequence[Path] | None = None) -> CtVolume:
    """A CT in HU on its own grid, from a folder with a DICOM series (or one file of it), NRRD, NIfTI or MetaImage.

    series_uid: which series, where a folder holds several. files: its files, where they are known: no others are opened.
    Raises ValueError naming the file if it is not a CT volume in HU of known spacing and orientation; warns of what is unusual.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_dir() or suffix_of(path) not in VOLUME_SUFFIXES:
        # pydicom is imported only where it is needed.
        from diff2ct.volume_dicom import read_dicom_series

        image = read_dicom_series(path, series_uid, files)
    elif series_uid is not None:
        raise ValueError(f"series_uid: got {series_uid!r} for {path.name}, accepted only for DICOM")
    else:
        image = read_image(path)
    name = path.name or str(path)
    grid = _grid_of(name, image)
    check_known_grid(path)
    return CtVolume(_checked_hu(name, sitk.GetArrayFromImage(image)), grid)


def read_volume(path: str | Path) -> tuple[CtVolume, dict[str, str]]:
    """(volume, attributes) of a .nrrd or .mha from `write_volume`. Unlike `read_ct` this does not doubt that the values are HU:
    a standard deviation is none, and what an untrained model makes does not look like any."""
    path = Path(path)
    image = read_image(path)
    attributes = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if not key.startswith("ITK_")}
    return CtVolume(sitk.GetArrayFromImage(image).astype(np.float32), _grid_of(path.name, image)), attributes


def write_volume(
    ct: CtVolume,
    path: str | Path,
    *,
    attributes: Mapping[str, str] | None = None,
    overwrite: bool = False,
    compress: bool = True,
) -> None:
    """Writes .nrrd, .nii.gz or .mha, or a derived DICOM series into a folder (a path that ends in "/" or has no suffix).

    attributes: words about the volume: key/value fields of .nrrd and .mha, a file `<file>.json` beside .nii.gz, in DICOM the
        derivation description and a private element.
    compress: False writes ten times faster; DICOM is never compressed and .nii.gz always.
    The file appears whole or not at all. An existing one is replaced only with `overwrite`.
    """
    attributes = {str(key): str(value) for key, value in (attributes or {}).items()}
    as_folder = str(path).endswith(("/", "\\"))
    path = Path(path)
    suffix = suffix_of(path)
    if as_folder or suffix == "":
        from diff2ct.volume_dicom import write_dicom_series

        write_dicom_series(ct, path, attributes=attributes, overwrite=overwrite)
        return
    if suffix not in WRITTEN_SUFFIXES:
        accepted = ", ".join(WRITTEN_SUFFIXES)
        raise ValueError(f"{path.name}: {suffix!r} cannot be written, accepted are {accepted} and a DICOM folder")
    image = to_sitk(ct)
    beside = suffix == ".nii.gz" and bool(attributes)
    for key, value in ({} if beside else attributes).items():
        image.SetMetaData(key, value.replace("\n", " "))
    with ExitStack() as stack:
        if beside:
            side = stack.enter_context(replacing_file(path.with_name(path.name + ".json"), overwrite=overwrite))
            side.write_text(json.dumps(attributes, indent=1), encoding="utf-8")
        write_image(image, path, overwrite=overwrite, compress=compress)


def to_sitk(ct: CtVolume) -> sitk.Image:
    """The same volume as SimpleITK image: 16-bit integers if nothing is lost by that, else float32."""
    whole = bool(np.all(ct.hu == np.rint(ct.hu))) and ct.hu.min() >= _INT16.min and ct.hu.max() <= _INT16.max
    image = sitk.GetImageFromArray(ct.hu.astype(np.int16) if whole else ct.hu)
    image.SetSpacing(ct.grid.spacing_mm)
    image.SetOrigin(ct.grid.origin_lps)
    image.SetDirection([value for row in ct.grid.direction for value in row])
    return image


def resample(ct: CtVolume, grid: VolumeGrid, fill_hu: float = HU_AIR) -> CtVolume:
    """The CT on another grid of any orientation, linearly interpolated; `fill_hu` where the scan does not reach.

    Along every axis that becomes coarser a Gaussian first takes away what the new grid cannot hold, so nothing aliases.
    """
    image = sitk.Cast(to_sitk(ct), sitk.sitkFloat32)
    variances = [sigma**2 for sigma in antialiasing_sigmas(ct.grid, grid)]
    if max(variances) > 0:
        image = sitk.DiscreteGaussian(_cropped(image, grid, variances), variances, 64, 0.001, False)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(float(fill_hu))
    resampler.SetSize(grid.size[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_lps)
    resampler.SetOutputDirection([value for row in grid.direction for value in row])
    return CtVolume(sitk.GetArrayFromImage(resampler.Execute(image)), grid)


def antialiasing_sigmas(source: VolumeGrid, target: VolumeGrid) -> tuple[float, float, float]:
    """Standard deviation of the Gaussian along each source axis (i, j, k), in source voxels; 0 where the target is not coarser.

    A voxel of f source voxels gets the width that turns a kernel of FWHM 1 into one of FWHM f: FWHM^2 = f^2 - 1.
    """
    steps = np.array(source.direction).T @ (np.array(target.direction) * np.array(target.spacing_mm))
    factors = np.linalg.norm(steps, axis=1) / np.array(source.spacing_mm)
    fwhm_per_sigma = 2 * math.sqrt(2 * math.log(2))
    i, j, k = (math.sqrt(max(0.0, f * f - 1)) / fwhm_per_sigma if f > 1.001 else 0.0 for f in factors)
    return i, j, k


def inside_grid(ct: CtVolume, grid: VolumeGrid) -> np.ndarray:
    """(D, H, W) bool: voxels of `grid` whose centre lies in a voxel of the scan."""
    matrix = ct.grid.lps_to_ijk @ grid.ijk_to_lps
    k, j, i = np.ogrid[: grid.size[0], : grid.size[1], : grid.size[2]]
    inside = np.ones(grid.size, bool)
    for row, count in zip(matrix[:3], ct.grid.size[::-1], strict=True):
        index = row[0] * i + row[1] * j + row[2] * k + row[3]
        inside &= (index >= -0.5 - 1e-6) & (index <= count - 0.5 + 1e-6)
    return inside


def _cropped(image: sitk.Image, grid: VolumeGrid, variances: list[float]) -> sitk.Image:
    """Only the part of `image` that the grid and its filter can reach, so that a large scan costs no more than needed."""
    corners = [(i, j, k, 1.0) for i in (0, grid.size[2] - 1) for j in (0, grid.size[1] - 1) for k in (0, grid.size[0] - 1)]
    points = (grid.ijk_to_lps @ np.array(corners).T)[:3].T
    indices = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
    margin = 4 * np.sqrt(variances) + 2
    last = np.array(image.GetSize()) - 1
    low = np.clip(np.floor(indices.min(0) - margin), 0, last).astype(int)
    high = np.clip(np.ceil(indices.max(0) + margin), 0, last).astype(int)
    return sitk.RegionOfInterest(image, [int(n) for n in high - low + 1], [int(n) for n in low])


def _grid_of(name: str, image: sitk.Image) -> VolumeGrid:
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{name}: {image.GetNumberOfComponentsPerPixel()} values per voxel, accepted is one HU value")
    size = image.GetSize()
    if len(size) != 3 or min(size) < 2:
        shown = " x ".join(map(str, size))
        raise ValueError(f"{name}: size {shown}, accepted is a volume of at least 2 voxels along three axes")
    spacing = image.GetSpacing()
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"{name}: the voxel spacing is {spacing}, accepted are three lengths above 0 mm")
    direction = np.array(image.GetDirection()).reshape(3, 3)
    try:
        return VolumeGrid(size[::-1], spacing, image.GetOrigin(), tuple(map(tuple, direction.tolist())))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _checked_hu(name: str, values: np.ndarray) -> np.ndarray:
    """(D, H, W) HU, padding raised to -1024; ValueError if the values cannot be HU."""
    if values.dtype.kind not in "uif":
        raise ValueError(f"{name}: voxels of type {values.dtype}, accepted are real numbers")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} voxels are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"{name}: the volume is constant, every voxel has the value {low:g}")
    if low >= 0:
        raise ValueError(
            f"{name}: no value below 0 (from {low:g} to {high:g}), so this is not a CT in HU: a label map, normalised data, "
            "or HU + 1024 whose rescale intercept was not applied"
        )
    if high - low < 100:
        raise ValueError(f"{name}: values from {low:g} to {high:g} are too close together for a CT in HU: normalised data?")
    if high > _HIGHEST_HU:
        raise ValueError(f"{name}: values up to {high:g} are not HU")
    if low > -500:
        warnings.warn(f"{name}: the lowest value is {low:g} HU, there is no air in it; is it a CT in HU?", stacklevel=3)
    return np.maximum(values, HU_PADDING).astype(np.float32)
