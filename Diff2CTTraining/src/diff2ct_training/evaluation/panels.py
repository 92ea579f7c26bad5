"""The three planes of a volume that figures show, small enough to be kept for every result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diff2ct.radiograph import Radiograph
from diff2ct_training.figures import PLANES, Shown, plane

XRAY_PIXELS = 256


def planes_of(hu: np.ndarray, at: Shown) -> dict[str, np.ndarray]:
    """plane_axial, plane_coronal, plane_sagittal: int16 HU (rows, columns), turned for display."""
    return {f"plane_{name}": np.rint(plane(hu, name, at)).astype(np.int16) for name in PLANES}


def xrays_of(radiographs: Sequence[Radiograph]) -> dict[str, np.ndarray]:
    """xray_0, xray_1: (rows, columns) uint8, bone bright."""
    images = {}
    for n, radiograph in enumerate(radiographs):
        step = max(1, round(max(radiograph.line_integral.shape) / XRAY_PIXELS))
        image, valid = radiograph.line_integral[::step, ::step], radiograph.valid[::step, ::step]
        low, high = np.percentile(image[valid], (1.0, 99.7))
        images[f"xray_{n}"] = (255 * ((image - low) / max(high - low, 1e-6)).clip(0, 1)).astype(np.uint8)
    return images
