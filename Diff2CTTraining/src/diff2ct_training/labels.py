"""Label maps of public spine data sets, brought to one numbering: TotalSegmentator's (task "total"), as in `phantom.LABELS`.

Numbers from 201 are for what TotalSegmentator does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct.image_file import read_image
from diff2ct.volume import VolumeGrid
from diff2ct.volume_header import check_known_grid

_CERVICAL, _THORACIC, _LUMBAR = ([f"{part}{n + 1}" for n in range(count)] for part, count in (("C", 7), ("T", 12), ("L", 5)))

NUMBERS: Mapping[str, int] = {
    "sacrum": 25,
    "S1": 26,
    **{name: 27 + n for n, name in enumerate([*_LUMBAR[::-1], *_THORACIC[::-1], *_CERVICAL[::-1]])},
    "L6": 201,
    "T13": 202,
    "hip": 203,
    "lumbar": 204,
    "coccyx": 205,
}
"""Structure -> number. "lumbar" is all lumbar vertebrae in one, "hip" either side: what CTPelvic1K has."""

TOTALSEGMENTATOR, VERSE, CTSPINE1K, CTPELVIC1K = "totalsegmentator", "verse", "ctspine1k", "ctpelvic1k"
_IN_ORDER = {n + 1: name for n, name in enumerate([*_CERVICAL, *_THORACIC, *_LUMBAR, "L6"])}
SCHEMES: Mapping[str, Mapping[int, str]] = {
    TOTALSEGMENTATOR: {number: name for name, number in NUMBERS.items() if number < 200},
    VERSE: {**_IN_ORDER, 26: "sacrum", 27: "coccyx", 28: "T13"},
    CTSPINE1K: _IN_ORDER,
    CTPELVIC1K: {1: "sacrum", 2: "hip", 3: "hip", 4: "lumbar"},
}
"""Scheme -> number in its files -> structure; other numbers are not kept."""


@dataclass(frozen=True)
class LabelFile:
    """A label map. scheme: of the numbers in it; or structure: a name in `NUMBERS` of which it is the mask."""

    path: Path
    scheme: str = ""
    structure: str = ""

    def __post_init__(self) -> None:
        if bool(self.scheme) == bool(self.structure):
            raise ValueError(f"label map: got {self.scheme!r} and {self.structure!r}, accepted is a scheme or a structure")
        if self.scheme and self.scheme not in SCHEMES:
            raise ValueError(f"--label-scheme: got {self.scheme!r}, accepted are {', '.join(SCHEMES)}")


def read_label_files(files: tuple[LabelFile, ...], grid: VolumeGrid) -> np.ndarray:
    """All label maps of a scan on `grid`, nearest neighbour: (D, H, W) uint8, numbers as in `NUMBERS`, 0 elsewhere.

    Raises ValueError naming the file if one cannot be read or its numbers are not whole.
    """
    labels = np.zeros(grid.size, dtype=np.uint8)
    for file in files:
        found = _resampled(file.path, grid)
        if file.structure:
            labels[found > 0] = NUMBERS[file.structure]
            continue
        for number, name in SCHEMES[file.scheme].items():
            labels[found == number] = NUMBERS[name]
    return labels


def structures_in(labels: np.ndarray) -> list[str]:
    """Names of the structures in a label map, foot to head."""
    there = set(np.unique(labels).tolist())
    return [name for name, number in NUMBERS.items() if number in there]


def center_of(labels: np.ndarray, grid: VolumeGrid, structure: str) -> tuple[float, float, float]:
    """LPS centroid [mm] of a structure. ValueError says what there is if it is not there."""
    voxels = np.argwhere(labels == NUMBERS[structure])
    if not len(voxels):
        there = ", ".join(structures_in(labels)) or "no structure that has a name here"
        raise ValueError(f"no {structure} in its labels, which have {there}")
    x, y, z, _ = grid.ijk_to_lps @ [*voxels.mean(axis=0)[::-1], 1.0]
    return float(x), float(y), float(z)


def _resampled(path: Path, grid: VolumeGrid) -> np.ndarray:
    """(D, H, W) whole numbers of the label map at the voxel centres of `grid`."""
    image = read_image(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path.name}: {image.GetDimension()} dimensions, accepted is a label map with one number per voxel")
    check_known_grid(path, is_label_map=True)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetSize(grid.size[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_lps)
    resampler.SetOutputDirection([value for row in grid.direction for value in row])
    values = sitk.GetArrayFromImage(resampler.Execute(image))
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise ValueError(f"{path.name}: numbers such as {values[values != np.rint(values)][0]:g}, accepted are whole labels")
    return values
