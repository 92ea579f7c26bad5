"""What it costs if the lateral X-ray lies too high or its pixel size is wrong, and what landmarks in both X-rays give back.

    .venv/bin/python Testing/Benchmarks/misplaced.py [--phantoms 903 904] [--cts CT.nii.gz ...]

The lateral X-ray is said to lie `HIGH_MM` higher than it does, or to have pixels `LARGE` times as large. The pair is
reconstructed so, and after three landmarks were marked in both X-rays, each click off by `CLICK_MM` (SD) in the patient. Prints
the means as Markdown. About a minute per case on two CPU cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diff2ct.checkpoint import load_checkpoint
from diff2ct.landmarks import with_landmarks
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case
from judging import mean_of, scores_of

HIGH_MM, LARGE, CLICK_MM = 15.0, 1.1, 1.0
LANDMARKS = np.array([[0.0, 40.0, 60.0], [20.0, 60.0, 0.0], [-20.0, 30.0, -60.0]])
"""From the isocentre, LPS [mm]: about the spine."""
FIGURES = ("ssim_3d_body", "bone_dice", "mae_hu_bone", "mae_hu_body", "ncc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[903, 904])
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    tune_allocator()
    checkpoint, setup, rng = load_checkpoint(), BiplanarSetup(), np.random.default_rng(0)
    scores: dict[str, dict[str, list[dict[str, float]]]] = {}
    for make, whom in ((phantom_case, options.phantoms), (ct_case, options.cts)):
        for one in whom:
            case = make(one, checkpoint.grid, setup)
            clicks = clicked(case.radiographs, rng)
            for way, pair in ways(*case.radiographs, clicks).items():
                found = scores_of(reconstruct(pair, checkpoint, num_samples=4).volume, case, pair)
                scores.setdefault(case.dataset, {}).setdefault(way, []).append(found)
                print(f"{case.name} {way}: SSIM {found['ssim_3d_body']:.3f}, bone Dice {found['bone_dice']:.3f}", flush=True)
    for kind, of_ways in scores.items():
        print(f"\n{kind}:\n\n| lateral X-ray | cases | " + " | ".join(FIGURES) + " |\n" + "|---" * (2 + len(FIGURES)) + "|")
        for way, found_of in of_ways.items():
            means = (mean_of([found[name] for found in found_of]) for name in FIGURES)
            print(f"| {way} | {len(found_of)} | " + " | ".join(means) + " |")


def clicked(radiographs: Sequence[Radiograph], rng: np.random.Generator) -> list[np.ndarray]:
    """(row, column) of the landmarks in each X-ray as somebody marks them, (3, 2) each."""
    beams, size = [radiograph.geometry for radiograph in radiographs], (len(LANDMARKS), 2)
    off = [rng.normal(0, CLICK_MM, size) / beam.patient_spacing_mm for beam in beams]
    return [beam.project_points(LANDMARKS + beam.isocenter_lps) + pixels for beam, pixels in zip(beams, off, strict=True)]


def ways(ap: Radiograph, lateral: Radiograph, clicks: Sequence[np.ndarray]) -> dict[str, tuple[Radiograph, Radiograph]]:
    """By name: the pair as it was taken, with each mistake, and with each after it was matched."""
    beam = lateral.geometry
    row, column = beam.principal_point
    high = replace(beam, principal_point=(row + HIGH_MM / beam.patient_spacing_mm[0], column))
    large = replace(beam, detector_spacing_mm=tuple(LARGE * mm for mm in beam.detector_spacing_mm))
    unknown = ("principal_point", "detector_spacing_mm")
    found = {"as it was taken": (ap, lateral)}
    for name, wrong in ((f"{HIGH_MM:g} mm too high", high), (f"{LARGE:g} times as large", large)):
        told = replace(lateral, geometry=wrong, assumed=unknown)
        found[name] = ap, told
        found[f"{name}, matched"] = with_landmarks(ap, told, *clicks)[:2]
    return found


if __name__ == "__main__":
    main()
