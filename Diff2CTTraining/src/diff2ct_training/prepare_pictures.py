"""A small picture of each prepared CT, to see at a glance whether it is upright, whole, and freed of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct.image_file import write_image
from diff2ct_training.cases import Case, describe_case, read_case

FOLDER = "pictures"
WINDOW_HU = (-1000.0, 800.0)
_GAP = 4


def write_pictures(folder: Path) -> None:
    """pictures/NAME.png of every CT in `folder` that has none, or an older one than the case; not of bent copies."""
    (folder / FOLDER).mkdir(exist_ok=True)
    for json_file in sorted(folder.glob("ct_*.json")):
        picture = picture_of(json_file)
        if picture.exists() and picture.stat().st_mtime_ns > json_file.stat().st_mtime_ns:
            continue
        if not describe_case(json_file).get("record", {}).get("variant"):
            write_image(sitk.GetImageFromArray(planes_through_center(read_case(json_file))), picture, overwrite=True)


def picture_of(json_file: Path) -> Path:
    return json_file.parent / FOLDER / f"{json_file.stem}.png"


def planes_through_center(case: Case) -> np.ndarray:
    """(H, W) uint8: axial, coronal and sagittal plane through the isocentre side by side, the patient's right on the left of
    the picture, front at the top of the axial and on the left of the sagittal one."""
    position = np.rint((np.array(case.center_lps) - case.grid.origin_lps) / case.grid.spacing_mm).astype(int)
    i, j, k = np.clip(position, 0, np.array(case.grid.size[::-1]) - 1)
    planes = [case.hu[k], case.hu[::-1, j], case.hu[::-1, :, i]]
    height = max(plane.shape[0] for plane in planes)
    tiles = [np.pad(plane, ((0, height - plane.shape[0]), (0, _GAP)), constant_values=int(WINDOW_HU[0])) for plane in planes]
    low, high = WINDOW_HU
    return ((np.hstack(tiles).astype(np.float32) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
