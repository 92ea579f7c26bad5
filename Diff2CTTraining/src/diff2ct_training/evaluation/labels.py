"""Label maps from files: which voxel belongs to which vertebra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct.image_file import read_image
from diff2ct.volume import VolumeGrid
from diff2ct.volume_io import VOLUME_SUFFIXES


def find_labels(folder: Path, name: str) -> Path | None:
    """The label map of a case in `folder`: NAME or NAME_vertebrae with a volume's suffix; None if there is none."""
    names = [f"{name}{tail}{suffix}" for tail in ("", "_vertebrae") for suffix in VOLUME_SUFFIXES]
    return next((folder / n for n in names if (folder / n).is_file()), None)


def read_labels(path: Path, grid: VolumeGrid) -> np.ndarray:
    """(D, H, W) int32 on `grid`, nearest voxel, 0 outside the map. Raises ValueError naming the file if it holds no labels."""
    image = read_image(path)
    values = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1 or values.min() < 0 or not np.array_equal(values, np.rint(values)):
        raise ValueError(f"{path}: is no label map; accepted are whole numbers from 0, one per vertebra")
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetSize(grid.size[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_lps)
    resampler.SetOutputDirection([value for row in grid.direction for value in row])
    return sitk.GetArrayFromImage(resampler.Execute(sitk.Cast(image, sitk.sitkInt32)))
