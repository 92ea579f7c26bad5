"""Which voxel belongs to which vertebra, on the grid of a reconstruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diff2ct.volume import VolumeGrid
from diff2ct.volume_io import VOLUME_SUFFIXES
from diff2ct_training.labels import NUMBERS, TOTALSEGMENTATOR, LabelFile, read_label_files

LABEL_NAMES = "accepted are files called CASE or CASE_vertebrae, such as CASE.nii.gz"
_NO_VERTEBRAE = ("sacrum", "hip", "lumbar", "coccyx")


def find_labels(folder: Path, name: str) -> Path | None:
    """The label map of a case in `folder`: NAME or NAME_vertebrae with a volume's suffix; None if there is none."""
    names = [f"{name}{tail}{suffix}" for tail in ("", "_vertebrae") for suffix in VOLUME_SUFFIXES]
    return next((folder / n for n in names if (folder / n).is_file()), None)


def read_vertebrae(path: Path, grid: VolumeGrid, scheme: str = TOTALSEGMENTATOR) -> np.ndarray:
    """(D, H, W) uint8 on `grid`: the vertebrae of a label map, numbers as in `labels.NUMBERS`, 0 elsewhere."""
    return vertebrae_of(read_label_files((LabelFile(path, scheme),), grid))


def vertebrae_of(labels: np.ndarray) -> np.ndarray:
    """A label map without what is no single vertebra."""
    return np.where(np.isin(labels, [NUMBERS[name] for name in _NO_VERTEBRAE]), 0, labels).astype(np.uint8)


def labels_on_grid(labels: np.ndarray, grid: VolumeGrid, wanted: VolumeGrid) -> np.ndarray:
    """Labels (D, H, W) of one axis-aligned grid at the voxel centres of another, nearest neighbour, 0 outside."""
    taken = np.zeros(wanted.size, labels.dtype)
    source, into = [], []
    for axis in range(3):  # x, y, z, i.e. the array's last to first
        positions = wanted.origin_lps[axis] + np.arange(wanted.size[2 - axis]) * wanted.spacing_mm[axis]
        index = np.rint((positions - grid.origin_lps[axis]) / grid.spacing_mm[axis]).astype(int)
        there = (index >= 0) & (index < labels.shape[2 - axis])
        source.append(index[there])
        into.append(np.flatnonzero(there))
    taken[np.ix_(*into[::-1])] = labels[np.ix_(*source[::-1])]
    return taken
