"""X-rays of two styles, small enough to train on in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diff2ct.geometry import Beam, ParallelBeam, View
from diff2ct_training.acquisitions import acquisition_path
from diff2ct_training.xray_file import write_xrays

Xray = tuple[np.ndarray, Beam]


def xray(view: View, seed: int = 0, pixels: int = 24) -> Xray:
    """A slope that grows to the right, with a disc and some noise."""
    rng = np.random.default_rng(seed)
    beam = ParallelBeam.from_view(view, detector_spacing_mm=(2.0, 2.0), detector_size=(pixels, pixels))
    rows, columns = np.indices((pixels, pixels)) / pixels - 0.5
    row, column = rng.uniform(-0.2, 0.2, 2)
    disc = 1 / (1 + np.exp(40 * (np.hypot(rows - row, columns - column) - 0.2)))
    image = 2 * columns + disc + rng.normal(0, 0.02, (pixels, pixels))
    return image.astype(np.float32), beam


def store(folder: Path, name: str, of: Xray, valid: np.ndarray | None = None) -> Path:
    """As X-rays prepared for training."""
    folder.mkdir(exist_ok=True)
    image, beam = of
    path = acquisition_path(folder, name, 0)
    write_xrays(path, [image], [np.ones(image.shape, bool) if valid is None else valid], [beam])
    return path


def store_styles(folder: Path, count: int = 4) -> tuple[Path, Path]:
    """(DRRs, films): the films have more contrast in the dark. No film belongs to a DRR."""
    for n in range(count):
        view = (View.AP, View.LL)[n % 2]
        store(folder / "drrs", f"drr{n}", xray(view, n))
        image, beam = xray(view, 100 + n)
        store(folder / "films", f"film{n}", (np.log(image - image.min() + 0.1), beam))
    return folder / "drrs", folder / "films"
