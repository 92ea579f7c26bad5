"""A prepared training case whose truth is simple: an elliptic trunk of water with a bone rod on the patient's left."""

from __future__ import annotations

import numpy as np

from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.cases import Case

GRID = VolumeGrid.centered(32, 8.0)
CALM = AcquisitionConfig(
    isocenter_sd_mm=(0, 0, 0), angle_sd_deg=0, pose_error_deg=0, pose_error_mm=0, cube_only=0, ideal_detector=1,
    detector_pixels=64,
)  # fmt: skip


def case(kind: str = "phantom", size: tuple[int, int, int] = (80, 60, 70), spacing: float = 4.0) -> Case:
    """Water from end to end, air around, a bone rod on the left."""
    _, j, i = np.indices(size)
    x, y = (i - (size[2] - 1) / 2) * spacing, (j - (size[1] - 1) / 2) * spacing
    hu = np.where((x / 120) ** 2 + (y / 90) ** 2 < 1, 0, -1000)
    hu[np.hypot(x - 60, y) < 12] = 800
    grid = VolumeGrid.centered(size, spacing)
    return Case("rod", kind, hu.astype(np.int16), grid, (0.0, 0.0, 0.0), "made here")
