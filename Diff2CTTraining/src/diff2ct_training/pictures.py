"""Pictures of a training run, to see how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WINDOW_HU = (-250.0, 850.0)
"""Bone and soft tissue at once."""


def write_picture(path: Path, sheet: np.ndarray, loggers: Sequence[Any], step: int) -> None:
    """Write (H, W) in [0, 1] as a PNG where matplotlib is installed, and tell TensorBoard."""
    for logger in loggers:
        if hasattr(logger.experiment, "add_image"):
            logger.experiment.add_image("sample", sheet[None], step)
    try:
        from matplotlib.image import imsave
    except ModuleNotFoundError:  # a GPU machine that has no more than torch, numpy, lightning and safetensors
        return
    imsave(path, sheet, cmap="gray", vmin=0, vmax=1)


def mid_planes(hu: np.ndarray) -> np.ndarray:
    """(D, H, W) -> mid-axial, mid-coronal and mid-sagittal side by side in [0, 1], head up, equal heights."""
    low, high = WINDOW_HU
    depth, height, width = hu.shape
    planes = [hu[depth // 2], hu[::-1, height // 2], hu[::-1, :, width // 2]]
    tallest = max(p.shape[0] for p in planes)
    planes = [np.pad(p, ((0, tallest - p.shape[0]), (0, 0)), constant_values=low) for p in planes]
    return ((np.concatenate(planes, axis=1) - low) / (high - low)).clip(0, 1)
