"""Do reconstructions lie where the patient is? How far each is displaced from the truth, along each axis.

    .venv/bin/python Testing/Benchmarks/displacement.py [--phantoms 910 911 ...] [--cts CT.nii.gz ...]

The shift at which the truth, in HU clipped to the window `BODY`, differs least from the reconstruction: the lowest point of the
parabola through the mean squared differences at -1, 0 and 1 voxel. A reconstruction of the mirrored X-rays, mirrored back,
tells what is the network's own: across the body that changes sides, an error of geometry does not. Single samples, without data
consistency. Prints Markdown. Some 15 s per case on one CPU core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import load_checkpoint
from diff2ct.metrics import BODY
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case

AXES = ("toward the head", "toward the back", "toward the left")
"""Of (D, H, W), in words."""
_MARGIN = 8  # voxels at each face that are not compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=list(range(910, 924)))
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    tune_allocator()
    checkpoint, setup = load_checkpoint(), BiplanarSetup()
    found: dict[str, list[np.ndarray]] = {}
    for make, whom in ((phantom_case, options.phantoms), (ct_case, options.cts)):
        for one in whom:
            case = make(one, checkpoint.grid, setup)
            pairs = {"as it is": case.radiographs, "mirrored, and back": [mirrored(r) for r in case.radiographs]}
            for way, pair in pairs.items():
                hu = reconstruct(pair, checkpoint, consistency=False).volume.hu
                hu = hu if way == "as it is" else hu[:, :, ::-1]
                apart = displacement_mm(hu, case.truth.hu, case.mask, case.grid.spacing_mm)
                found.setdefault(f"{case.dataset}, {way}", []).append(apart)
                print(f"{case.name} {way}: {' '.join(f'{mm:+.2f}' for mm in apart)} mm", flush=True)
    print(f"\n| | cases | {' | '.join(f'{axis}, mm' for axis in AXES)} |\n|{'---|' * (2 + len(AXES))}")
    for name, each in found.items():
        print(f"| {name} | {len(each)} | {' | '.join(in_words([case[axis] for case in each]) for axis in range(3))} |")


def mirrored(radiograph: Radiograph) -> Radiograph:
    """The same picture as one of the patient's mirror image about the sagittal plane through the isocentre."""
    beam = radiograph.geometry
    return replace(radiograph, geometry=replace(beam, primary_angle_deg=-beam.primary_angle_deg, mirrored=not beam.mirrored))


def displacement_mm(hu: np.ndarray, truth: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """(3,) along (k, j, i): how far `hu` lies beyond the truth. mask: where the truth is known. spacing_mm: (i, j, k)."""
    ours, true = (BODY.to_unit(torch.from_numpy(np.ascontiguousarray(a))).double().numpy() for a in (hu, truth))
    inner = (slice(_MARGIN, -_MARGIN),) * 3
    apart = []
    for axis in range(3):
        squares = []
        for by in (-1, 0, 1):
            there, known = (np.roll(a, by, axis) for a in (true, mask))
            squares.append(float(np.square(ours - there)[inner][known[inner]].mean()))
        below, here, above = squares
        apart.append((below - above) / (2 * (below - 2 * here + above)) * spacing_mm[2 - axis])
    return np.array(apart)


def in_words(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):+.2f} +/- {error:.2f}"


if __name__ == "__main__":
    main()
